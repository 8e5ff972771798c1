package poll_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

var absorbing = poll.Config{Interval: 10 * second, Timeout: 3 * second, Absorb: true}

const spaced = `{ "stock": 5, "rest": 0.10 }`

// asJSON returns a JSON response.
func asJSON(body string, header ...string) *subrequest.Response {
	return document(body, append([]string{"Content-Type", "application/json; charset=utf-8"}, header...)...)
}

// get makes an ordinary request. It returns nil if the backend has to answer.
func (e *env) get(method string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/doc", nil)
	for pair := range slices.Chunk(header, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	w := httptest.NewRecorder()
	if !e.Absorb(w, r, &caller{backend: e.backend}) {
		if w.Body.Len() > 0 || len(w.Header()) > 0 {
			e.t.Errorf("what was left to the backend got %v %q", w.Header(), w.Body)
		}
		return nil
	}
	return w
}

func (e *env) wantAbsorbed(status int, body string, header ...string) *httptest.ResponseRecorder {
	e.t.Helper()
	w := e.get(http.MethodGet, header...)
	if w == nil {
		e.t.Fatalf("%q was left to the backend", header)
	}
	if w.Code != status || w.Body.String() != body {
		e.t.Errorf("%q: got %d %q, want %d %q", header, w.Code, w.Body, status, body)
	}
	return w
}

func (e *env) wantNotAbsorbed(header ...string) {
	e.t.Helper()
	if w := e.get(http.MethodGet, header...); w != nil {
		e.t.Errorf("%q was answered with %d %q", header, w.Code, w.Body)
	}
}

func TestAbsorbAnswersOrdinaryRequestFromLastPoll(t *testing.T) {
	c := absorbing
	c.Select = ".stock"
	within(t, c, func(e *env) {
		e.set(asJSON(spaced, "X-Own", "1", "Set-Cookie2", "x", "Age", "7", "Connection", "keep-alive"))
		e.wantNotAbsorbed()
		e.subscribe(newRequest("/doc")).want(t, "5")
		advance(3*time.Second + 500*ms)
		w := e.wantAbsorbed(http.StatusOK, spaced)
		for name, want := range map[string]string{
			"Content-Type": "application/json; charset=utf-8", "X-Own": "1", "Age": "10",
			"Cache-Status": "caddy-sse; hit", "Connection": "",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if e.polls() != 1 {
			t.Errorf("the backend got %d requests", e.polls())
		}
	})
}

func TestAbsorbAnswersHeadWithoutBody(t *testing.T) {
	within(t, absorbing, func(e *env) {
		e.set(asJSON(spaced))
		e.subscribe(newRequest("/doc"))
		w := e.get(http.MethodHead)
		if w == nil || w.Code != http.StatusOK || w.Body.Len() > 0 || w.Header().Get("Content-Length") != "28" {
			t.Fatalf("got %+v", w)
		}
		for _, method := range []string{http.MethodPost, http.MethodOptions, http.MethodDelete} {
			if e.get(method) != nil {
				t.Errorf("a %s was answered", method)
			}
		}
	})
}

func TestAbsorbedResponseIsNeverOlderThanInterval(t *testing.T) {
	c := absorbing
	c.Max = 100 * second // it is polled less often after a while
	within(t, c, func(e *env) {
		e.set(asJSON(spaced))
		e.subscribe(newRequest("/doc"))
		advance(10 * time.Second) // unchanged: the next pause is of 15 s
		for range 10 {
			advance(2500 * ms)
			e.mu.Lock()
			age := time.Since(e.began) - e.at[len(e.at)-1]
			e.mu.Unlock()
			if w := e.get(http.MethodGet); (w != nil) != (age <= 10*time.Second) {
				t.Errorf("the answer is %v old, absorbed: %v", age, w != nil)
			}
		}
	})
}

func TestInvalidationExpiresCachedResponse(t *testing.T) {
	for _, off := range []bool{false, true} {
		c := absorbing
		c.RefreshOff = off
		within(t, c, func(e *env) {
			e.set(asJSON("1"))
			e.subscribe(newRequest("/doc"))
			advance(time.Second)
			e.wantAbsorbed(http.StatusOK, "1")
			e.take(time.Second)
			e.set(asJSON("2"))
			e.Invalidate("example.com", "/doc")
			e.wantNotAbsorbed()
			advance(500 * ms) // the poll is under way
			e.wantNotAbsorbed()
			advance(10*time.Second + 600*ms)
			e.wantAbsorbed(http.StatusOK, "2")
			e.Invalidate("example.com", "/elsewhere")
			e.wantAbsorbed(http.StatusOK, "2")
		})
	}
}

func TestInvalidationExpiresResponseOfPollInFlight(t *testing.T) {
	c := absorbing
	c.RefreshOff = true
	within(t, c, func(e *env) {
		e.set(asJSON("1"))
		e.subscribe(newRequest("/doc"))
		e.take(2 * time.Second)
		advance(11 * time.Second)
		e.Invalidate("example.com", "/doc")
		advance(2 * time.Second) // the poll that began before is over
		e.wantNotAbsorbed()
	})
}

func TestAbsorbAnswersConditionalRequestWith304(t *testing.T) {
	within(t, absorbing, func(e *env) {
		const modified = "Sat, 01 Jan 2000 00:00:00 GMT"
		e.set(asJSON("1", "ETag", `"own"`, "Last-Modified", modified))
		e.subscribe(newRequest("/doc"))
		e.wantAbsorbed(http.StatusNotModified, "", "If-None-Match", `"own"`)
		e.wantAbsorbed(http.StatusNotModified, "", "If-None-Match", `"x", W/"own"`)
		e.wantAbsorbed(http.StatusOK, "1", "If-None-Match", `"other"`)
		e.wantAbsorbed(http.StatusNotModified, "", "If-Modified-Since", modified)
		e.wantAbsorbed(http.StatusOK, "1", "If-Modified-Since", "Fri, 31 Dec 1999 00:00:00 GMT")
	})
}

func TestAbsorbMakesETagFromBody(t *testing.T) {
	within(t, absorbing, func(e *env) {
		e.set(asJSON("1"))
		e.subscribe(newRequest("/doc"))
		tag := e.wantAbsorbed(http.StatusOK, "1").Header().Get("ETag")
		e.wantAbsorbed(http.StatusNotModified, "", "If-None-Match", tag)
		e.set(asJSON("2"))
		advance(10 * time.Second)
		if again := e.wantAbsorbed(http.StatusOK, "2", "If-None-Match", tag).Header().Get("ETag"); again == tag || tag == "" {
			t.Errorf("the tag was %s and is %s", tag, again)
		}
	})
}

func TestAbsorbServesRangesOfTheBackendsBytes(t *testing.T) {
	within(t, absorbing, func(e *env) {
		e.set(asJSON(spaced))
		e.subscribe(newRequest("/doc"))
		w := e.wantAbsorbed(http.StatusPartialContent, spaced[2:9], "Range", "bytes=2-8")
		if got := w.Header().Get("Content-Range"); got != "bytes 2-8/28" {
			t.Errorf("Content-Range: %s", got)
		}
	})
}

func TestNoCacheRequestReachesBackend(t *testing.T) {
	within(t, absorbing, func(e *env) {
		e.set(asJSON("1"))
		e.subscribe(newRequest("/doc"))
		e.wantNotAbsorbed("Cache-Control", "no-cache")
		e.wantNotAbsorbed("Cache-Control", "x, No-Store")
		e.wantNotAbsorbed("Cache-Control", "max-age=0")
		e.wantNotAbsorbed("Pragma", "no-cache")
		e.wantAbsorbed(http.StatusOK, "1", "Cache-Control", "max-age=60", "Pragma", "no-cache")
		e.wantAbsorbed(http.StatusOK, "1", "Cache-Control", "only-if-cached")
	})
}

func TestRequestThatPrefersAnotherTypeReachesBackend(t *testing.T) {
	const axios, navigation = "application/json, text/plain, */*", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
	for _, test := range []struct {
		vary, accept string
		absorbed     bool
	}{
		{"", axios, true},
		{"", "*/*", true},
		{"", "", true},
		{"", navigation, false},
		{"", "text/html", false},
		{"Accept", axios, true},
		{"Accept", "application/json", true},
		{"Accept", "*/*", false},
		{"Accept", navigation, false},
		{"X-Y, accept", "*/*", false},
		{"*", axios, false},
	} {
		within(t, absorbing, func(e *env) {
			answer := asJSON("1")
			if test.vary != "" {
				answer.Header.Set("Vary", test.vary)
			}
			e.set(answer)
			e.subscribe(newRequest("/doc"))
			var header []string
			if test.accept != "" {
				header = []string{"Accept", test.accept}
			}
			if got := e.get(http.MethodGet, header...) != nil; got != test.absorbed {
				t.Errorf("%+v: absorbed: %v", test, got)
			}
		})
	}
}

func TestRequestVaryingByUnsentHeaderReachesBackend(t *testing.T) {
	for _, test := range []struct {
		vary     string
		header   []string
		absorbed bool
	}{
		{"Referer", []string{"Referer", "x"}, false},
		{"Referer", nil, true},
		{"Sec-Fetch-Mode", []string{"Sec-Fetch-Mode", "cors"}, false},
		{"Accept-Encoding", []string{"Accept-Encoding", "gzip"}, true},
		{"X-Forwarded-For", nil, false},
		{"", []string{"Origin", "https://app.example.com"}, false},
		{"", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, false},
		{"", []string{"Sec-Fetch-Site", "same-site"}, false},
		{"", []string{"Sec-Fetch-Site", "same-origin"}, true},
		{"", []string{"Sec-Fetch-Site", "none"}, true},
	} {
		within(t, absorbing, func(e *env) {
			e.set(asJSON("1", "Vary", test.vary))
			e.subscribe(newRequest("/doc"))
			if got := e.get(http.MethodGet, test.header...) != nil; got != test.absorbed {
				t.Errorf("%+v: absorbed: %v", test, got)
			}
		})
	}
	within(t, absorbing, func(e *env) {
		e.set(asJSON("1", "Access-Control-Allow-Origin", "*"))
		e.subscribe(newRequest("/doc"))
		e.wantAbsorbed(http.StatusOK, "1", "Origin", "https://app.example.com", "Sec-Fetch-Site", "cross-site")
	})
	c := absorbing
	c.Vary = []string{"none"}
	within(t, c, func(e *env) {
		e.set(asJSON("1", "Vary", "Cookie"))
		e.subscribe(newRequest("/doc", "Cookie", "a"))
		e.wantAbsorbed(http.StatusOK, "1")
		e.wantNotAbsorbed("Cookie", "a")
	})
}

func TestResponseWithSetCookieIsNotCached(t *testing.T) {
	within(t, absorbing, func(e *env) {
		e.set(asJSON("1", "Set-Cookie", "session=1"))
		e.subscribe(newRequest("/doc"))
		e.wantNotAbsorbed()
	})
}

func TestAbsorbNeverServesAnotherViewersResponse(t *testing.T) {
	within(t, absorbing, func(e *env) {
		e.set(asJSON("1"))
		e.subscribe(as("alice"))
		e.wantAbsorbed(http.StatusOK, "1", "Cookie", "alice")
		e.wantNotAbsorbed("Cookie", "bob")
		e.wantNotAbsorbed()
		e.wantNotAbsorbed("Cookie", "alice", "Authorization", "x")
		e.wantNotAbsorbed("Cookie", "alice", "X-Tenant", "x")
	})
}

func TestOnlyViewersOfSharedViewGetItsCachedResponse(t *testing.T) {
	c := absorbing
	c.Share = "checked"
	within(t, c, func(e *env) {
		c := newCookieBackend(e)
		c.setDocument(asJSON("1"))
		alice := e.subscribe(as("alice"))
		bob := e.subscribe(as("bob"))
		e.wantAbsorbed(http.StatusOK, "1", "Cookie", "alice")
		e.wantAbsorbed(http.StatusOK, "1", "Cookie", "bob")
		e.wantNotAbsorbed("Cookie", "eve")
		c.respond(status(http.StatusForbidden), "alice")
		advance(20 * time.Second)
		if !alice.isRevoked() {
			t.Fatal("alice still has a stream")
		}
		e.wantNotAbsorbed("Cookie", "alice")
		bob.leave()
		e.wantNotAbsorbed("Cookie", "bob")
	})
	c.Share = "unchecked"
	within(t, c, func(e *env) {
		newCookieBackend(e).setDocument(asJSON("1"))
		e.subscribe(as("alice"))
		e.wantAbsorbed(http.StatusOK, "1", "Cookie", "eve")
	})
}

func TestRequestsReachBackendWhileItFails(t *testing.T) {
	for _, fail := range []func(e *env){
		func(e *env) { e.set(status(http.StatusServiceUnavailable)) },
		func(e *env) { e.setError(errRefused) },
		func(e *env) { e.set(asJSON("not JSON any more, which select can't read")) },
	} {
		c := absorbing
		c.Select = "."
		within(t, c, func(e *env) {
			e.set(asJSON("1"))
			e.subscribe(newRequest("/doc"))
			fail(e)
			advance(10*time.Second + 100*ms)
			e.wantNotAbsorbed()
			e.set(asJSON("2"))
			advance(30 * time.Second)
			e.wantAbsorbed(http.StatusOK, "2")
		})
	}
}

func TestNotModifiedRenewsCachedResponse(t *testing.T) {
	within(t, absorbing, func(e *env) {
		e.set(asJSON("1", "ETag", `"1"`))
		e.subscribe(newRequest("/doc"))
		e.set(status(http.StatusNotModified))
		advance(25 * time.Second)
		if got := e.wantAbsorbed(http.StatusOK, "1").Header().Get("Age"); got != "5" {
			t.Errorf("Age: %s", got)
		}
	})
}

func TestOnlyStatus200OfKnownTypeIsAbsorbed(t *testing.T) {
	for name, answer := range map[string]*subrequest.Response{
		"201":     {Status: http.StatusCreated, Header: asJSON("").Header, Body: []byte("1")},
		"no type": document("1"),
		"garbage": document("1", "Content-Type", ";"),
	} {
		within(t, absorbing, func(e *env) {
			e.set(answer)
			e.subscribe(newRequest("/doc"))
			if e.get(http.MethodGet) != nil {
				t.Errorf("%s was given", name)
			}
		})
	}
}

func TestRequestWithBodyReachesBackend(t *testing.T) {
	within(t, absorbing, func(e *env) {
		e.set(asJSON("1"))
		e.subscribe(newRequest("/doc"))
		r := httptest.NewRequest(http.MethodGet, "/doc", strings.NewReader("{}"))
		if e.Absorb(httptest.NewRecorder(), r, &caller{backend: e.backend}) {
			t.Error("it was answered")
		}
	})
}

func TestAbsorbIsOffByDefault(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.set(asJSON("1"))
		e.subscribe(newRequest("/doc"))
		e.wantNotAbsorbed()
	})
}

