package poll_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

const (
	mallory = "192.0.2.66"
	ann     = "198.51.100.1"
)

// hanging responds at once, except to requests that hang reports: to these, it
// responds when their time is over.
func (e *env) hanging(hang func(r *http.Request) bool) {
	e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
		if hang(r) {
			<-r.Context().Done()
			return nil, context.Cause(r.Context())
		}
		return document(fmt.Sprintf("%q", r.URL.Path)), nil
	})
}

func isSlow(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/slow") }

// crowd opens n streams from one client on the URLs of a format.
func (e *env) crowd(n int, client, format string) {
	for i := range n {
		e.start(newRequest(fmt.Sprintf(format, i)), &caller{client: client}, "")
	}
	synctest.Wait()
}

// annWants reports an error unless another client gets the URL's document at
// once.
func (e *env) annWants(t *testing.T, target string) {
	t.Helper()
	r := newRequest(target)
	e.subscribeAs(r, &caller{client: ann}, "").want(t, fmt.Sprintf("%q", r.URL.Path))
}

func TestHangingURLsOfOneClientDelayNoOtherClient(t *testing.T) {
	for name, c := range map[string]struct{ opened, wanted string }{
		"one path":                 {"/slow?n=%d", "/fast?n=1"},
		"many paths":               {"/slow/%d", "/fast?n=1"},
		"many hosts":               {"http://h%d.example.com/slow", "/fast?n=1"},
		"the path of both clients": {"/doc?slow=%d", "/doc?n=1"},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, poll.Config{Timeout: 20 * second}, func(e *env) {
				e.hanging(func(r *http.Request) bool { return isSlow(r) || r.URL.Query().Has("slow") })
				e.crowd(900, mallory, c.opened)
				e.annWants(t, c.wanted)
				advance(39 * time.Second) // the first polls have failed, and others hang
				e.annWants(t, c.wanted+"&again")
			})
		})
	}
}

func TestHangingPathDelaysNoOtherPath(t *testing.T) {
	within(t, poll.Config{Timeout: 20 * second}, func(e *env) {
		e.hanging(isSlow)
		for i := range 900 {
			e.start(newRequest(fmt.Sprintf("/slow?n=%d", i)), &caller{client: fmt.Sprint(i)}, "")
		}
		synctest.Wait()
		e.annWants(t, "/fast")
	})
}

func TestHangingHostDelaysNoOtherHost(t *testing.T) {
	within(t, poll.Config{Timeout: 20 * second}, func(e *env) {
		e.hanging(func(r *http.Request) bool { return r.Host == "hangs.example.com" })
		for i := range 900 {
			e.start(newRequest(fmt.Sprintf("http://hangs.example.com/%d", i)), &caller{client: fmt.Sprint(i)}, "")
		}
		synctest.Wait()
		e.annWants(t, "http://works.example.com/fast")
	})
}

func TestHangingFirstPollsDelayNoPollsOfFastViews(t *testing.T) {
	within(t, poll.Config{Interval: second, Max: second, Timeout: 20 * second}, func(e *env) {
		e.hanging(isSlow)
		fast := e.subscribeAs(newRequest("/fast"), &caller{client: ann}, "")
		for i := range 900 {
			e.start(newRequest(fmt.Sprintf("/slow/%d", i)), &caller{client: fmt.Sprint(i)}, "")
		}
		advance(time.Second)
		e.set(document("2"))
		advance(time.Second)
		fast.want(t, `"/fast"`, "2")
	})
}

func TestSlowViewsLeaveSlotsToFastOnes(t *testing.T) {
	within(t, poll.Config{MaxInFlight: 16, Interval: second, Max: second, Timeout: 20 * second}, func(e *env) {
		slow := newSlowBackend(3 * time.Second)
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if r.URL.Path == "/fast" {
				return document(`"/fast"`), nil
			}
			return slow.answer(r)
		})
		for i := range 40 {
			e.start(newRequest(fmt.Sprintf("/%d", i)), &caller{client: fmt.Sprint(i)}, "")
		}
		advance(20 * time.Second)
		e.annWants(t, "/fast")
		slow.want(t, 12, 15) // slow ones have 3/4, and with new ones 9/10, of 16
		for i, v := range e.viewers[:40] {
			v.want(t, fmt.Sprintf(`"/%d"`, i))
		}
	})
}

func TestFastViewsThatBeginToHangDelayNoNewView(t *testing.T) {
	within(t, poll.Config{Interval: second, Max: second, Timeout: 10 * second}, func(e *env) {
		for i := range 900 {
			e.start(newRequest(fmt.Sprintf("/slow/%d", i)), &caller{client: fmt.Sprint(i)}, "")
		}
		advance(2 * time.Second)
		e.hanging(isSlow)
		advance(5 * time.Second)
		e.annWants(t, "/fast?n=1")
		advance(time.Minute) // some are slow by now, and others hang for the first time
		e.annWants(t, "/fast?n=2")
	})
}

func TestViewWaitsForItsCreatorsSlotsOnlyWhileNobodyElseWatchesIt(t *testing.T) {
	within(t, poll.Config{Interval: second, Max: second, Timeout: 20 * second}, func(e *env) {
		e.hanging(isSlow)
		joined := e.subscribeAs(newRequest("/joined"), &caller{client: mallory}, "")
		e.crowd(900, mallory, "/slow?n=%d")
		e.subscribeAs(newRequest("/waits"), &caller{client: mallory}, "").want(t)
		e.annWants(t, "/waits")
		e.annWants(t, "/joined")
		e.setFunc(func(*http.Request) (*subrequest.Response, error) { return document("2"), nil })
		advance(time.Second)
		joined.want(t, `"/joined"`, "2")
	})
}

func TestHangingAuthorizationChecksDelayNoOtherClient(t *testing.T) {
	within(t, poll.Config{Share: "checked", Interval: caddy.Duration(time.Hour), Timeout: 20 * second}, func(e *env) {
		e.hanging(func(r *http.Request) bool { return strings.HasPrefix(r.Header.Get("Cookie"), "mallory") })
		e.subscribeAs(newRequest("/doc", "Cookie", "bob"), &caller{client: "203.0.113.2"}, "").want(t, `"/doc"`)
		for i := range 900 {
			e.start(newRequest("/doc", "Cookie", fmt.Sprint("mallory", i)), &caller{client: mallory}, "")
		}
		synctest.Wait()
		e.subscribeAs(newRequest("/doc", "Cookie", "ann"), &caller{client: ann}, "").want(t, `"/doc"`)
	})
}
