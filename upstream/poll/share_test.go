package poll_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// cookieBackend is a backend with one document for the viewers that it authorizes by
// cookie.
type cookieBackend struct {
	mu       sync.Mutex
	doc      *subrequest.Response
	answers  map[string]*subrequest.Response // in the place of the document
	slow     map[string]time.Duration
	requests []string // the viewers of the requests, in order
}

// newCookieBackend makes the env's backend a cookieBackend that authorizes all viewers.
func newCookieBackend(e *env) *cookieBackend {
	c := &cookieBackend{doc: document("1"), answers: make(map[string]*subrequest.Response), slow: make(map[string]time.Duration)}
	e.setFunc(c.answer)
	return c
}

func (c *cookieBackend) answer(r *http.Request) (*subrequest.Response, error) {
	who := r.Header.Get("Cookie")
	c.mu.Lock()
	c.requests = append(c.requests, who)
	doc, answer, slow := c.doc, c.answers[who], c.slow[who]
	c.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
	if answer != nil {
		return answer, nil
	}
	return doc, nil
}

func (c *cookieBackend) publish(body string) { c.setDocument(document(body)) }

func (c *cookieBackend) setDocument(doc *subrequest.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doc = doc
}

// respond sets the response for some viewers; nil restores the document.
func (c *cookieBackend) respond(answer *subrequest.Response, who ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range who {
		c.answers[name] = answer
	}
}

func (c *cookieBackend) delay(d time.Duration, who ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range who {
		c.slow[name] = d
	}
}

// requesters returns the viewers whose requests came since the last call.
func (c *cookieBackend) requesters() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	requests := c.requests
	c.requests = nil
	return requests
}

var shared = poll.Config{Interval: second, Timeout: 3 * second, Share: "checked"}

// as returns a request with a viewer's cookie.
func as(who string, header ...string) *http.Request {
	return newRequest("/doc", append([]string{"Cookie", who}, header...)...)
}

// join makes viewers join one after another. Each must get the document 1.
func (e *env) join(who ...string) (viewers []*viewer) {
	e.t.Helper()
	for _, name := range who {
		v := e.subscribe(as(name))
		v.want(e.t, "1")
		viewers = append(viewers, v)
	}
	return viewers
}

func wantRequesters(t *testing.T, c *cookieBackend, want ...string) {
	t.Helper()
	if got := c.requesters(); !slices.Equal(got, want) {
		t.Errorf("requests as %q, want %q", got, want)
	}
}

func TestAuthorizedViewerIsCheckedOnceAndJoinsSharedView(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		e.join("alice", "bob", "alice", "bob", "carol")
		wantRequesters(t, c, "alice", "bob", "carol")
		if e.Views() != 1 {
			t.Errorf("there are %d views", e.Views())
		}
	})
}

func TestUnauthorizedViewerGetsBackendsRefusal(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		for _, code := range []int{http.StatusNotFound, http.StatusForbidden, http.StatusUnauthorized, http.StatusFound, http.StatusGone, http.StatusNoContent} {
			c.respond(status(code), "eve")
			alice := e.join("alice")[0]
			eve := e.subscribe(as("eve"))
			if eve.status() != code || len(eve.got()) > 0 {
				t.Errorf("eve got %d and %q, want %d", eve.status(), eve.got(), code)
			}
			c.publish("2")
			advance(time.Second)
			alice.want(t, "1", "2")
			alice.leave()
			c.publish("1")
			advance(time.Minute)
		}
	})
}

func TestPositionOfSharedViewGrantsNothing(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		c.respond(status(http.StatusForbidden), "eve")
		alice := e.join("alice")[0]
		eve := e.resume(as("eve"), alice.lastID())
		if eve.status() != http.StatusForbidden || len(eve.got()) > 0 {
			t.Errorf("eve got %d and %q", eve.status(), eve.got())
		}
	})
}

func TestPollsRotateThroughViewers(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		e.join("alice", "bob", "carol")
		advance(9*time.Second + 500*ms)
		requests := make(map[string]int)
		for _, who := range c.requesters() {
			requests[who]++
		}
		if want := map[string]int{"alice": 4, "bob": 4, "carol": 4}; !maps.Equal(requests, want) {
			t.Errorf("requests %v, want %v", requests, want)
		}
	})
}