func TestUpgradeAndPositionRequestsReachBackend(t *testing.T) {
	within(t, poll.Config{Interval: second, Absorb: true}, func(e *env) {
		e.set(asJSON("1"))
		e.subscribe(newRequest("/doc"))
		for what, r := range map[string]*http.Request{
			"a WebSocket":       httptest.NewRequest(http.MethodGet, "/doc", nil),
			"its own parameter": httptest.NewRequest(http.MethodGet, "/doc?last_event_id=42", nil),
		} {
			if what == "a WebSocket" {
				r.Header.Set("Upgrade", "websocket")
			}
			if e.Absorb(httptest.NewRecorder(), r, &caller{backend: e.backend}) {
				t.Errorf("%s was answered from the last poll", what)
			}
		}
	})
}

func TestRequestWithUnsentCredentialsReachesBackendUnlessPublic(t *testing.T) {
	within(t, poll.Config{Interval: second, Absorb: true, Vary: []string{"none"}}, func(e *env) {
		e.set(asJSON("1"))
		v := e.subscribe(newRequest("/doc"))
		e.wantAbsorbed(http.StatusOK, "1")
		e.wantNotAbsorbed("Cookie", "session=1")
		e.wantNotAbsorbed("Authorization", "Bearer x")
		e.set(asJSON("2", "Cache-Control", "public"))
		advance(time.Second)
		v.want(t, "1", "2")
		e.wantAbsorbed(http.StatusOK, "2", "Cookie", "session=1")
		e.set(asJSON("3", "Cache-Control", "public", "Vary", "Cookie"))
		advance(time.Second)
		e.wantNotAbsorbed("Cookie", "session=1")
	})
}

