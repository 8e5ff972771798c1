package poll_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

var checkingAddresses = poll.Config{Interval: 2 * second, CheckAddresses: "on"}

// requestFrom returns an anonymous request from an address.
func requestFrom(address string, header ...string) *http.Request {
	r := newRequest("/doc", header...)
	r.RemoteAddr = address + ":1234"
	return r
}

// addresses returns the addresses of the requests to the backend.
func (b *backend) addresses() (got []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.requests {
		got = append(got, strings.TrimSuffix(strings.TrimSuffix(r.RemoteAddr, ":1234"), ":0"))
	}
	return got
}

// countOf returns how many requests the backend had from an address.
func (b *backend) countOf(address string) (n int) {
	for _, a := range b.addresses() {
		if a == address {
			n++
		}
	}
	return n
}

// ban makes the backend refuse an address.
func (b *backend) ban(address string) {
	b.setFunc(func(r *http.Request) (*subrequest.Response, error) {
		if strings.HasPrefix(r.RemoteAddr, address) {
			return status(http.StatusForbidden), nil
		}
		return document("1"), nil
	})
}

func TestBannedAddressIsRefused(t *testing.T) {
	within(t, checkingAddresses, func(e *env) {
		e.ban("192.0.2.1")
		for range 2 { // the first viewer of the document, and a later one
			if v := e.subscribe(requestFrom("192.0.2.1")); v.refused == nil || v.refused.Status != http.StatusForbidden {
				t.Errorf("%+v, %v", v.refused, v.err)
			}
			e.subscribe(requestFrom("192.0.2.2")).want(t, "1")
		}
	})
}

// A stream costs the backend one request for each address, in a minute.
func TestAddressIsCheckedOnceAMinute(t *testing.T) {
	within(t, checkingAddresses, func(e *env) {
		for range 3 {
			e.start(requestFrom("192.0.2.1"), new(caller), "") // at the same time
		}
		advance(0)
		for range 3 {
			e.subscribe(requestFrom("192.0.2.1"))
		}
		e.subscribe(requestFrom("192.0.2.2"))
		if one, two := e.countOf("192.0.2.1"), e.countOf("192.0.2.2"); one != 1 || two != 1 {
			t.Errorf("%d and %d checks of the two addresses", one, two)
		}
		advance(time.Minute)
		e.ban("192.0.2.1")
		if v := e.subscribe(requestFrom("192.0.2.1")); v.refused == nil {
			t.Error("the address is still admitted")
		}
	})
}

// The refusal of one request says nothing about another.
func TestRefusalOfAddressIsNotKept(t *testing.T) {
	within(t, checkingAddresses, func(e *env) {
		e.ban("192.0.2.1")
		if v := e.subscribe(requestFrom("192.0.2.1")); v.refused == nil {
			t.Fatal("the address is admitted")
		}
		e.set(document("1"))
		e.subscribe(requestFrom("192.0.2.1")).want(t, "1")
	})
}

// A check is the viewer's own request: what differs in it isn't checked yet.
func TestAddressCheckCountsForEqualRequestsOnly(t *testing.T) {
	for name, other := range map[string]*http.Request{
		"a document":   func() *http.Request { r := requestFrom("192.0.2.1"); r.URL.Path = "/other"; return r }(),
		"a query":      func() *http.Request { r := requestFrom("192.0.2.1"); r.URL.RawQuery = "x=1"; return r }(),
		"a header":     requestFrom("192.0.2.1", "X-Api-Key", "k"),
		"a browser":    requestFrom("192.0.2.1", "User-Agent", "bot"),
		"a language":   requestFrom("192.0.2.1", "Accept-Language", "de"),
		"a proxy":      requestFrom("192.0.2.1", "X-Forwarded-For", "203.0.113.9"),
		"another port": requestFrom("192.0.2.1"),
	} {
		t.Run(name, func(t *testing.T) {
			within(t, checkingAddresses, func(e *env) {
				e.subscribe(requestFrom("192.0.2.1"))
				e.subscribe(other)
				want := 2
				if name == "another port" {
					want = 1
				}
				if n := e.countOf("192.0.2.1"); n != want {
					t.Errorf("%d checks", n)
				}
			})
		})
	}
}