func TestRefusalEndsOnlyTheRefusedViewersStream(t *testing.T) {
	for _, code := range []int{http.StatusForbidden, http.StatusUnauthorized, http.StatusNotFound, http.StatusGone, http.StatusFound} {
		within(t, shared, func(e *env) {
			c := newCookieBackend(e)
			viewers := e.join("alice", "bob", "carol")
			c.respond(status(code), "alice")
			for i := range 12 {
				c.publish(fmt.Sprint(i + 2))
				advance(time.Second)
			}
			alice := viewers[0]
			if !alice.isRevoked() || alice.hasEnded() {
				t.Errorf("%d: the stream has not been revoked", code)
			}
			if got := alice.got(); len(got) > 4 { // three polls until it's the turn
				t.Errorf("%d: alice got %q", code, got)
			}
			for _, v := range viewers[1:] {
				v.want(t, "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13")
			}
		})
	}
}

func TestRefusedViewerGetsNothingPublishedSinceRefusal(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		viewers := e.join("alice", "bob")
		// The poll that is refused is repeated as bob, and brings a change.
		c.respond(status(http.StatusForbidden), "alice")
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if r.Header.Get("Cookie") == "alice" {
				c.publish("2")
			}
			return c.answer(r)
		})
		advance(3 * time.Second)
		c.publish("3")
		advance(3 * time.Second)
		viewers[0].want(t, "1")
		viewers[1].want(t, "1", "2", "3")
		if !viewers[0].isRevoked() {
			t.Error("alice still has a stream")
		}
	})
}

func TestRefusalIsConfirmedAtOnceAsAnotherViewer(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		viewers := e.join("alice", "bob")
		c.requesters()
		c.respond(status(http.StatusForbidden), "alice")
		c.publish("2")
		advance(2*time.Second + 500*ms)
		got := c.requesters()
		i := slices.Index(got, "alice")
		if i < 0 || i+1 >= len(got) || got[i+1] != "bob" {
			t.Errorf("requests as %q", got)
		}
		viewers[1].want(t, "1", "2")
		if !viewers[0].isRevoked() {
			t.Error("alice still has a stream")
		}
	})
}

func TestTwoRefusalsEndViewAndCheckEveryViewer(t *testing.T) {
	for _, test := range []struct {
		alice, bob int
		gone       bool
	}{
		{http.StatusNotFound, http.StatusNotFound, true},
		{http.StatusGone, http.StatusNotFound, true},
		{http.StatusForbidden, http.StatusNotFound, false},
		{http.StatusNotFound, http.StatusForbidden, false},
		{http.StatusForbidden, http.StatusUnauthorized, false},
	} {
		within(t, shared, func(e *env) {
			c := newCookieBackend(e)
			viewers := e.join("alice", "bob")
			c.respond(status(test.alice), "alice")
			c.respond(status(test.bob), "bob")
			advance(time.Second)
			want := []string{"1"}
			if test.gone {
				want = append(want, "gone")
			}
			for _, v := range viewers {
				v.want(t, want...)
				if !v.hasEnded() {
					t.Errorf("%v: a stream is still open", test)
				}
			}
			if got := e.subscribe(as("alice")).status(); got != test.alice {
				t.Errorf("%v: alice came back and got %d", test, got)
			}
			if got := e.subscribe(as("bob")).status(); got != test.bob {
				t.Errorf("%v: bob came back and got %d", test, got)
			}
		})
	}
}

func TestFailureOfOneViewerDoesNotAffectOthers(t *testing.T) {
	busy := status(http.StatusTooManyRequests)
	busy.Header.Set("Retry-After", "3600")
	for name, answer := range map[string]*subrequest.Response{"429": busy, "503": status(http.StatusServiceUnavailable), "timeout": nil} {
		t.Run(name, func(t *testing.T) {
			within(t, shared, func(e *env) {
				c := newCookieBackend(e)
				viewers := e.join("alice", "bob")
				if answer == nil {
					c.delay(time.Hour, "alice")
				}
				c.respond(answer, "alice")
				for i := range 5 {
					c.publish(fmt.Sprint(i + 2))
					advance(8 * time.Second)
				}
				for _, v := range viewers {
					v.want(t, "1", "2", "3", "4", "5", "6")
				}
			})
		})
	}
}

func TestSharedRetryAfterDelaysPolls(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		viewers := e.join("alice", "bob")
		busy := status(http.StatusTooManyRequests)
		busy.Header.Set("Retry-After", "600")
		c.respond(busy, "alice", "bob")
		advance(time.Second + 500*ms)
		c.requesters()
		advance(9 * time.Minute)
		wantRequesters(t, c)
		c.respond(nil, "alice", "bob")
		advance(2 * time.Minute)
		for _, v := range viewers {
			v.want(t, "1", "stale", "1")
		}
	})
}