func TestPersonalResponseHeaderBlocksAbsorbInSharedView(t *testing.T) {
	c := shared
	c.Absorb = true
	within(t, c, func(e *env) {
		e.set(asJSON("1", "X-Csrf-Token", "alice's"))
		e.subscribe(as("alice"))
		e.wantNotAbsorbed("Cookie", "alice")
		e.set(asJSON("2", "ETag", `"2"`))
		advance(time.Second)
		e.wantAbsorbed(http.StatusOK, "2", "Cookie", "alice")
	})
}

func TestAuthorizationForAbsorbExpiresAfterOneMinute(t *testing.T) {
	c := shared
	c.Interval, c.Absorb = 10*second, true
	within(t, c, func(e *env) {
		e.set(asJSON("1"))
		var all []string
		for i := range 20 { // each is polled about every 200 s
			all = append(all, fmt.Sprint("viewer", i))
		}
		e.join(all...)
		advance(2 * time.Minute)
		absorbed := 0
		for _, who := range all {
			if e.get(http.MethodGet, "Cookie", who) != nil {
				absorbed++
			}
		}
		if absorbed < 5 || absorbed > 7 {
			t.Errorf("%d are answered from the last poll", absorbed)
		}
	})
}

func TestAbsorbResumesAfterBackendFailure(t *testing.T) {
	within(t, poll.Config{Interval: second, Absorb: true}, func(e *env) {
		confirms := func(r *http.Request) (*subrequest.Response, error) {
			if r.Header.Get("If-None-Match") != "" {
				return status(http.StatusNotModified), nil
			}
			return asJSON("1", "ETag", `"1"`), nil
		}
		e.setFunc(confirms)
		e.subscribe(newRequest("/doc"))
		e.set(status(http.StatusServiceUnavailable))
		advance(10 * time.Second)
		e.wantNotAbsorbed()
		e.setFunc(confirms)
		advance(20 * time.Second)
		e.wantAbsorbed(http.StatusOK, "1")
	})
}