func TestViewerWithCredentialsNeedsNoAddressCheck(t *testing.T) {
	within(t, checkingAddresses, func(e *env) {
		e.subscribe(requestFrom("192.0.2.1", "Cookie", "a=1")).want(t, "1")
		if n := e.polls(); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

// While the backend fails, a check decides nothing: the viewer waits.
func TestFailedAddressCheckAdmitsNobody(t *testing.T) {
	for name, failure := range map[string]func() (*subrequest.Response, error){
		"a status": func() (*subrequest.Response, error) { return status(503), nil },
		"an error": func() (*subrequest.Response, error) { return nil, errors.New("broken") },
	} {
		t.Run(name, func(t *testing.T) {
			within(t, checkingAddresses, func(e *env) {
				admitted := e.subscribe(requestFrom("192.0.2.2"))
				e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
					if strings.HasPrefix(r.RemoteAddr, "192.0.2.1:") {
						return failure()
					}
					return document("1"), nil
				})
				v := e.subscribe(requestFrom("192.0.2.1"))
				v.want(t, "stale")
				e.ban("192.0.2.1")
				advance(10 * time.Second)
				v.want(t, "stale")
				if !v.ended {
					t.Error("the viewer is not sent to ask again")
				}
				admitted.want(t, "1")
			})
		})
	}
}

func TestAbortedConnectionIsTheCallers(t *testing.T) {
	within(t, checkingAddresses, func(e *env) {
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if strings.HasPrefix(r.RemoteAddr, "192.0.2.1:") {
				return nil, subrequest.ErrConnectionAborted
			}
			return document("1"), nil
		})
		for _, header := range [][]string{nil, {"Cookie", "a=1"}} {
			if v := e.subscribe(requestFrom("192.0.2.1", header...)); !errors.Is(v.err, subrequest.ErrConnectionAborted) {
				t.Errorf("%v: %v, %v", header, v.refused, v.err)
			}
		}
	})
}

// Of the check, only the status matters.
func TestDocumentThatIsTooLargeForTheCheckIsAdmitted(t *testing.T) {
	within(t, checkingAddresses, func(e *env) {
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if strings.HasPrefix(r.RemoteAddr, "192.0.2.1:") {
				return status(200), fmt.Errorf("%w: more than 9 bytes", subrequest.ErrTooLarge)
			}
			return document("1"), nil
		})
		e.subscribe(requestFrom("192.0.2.1")).want(t, "1")
	})
}

// The backend decides about addresses that were not checked.
func TestAbsorbAnswersCheckedAddressesOnly(t *testing.T) {
	c := absorbing
	c.CheckAddresses = "on"
	within(t, c, func(e *env) {
		e.set(asJSON("1"))
		e.subscribe(requestFrom("192.0.2.2"))
		for address, want := range map[string]bool{"192.0.2.1": false, "192.0.2.2": true} {
			r := httptest.NewRequest(http.MethodGet, "/doc", nil)
			r.RemoteAddr = address + ":99"
			if got := e.Absorb(httptest.NewRecorder(), r, &caller{backend: e.backend}); got != want {
				t.Errorf("%s: %t", address, got)
			}
		}
	})
}

// A stranger with many addresses makes the records grow no further than a bound.
func TestRecordsOfAddressChecksAreBounded(t *testing.T) {
	within(t, checkingAddresses, func(e *env) {
		e.FillAddressChecks()
		v := e.subscribe(requestFrom("192.0.2.1"))
		v.want(t, "1")
		e.subscribe(requestFrom("192.0.2.1"))
		if n := e.countOf("192.0.2.1"); n != 2 {
			t.Errorf("%d checks", n)
		}
		advance(time.Minute)
		e.subscribe(requestFrom("192.0.2.1"))
		e.subscribe(requestFrom("192.0.2.1"))
		if n := e.countOf("192.0.2.1"); n != 3 {
			t.Errorf("%d checks after the old records are gone", n)
		}
	})
}