func TestRefusedFirstPollDelaysNoWaitingViewer(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		c.respond(status(http.StatusForbidden), "eve", "mallory")
		c.delay(time.Second, "eve")
		var viewers []*viewer
		for _, who := range []string{"eve", "alice", "mallory", "bob"} {
			viewers = append(viewers, e.start(as(who), new(caller), ""))
			synctest.Wait()
		}
		advance(time.Second + 100*ms)
		for i, code := range []int{http.StatusForbidden, 0, http.StatusForbidden, 0} {
			if got := viewers[i].status(); got != code {
				t.Errorf("viewer %d got %d, want %d", i, got, code)
			}
		}
		viewers[1].want(t, "1")
		viewers[3].want(t, "1")
		if n := len(c.requesters()); n > 1+2*3 {
			t.Errorf("%d requests for four viewers", n)
		}
	})
}

func TestViewersJoiningDuringFirstPollAreCheckedOnceEach(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		c.delay(time.Second, "0")
		var viewers []*viewer
		for i := range 50 {
			viewers = append(viewers, e.start(as(fmt.Sprint(i)), new(caller), ""))
			synctest.Wait()
		}
		wantRequesters(t, c, "0")
		advance(time.Second + 100*ms)
		for _, v := range viewers {
			v.want(t, "1")
		}
		got := c.requesters()
		slices.Sort(got)
		if len(got) != 49 || len(slices.Compact(got)) != 49 {
			t.Errorf("%d requests: %q", len(got), got)
		}
	})
}

func TestViewContinuesWhenPolledViewerLeaves(t *testing.T) {
	for _, during := range []bool{false, true} {
		within(t, shared, func(e *env) {
			c := newCookieBackend(e)
			viewers := e.join("alice", "bob")
			c.delay(500*ms, "alice", "bob")
			c.publish("2")
			if during {
				advance(time.Second + 100*ms) // a poll is under way
			}
			viewers[0].leave()
			c.respond(status(http.StatusForbidden), "alice")
			advance(4 * time.Second)
			viewers[1].want(t, "1", "2")
		})
	}
}

func TestLingeringViewPollsAsLastViewer(t *testing.T) {
	c := shared
	c.Linger = 10 * second
	within(t, c, func(e *env) {
		c := newCookieBackend(e)
		viewers := e.join("alice", "bob")
		viewers[0].leave()
		advance(3 * time.Second)
		viewers[1].leave()
		c.requesters()
		c.publish("2")
		advance(3*time.Second + 500*ms)
		wantRequesters(t, c, "bob", "bob", "bob")
		e.subscribe(as("bob")).want(t, "2") // bob needs no check
		wantRequesters(t, c)
		e.subscribe(as("alice")).want(t, "2")
		wantRequesters(t, c, "alice")
	})
}

func TestRefusalOfLastViewerEndsLingeringView(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		e.join("alice")[0].leave()
		c.respond(status(http.StatusForbidden), "alice")
		advance(2 * time.Second)
		if e.Views() != 0 {
			t.Errorf("there are %d views", e.Views())
		}
		e.subscribe(as("bob")).want(t, "1")
	})
}

func TestReturningRevokedViewerIsChecked(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		viewers := e.join("alice", "bob")
		id := viewers[0].lastID()
		c.respond(status(http.StatusForbidden), "alice")
		advance(3 * time.Second)
		if !viewers[0].isRevoked() {
			t.Fatal("alice still has a stream")
		}
		if got := e.resume(as("alice"), id).status(); got != http.StatusForbidden {
			t.Errorf("alice got %d", got)
		}
		c.respond(nil, "alice")
		e.resume(as("alice"), id).want(t) // nothing has changed
		c.publish("2")
		advance(time.Second)
		viewers[1].want(t, "1", "2")
	})
}

func TestReturningRevokedViewerGetsNothingPublishedMeanwhile(t *testing.T) {
	for _, others := range []bool{true, false} { // whether the view outlives the refusal
		within(t, shared, func(e *env) {
			c := newCookieBackend(e)
			viewers := e.join("alice", "bob")
			id := viewers[0].lastID()
			c.respond(status(http.StatusForbidden), "alice")
			if !others {
				c.respond(status(http.StatusForbidden), "bob")
			}
			advance(3 * time.Second)
			c.respond(nil, "bob")
			e.subscribe(as("bob"))
			for i := range 3 {
				c.publish(fmt.Sprint(i + 2))
				advance(2 * time.Second)
			}
			c.respond(nil, "alice")
			e.resume(as("alice"), id).want(t, "4")
			e.resume(as("alice"), id).want(t, "4") // the second time, too, without a check
		})
	}
}

func TestDisconnectedViewerGetsMissedEventsUnlessRefused(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		e.join("bob")
		c.publish("2")
		advance(time.Second)
		alice := e.subscribe(as("alice"))
		id := alice.lastID()
		alice.leave()
		for _, body := range []string{"3", "4"} {
			c.publish(body)
			advance(time.Second)
		}
		e.resume(as("alice"), id).want(t, "3", "4")
	})
}

func TestFailedFirstAuthorizationMakesEachViewerStaleAlone(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		c.respond(status(http.StatusServiceUnavailable), "alice", "bob", "eve")
		var viewers []*viewer
		for _, who := range []string{"alice", "bob", "eve"} {
			v := e.subscribe(as(who))
			v.want(t, "stale")
			viewers = append(viewers, v)
		}
		if e.Views() != 3 {
			t.Errorf("there are %d views, want one for each", e.Views())
		}
		c.respond(nil, "alice", "bob")
		c.respond(status(http.StatusForbidden), "eve")
		advance(time.Minute)
		for _, v := range viewers {
			v.want(t, "stale")
			if !v.hasEnded() {
				t.Error("a stream goes on, though the backend answers")
			}
		}
		e.join("alice", "bob")
		if got := e.subscribe(as("eve")).status(); got != http.StatusForbidden {
			t.Errorf("eve got %d", got)
		}
	})
}

func TestFailedAuthorizationMakesOnlyThatViewerStale(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		alice := e.join("alice")[0]
		c.respond(status(http.StatusTooManyRequests), "bob")
		bob := e.subscribe(as("bob"))
		bob.want(t, "stale")
		c.publish("2")
		advance(30 * time.Second)
		alice.want(t, "1", "2")
		bob.want(t, "stale")
		requests := 0
		for _, who := range c.requesters() {
			if who == "bob" {
				requests++
			}
		}
		if requests > 10 {
			t.Errorf("bob was checked %d times in 30 s: no backoff", requests)
		}
		c.respond(nil, "bob")
		advance(30 * time.Second)
		if !bob.hasEnded() {
			t.Fatal("bob's own view goes on")
		}
		e.subscribe(as("bob")).want(t, "2")
	})
}

func TestUncheckedShareChecksNobody(t *testing.T) {
	c := shared
	c.Share = "unchecked"
	within(t, c, func(e *env) {
		c := newCookieBackend(e)
		c.respond(status(http.StatusForbidden), "eve")
		viewers := e.join("alice", "bob", "eve")
		wantRequesters(t, c, "alice")
		advance(3*time.Second + 500*ms)
		wantRequesters(t, c, "alice", "alice", "alice")
		// A refused viewer is not checked again, and keeps its stream.
		c.respond(status(http.StatusForbidden), "alice")
		c.publish("2")
		advance(2 * time.Second)
		for _, v := range viewers {
			v.want(t, "1", "2")
		}
	})
}

func TestOtherHeadersSeparateSharedViews(t *testing.T) {
	within(t, shared, func(e *env) {
		newCookieBackend(e)
		e.subscribe(as("alice", "X-Tenant", "a"))
		e.subscribe(as("bob", "X-Tenant", "b"))
		if e.Views() != 2 {
			t.Errorf("there are %d views", e.Views())
		}
	})
}

func TestVaryWithShareKeysNamedHeadersAndSendsCredentials(t *testing.T) {
	c := shared
	c.Vary = []string{"X-Tenant"}
	within(t, c, func(e *env) {
		newCookieBackend(e)
		e.subscribe(as("alice", "X-Tenant", "a", "X-Other", "1", "Authorization", "x")).want(t, "1")
		r := e.last()
		if r.Header.Get("X-Tenant") != "a" || r.Header.Get("X-Other") != "" || r.Header.Get("Cookie") != "alice" || r.Header.Get("Authorization") != "x" {
			t.Errorf("the request has %v", r.Header)
		}
		e.subscribe(as("bob", "X-Tenant", "a", "X-Other", "2")).want(t, "1")
		if e.Views() != 1 {
			t.Errorf("there are %d views of one tenant", e.Views())
		}
		e.subscribe(as("bob", "X-Tenant", "b")).want(t, "1")
		if e.Views() != 2 {
			t.Errorf("there are %d views of two tenants", e.Views())
		}
	})
}

// Hints are the viewer's own, as are credentials.
func TestAuthorizationCheckSendsSameRequestAsPoll(t *testing.T) {
	within(t, shared, func(e *env) {
		newCookieBackend(e)
		e.subscribe(as("alice", "Accept-Language", "de", "User-Agent", "a", "X-Tenant", "t", "X-Forwarded-For", "192.0.2.1"))
		poll := e.last()
		r := as("bob", "Accept-Language", "en", "User-Agent", "b", "X-Tenant", "t", "X-Forwarded-For", "192.0.2.2", "Last-Event-ID", "x", "Authorization", "Bearer bob")
		r.RemoteAddr = "198.51.100.7:1234"
		e.subscribeAs(r, &caller{user: "bob"}, "")
		check := e.last()
		if check.URL.String() != poll.URL.String() || check.Method != poll.Method || check.Host != poll.Host || check.RequestURI != poll.RequestURI {
			t.Errorf("checked %s %s%s, polled %s %s%s", check.Method, check.Host, check.URL, poll.Method, poll.Host, poll.URL)
		}
		for name, want := range map[string]string{"Cookie": "bob", "Authorization": "Bearer bob", "X-Forwarded-For": "192.0.2.2", "Accept-Language": "en", "User-Agent": "b"} {
			if got := check.Header.Get(name); got != want {
				t.Errorf("checked with %s: %q, want %q", name, got, want)
			}
			check.Header.Del(name)
			poll.Header.Del(name)
		}
		if fmt.Sprint(check.Header) != fmt.Sprint(poll.Header) {
			t.Errorf("checked with %v, polled with %v", check.Header, poll.Header)
		}
		if check.RemoteAddr != r.RemoteAddr {
			t.Errorf("checked from %s", check.RemoteAddr)
		}
	})
}

func TestAuthorizationCheckSeparatesUserCertificateAndAddress(t *testing.T) {
	within(t, shared, func(e *env) {
		e.subscribeAs(as("same"), &caller{user: "alice"}, "").want(t, "1")
		e.subscribeAs(as("same"), &caller{user: "bob"}, "").want(t, "1")
		elsewhere := as("same")
		elsewhere.RemoteAddr = "198.51.100.7:1234"
		e.subscribeAs(elsewhere, &caller{user: "bob"}, "").want(t, "1")
		if e.polls() != 3 || e.Views() != 1 {
			t.Errorf("%d requests for three viewers, %d views", e.polls(), e.Views())
		}
	})
}

func TestSharedViewCostsAtMostTwoRequestsPerPollAndJoin(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		began := e.began
		joins := 0
		var viewers []*viewer
		for i := range 40 {
			who := fmt.Sprint("v", i%13)
			viewers = append(viewers, e.subscribe(as(who)))
			joins++
			switch i % 5 {
			case 0:
				c.respond(status(http.StatusForbidden), who)
			case 1:
				c.respond(status(http.StatusTooManyRequests), who)
			case 2:
				viewers[i/2].leave()
			case 3:
				c.respond(nil, fmt.Sprint("v", (i+5)%13))
			}
			advance(700 * ms)
		}
		seconds := int(time.Since(began)/time.Second) + 1
		// Each viewer of their own is polled no more often than the view.
		alone := 0
		for _, v := range viewers {
			if slices.Contains(v.got(), "stale") {
				alone++
			}
		}
		if n, most := len(c.requesters()), 2*seconds+2*joins+alone*10; n > most {
			t.Errorf("%d requests in %d s for %d joins, want at most %d", n, seconds, joins, most)
		}
	})
}

func TestViewerCountsOnceForAllItsStreams(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		viewers := e.join("alice", "alice", "alice", "bob")
		viewers[0].leave()
		c.requesters()
		advance(4*time.Second + 500*ms)
		got := c.requesters()
		slices.Sort(got)
		if want := []string{"alice", "alice", "bob", "bob"}; !slices.Equal(got, want) {
			t.Errorf("requests as %q", got)
		}
		c.respond(status(http.StatusForbidden), "alice")
		advance(2 * time.Second)
		if !viewers[1].isRevoked() || !viewers[2].isRevoked() || viewers[3].isRevoked() {
			t.Error("not all of alice's streams were revoked, or bob's")
		}
	})
}

func TestSharedViewKeyHoldsNoCredential(t *testing.T) {
	within(t, shared, func(e *env) {
		newCookieBackend(e)
		e.join("secret-a", "secret-b")
		for _, info := range e.List() {
			if text := fmt.Sprintf("%+v", info); strings.Contains(text, "secret") || !info.Shared || info.Viewers != 2 {
				t.Error(text)
			}
		}
	})
}
