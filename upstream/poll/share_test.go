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

// club is a backend with one document for the viewers that it authorizes by
// cookie.
type club struct {
	mu      sync.Mutex
	doc     *subrequest.Response
	answers map[string]*subrequest.Response // in the place of the document
	slow    map[string]time.Duration
	asked   []string // who was, in order
}

// newClub makes the env's backend a club that authorizes all viewers.
func newClub(e *env) *club {
	c := &club{doc: document("1"), answers: make(map[string]*subrequest.Response), slow: make(map[string]time.Duration)}
	e.setFunc(c.answer)
	return c
}

func (c *club) answer(r *http.Request) (*subrequest.Response, error) {
	who := r.Header.Get("Cookie")
	c.mu.Lock()
	c.asked = append(c.asked, who)
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

func (c *club) publish(body string) { c.say(document(body)) }

func (c *club) say(doc *subrequest.Response) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doc = doc
}

// tell sets the response for some viewers; nil restores the document.
func (c *club) tell(answer *subrequest.Response, who ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range who {
		c.answers[name] = answer
	}
}

func (c *club) delay(d time.Duration, who ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range who {
		c.slow[name] = d
	}
}

// was returns the viewers whose requests came since the last call.
func (c *club) was() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	asked := c.asked
	c.asked = nil
	return asked
}

var shared = poll.Config{Interval: second, Timeout: 3 * second, Share: "checked"}

// as returns a request with a viewer's cookie.
func as(who string, header ...string) *http.Request {
	return ask("/doc", append([]string{"Cookie", who}, header...)...)
}

// join makes viewers join one after another. Each must get the document 1.
func (e *env) join(who ...string) (viewers []*viewer) {
	e.t.Helper()
	for _, name := range who {
		v := e.watch(as(name))
		v.want(e.t, "1")
		viewers = append(viewers, v)
	}
	return viewers
}

func wantAsked(t *testing.T, c *club, want ...string) {
	t.Helper()
	if got := c.was(); !slices.Equal(got, want) {
		t.Errorf("asked as %q, want %q", got, want)
	}
}

func TestAuthorizedViewerIsCheckedOnceAndJoinsSharedView(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newClub(e)
		e.join("alice", "bob", "alice", "bob", "carol")
		wantAsked(t, c, "alice", "bob", "carol")
		if e.Views() != 1 {
			t.Errorf("there are %d views", e.Views())
		}
	})
}

func TestUnauthorizedViewerGetsBackendsRefusal(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newClub(e)
		for _, code := range []int{http.StatusNotFound, http.StatusForbidden, http.StatusUnauthorized, http.StatusFound, http.StatusGone, http.StatusNoContent} {
			c.tell(status(code), "eve")
			alice := e.join("alice")[0]
			eve := e.watch(as("eve"))
			if eve.status() != code || len(eve.got()) > 0 {
				t.Errorf("eve got %d and %q, want %d", eve.status(), eve.got(), code)
			}
			c.publish("2")
			pass(time.Second)
			alice.want(t, "1", "2")
			alice.leave()
			c.publish("1")
			pass(time.Minute)
		}
	})
}

func TestPositionOfSharedViewGrantsNothing(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newClub(e)
		c.tell(status(http.StatusForbidden), "eve")
		alice := e.join("alice")[0]
		eve := e.resume(as("eve"), alice.lastID())
		if eve.status() != http.StatusForbidden || len(eve.got()) > 0 {
			t.Errorf("eve got %d and %q", eve.status(), eve.got())
		}
	})
}

func TestPollsRotateThroughViewers(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newClub(e)
		e.join("alice", "bob", "carol")
		pass(9*time.Second + 500*ms)
		asked := make(map[string]int)
		for _, who := range c.was() {
			asked[who]++
		}
		if want := map[string]int{"alice": 4, "bob": 4, "carol": 4}; !maps.Equal(asked, want) {
			t.Errorf("asked %v, want %v", asked, want)
		}
	})
}

func TestRefusalEndsOnlyTheRefusedViewersStream(t *testing.T) {
	for _, code := range []int{http.StatusForbidden, http.StatusUnauthorized, http.StatusNotFound, http.StatusGone, http.StatusFound} {
		within(t, shared, func(e *env) {
			c := newClub(e)
			viewers := e.join("alice", "bob", "carol")
			c.tell(status(code), "alice")
			for i := range 12 {
				c.publish(fmt.Sprint(i + 2))
				pass(time.Second)
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
		c := newClub(e)
		viewers := e.join("alice", "bob")
		// The poll that is refused is repeated as bob, and brings a change.
		c.tell(status(http.StatusForbidden), "alice")
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if r.Header.Get("Cookie") == "alice" {
				c.publish("2")
			}
			return c.answer(r)
		})
		pass(3 * time.Second)
		c.publish("3")
		pass(3 * time.Second)
		viewers[0].want(t, "1")
		viewers[1].want(t, "1", "2", "3")
		if !viewers[0].isRevoked() {
			t.Error("alice still watches")
		}
	})
}

func TestRefusalIsConfirmedAtOnceAsAnotherViewer(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newClub(e)
		viewers := e.join("alice", "bob")
		c.was()
		c.tell(status(http.StatusForbidden), "alice")
		c.publish("2")
		pass(2*time.Second + 500*ms)
		got := c.was()
		i := slices.Index(got, "alice")
		if i < 0 || i+1 >= len(got) || got[i+1] != "bob" {
			t.Errorf("asked as %q", got)
		}
		viewers[1].want(t, "1", "2")
		if !viewers[0].isRevoked() {
			t.Error("alice still watches")
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
			c := newClub(e)
			viewers := e.join("alice", "bob")
			c.tell(status(test.alice), "alice")
			c.tell(status(test.bob), "bob")
			pass(time.Second)
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
			if got := e.watch(as("alice")).status(); got != test.alice {
				t.Errorf("%v: alice came back and got %d", test, got)
			}
			if got := e.watch(as("bob")).status(); got != test.bob {
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
				c := newClub(e)
				viewers := e.join("alice", "bob")
				if answer == nil {
					c.delay(time.Hour, "alice")
				}
				c.tell(answer, "alice")
				for i := range 5 {
					c.publish(fmt.Sprint(i + 2))
					pass(8 * time.Second)
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
		c := newClub(e)
		viewers := e.join("alice", "bob")
		busy := status(http.StatusTooManyRequests)
		busy.Header.Set("Retry-After", "600")
		c.tell(busy, "alice", "bob")
		pass(time.Second + 500*ms)
		c.was()
		pass(9 * time.Minute)
		wantAsked(t, c)
		c.tell(nil, "alice", "bob")
		pass(2 * time.Minute)
		for _, v := range viewers {
			v.want(t, "1", "stale", "1")
		}
	})
}

func TestRefusedFirstPollDelaysNoWaitingViewer(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newClub(e)
		c.tell(status(http.StatusForbidden), "eve", "mallory")
		c.delay(time.Second, "eve")
		var viewers []*viewer
		for _, who := range []string{"eve", "alice", "mallory", "bob"} {
			viewers = append(viewers, e.start(as(who), new(caller), ""))
			synctest.Wait()
		}
		pass(time.Second + 100*ms)
		for i, code := range []int{http.StatusForbidden, 0, http.StatusForbidden, 0} {
			if got := viewers[i].status(); got != code {
				t.Errorf("viewer %d got %d, want %d", i, got, code)
			}
		}
		viewers[1].want(t, "1")
		viewers[3].want(t, "1")
		if n := len(c.was()); n > 1+2*3 {
			t.Errorf("%d requests for four viewers", n)
		}
	})
}

func TestViewersJoiningDuringFirstPollAreCheckedOnceEach(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newClub(e)
		c.delay(time.Second, "0")
		var viewers []*viewer
		for i := range 50 {
			viewers = append(viewers, e.start(as(fmt.Sprint(i)), new(caller), ""))
			synctest.Wait()
		}
		wantAsked(t, c, "0")
		pass(time.Second + 100*ms)
		for _, v := range viewers {
			v.want(t, "1")
		}
		got := c.was()
		slices.Sort(got)
		if len(got) != 49 || len(slices.Compact(got)) != 49 {
			t.Errorf("asked %d times: %q", len(got), got)
		}
	})
}

func TestViewContinuesWhenPolledViewerLeaves(t *testing.T) {
	for _, during := range []bool{false, true} {
		within(t, shared, func(e *env) {
			c := newClub(e)
			viewers := e.join("alice", "bob")
			c.delay(500*ms, "alice", "bob")
			c.publish("2")
			if during {
				pass(time.Second + 100*ms) // a poll is under way
			}
			viewers[0].leave()
			c.tell(status(http.StatusForbidden), "alice")
			pass(4 * time.Second)
			viewers[1].want(t, "1", "2")
		})
	}
}

func TestLingeringViewPollsAsLastViewer(t *testing.T) {
	c := shared
	c.Linger = 10 * second
	within(t, c, func(e *env) {
		c := newClub(e)
		viewers := e.join("alice", "bob")
		viewers[0].leave()
		pass(3 * time.Second)
		viewers[1].leave()
		c.was()
		c.publish("2")
		pass(3*time.Second + 500*ms)
		wantAsked(t, c, "bob", "bob", "bob")
		e.watch(as("bob")).want(t, "2") // who needs no question
		wantAsked(t, c)
		e.watch(as("alice")).want(t, "2")
		wantAsked(t, c, "alice")
	})
}

func TestRefusalOfLastViewerEndsLingeringView(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newClub(e)
		e.join("alice")[0].leave()
		c.tell(status(http.StatusForbidden), "alice")
		pass(2 * time.Second)
		if e.Views() != 0 {
			t.Errorf("there are %d views", e.Views())
		}
		e.watch(as("bob")).want(t, "1")
	})
}

func TestReturningRevokedViewerIsChecked(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newClub(e)
		viewers := e.join("alice", "bob")
		id := viewers[0].lastID()
		c.tell(status(http.StatusForbidden), "alice")
		pass(3 * time.Second)
		if !viewers[0].isRevoked() {
			t.Fatal("alice still watches")
		}
		if got := e.resume(as("alice"), id).status(); got != http.StatusForbidden {
			t.Errorf("alice got %d", got)
		}
		c.tell(nil, "alice")
		e.resume(as("alice"), id).want(t) // nothing has changed
		c.publish("2")
		pass(time.Second)
		viewers[1].want(t, "1", "2")
	})
}

func TestReturningRevokedViewerGetsNothingPublishedMeanwhile(t *testing.T) {
	for _, others := range []bool{true, false} { // whether the view outlives the refusal
		within(t, shared, func(e *env) {
			c := newClub(e)
			viewers := e.join("alice", "bob")
			id := viewers[0].lastID()
			c.tell(status(http.StatusForbidden), "alice")
			if !others {
				c.tell(status(http.StatusForbidden), "bob")
			}
			pass(3 * time.Second)
			c.tell(nil, "bob")
			e.watch(as("bob"))
			for i := range 3 {
				c.publish(fmt.Sprint(i + 2))
				pass(2 * time.Second)
			}
			c.tell(nil, "alice")
			e.resume(as("alice"), id).want(t, "4")
			e.resume(as("alice"), id).want(t, "4") // the second time, too, without a question
		})
	}
}

func TestDisconnectedViewerGetsMissedEventsUnlessRefused(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newClub(e)
		e.join("bob")
		c.publish("2")
		pass(time.Second)
		alice := e.watch(as("alice"))
		id := alice.lastID()
		alice.leave()
		for _, body := range []string{"3", "4"} {
			c.publish(body)
			pass(time.Second)
		}
		e.resume(as("alice"), id).want(t, "3", "4")
	})
}

func TestFailedFirstAuthorizationMakesEachViewerStaleAlone(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newClub(e)
		c.tell(status(http.StatusServiceUnavailable), "alice", "bob", "eve")
		var viewers []*viewer
		for _, who := range []string{"alice", "bob", "eve"} {
			v := e.watch(as(who))
			v.want(t, "stale")
			viewers = append(viewers, v)
		}
		if e.Views() != 3 {
			t.Errorf("there are %d views, want one for each", e.Views())
		}
		c.tell(nil, "alice", "bob")
		c.tell(status(http.StatusForbidden), "eve")
		pass(time.Minute)
		for _, v := range viewers {
			v.want(t, "stale")
			if !v.hasEnded() {
				t.Error("a stream goes on, though the backend answers")
			}
		}
		e.join("alice", "bob")
		if got := e.watch(as("eve")).status(); got != http.StatusForbidden {
			t.Errorf("eve got %d", got)
		}
	})
}

func TestFailedAuthorizationMakesOnlyThatViewerStale(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newClub(e)
		alice := e.join("alice")[0]
		c.tell(status(http.StatusTooManyRequests), "bob")
		bob := e.watch(as("bob"))
		bob.want(t, "stale")
		c.publish("2")
		pass(30 * time.Second)
		alice.want(t, "1", "2")
		bob.want(t, "stale")
		asked := 0
		for _, who := range c.was() {
			if who == "bob" {
				asked++
			}
		}
		if asked > 10 {
			t.Errorf("bob was asked about %d times in 30 s: no backoff", asked)
		}
		c.tell(nil, "bob")
		pass(30 * time.Second)
		if !bob.hasEnded() {
			t.Fatal("bob's own view goes on")
		}
		e.watch(as("bob")).want(t, "2")
	})
}

func TestUncheckedShareChecksNobody(t *testing.T) {
	c := shared
	c.Share = "unchecked"
	within(t, c, func(e *env) {
		c := newClub(e)
		c.tell(status(http.StatusForbidden), "eve")
		viewers := e.join("alice", "bob", "eve")
		wantAsked(t, c, "alice")
		pass(3*time.Second + 500*ms)
		wantAsked(t, c, "alice", "alice", "alice")
		// Whom it refuses is asked no more, and watches on.
		c.tell(status(http.StatusForbidden), "alice")
		c.publish("2")
		pass(2 * time.Second)
		for _, v := range viewers {
			v.want(t, "1", "2")
		}
	})
}

func TestOtherHeadersSeparateSharedViews(t *testing.T) {
	within(t, shared, func(e *env) {
		newClub(e)
		e.watch(as("alice", "X-Tenant", "a"))
		e.watch(as("bob", "X-Tenant", "b"))
		if e.Views() != 2 {
			t.Errorf("there are %d views", e.Views())
		}
	})
}

func TestVaryWithShareKeysNamedHeadersAndSendsCredentials(t *testing.T) {
	c := shared
	c.Vary = []string{"X-Tenant"}
	within(t, c, func(e *env) {
		newClub(e)
		e.watch(as("alice", "X-Tenant", "a", "X-Other", "1", "Authorization", "x")).want(t, "1")
		r := e.last()
		if r.Header.Get("X-Tenant") != "a" || r.Header.Get("X-Other") != "" || r.Header.Get("Cookie") != "alice" || r.Header.Get("Authorization") != "x" {
			t.Errorf("asked with %v", r.Header)
		}
		e.watch(as("bob", "X-Tenant", "a", "X-Other", "2")).want(t, "1")
		if e.Views() != 1 {
			t.Errorf("there are %d views of one tenant", e.Views())
		}
		e.watch(as("bob", "X-Tenant", "b")).want(t, "1")
		if e.Views() != 2 {
			t.Errorf("there are %d views of two tenants", e.Views())
		}
	})
}

func TestAuthorizationCheckSendsSameRequestAsPoll(t *testing.T) {
	within(t, shared, func(e *env) {
		newClub(e)
		e.watch(as("alice", "Accept-Language", "de", "User-Agent", "a", "X-Tenant", "t", "X-Forwarded-For", "192.0.2.1"))
		poll := e.last()
		r := as("bob", "Accept-Language", "en", "User-Agent", "b", "X-Tenant", "t", "X-Forwarded-For", "192.0.2.2", "Last-Event-ID", "x", "Authorization", "Bearer bob")
		r.RemoteAddr = "198.51.100.7:1234"
		e.watchAs(r, &caller{user: "bob"}, "")
		question := e.last()
		if question.URL.String() != poll.URL.String() || question.Method != poll.Method || question.Host != poll.Host || question.RequestURI != poll.RequestURI {
			t.Errorf("asked %s %s%s, polled %s %s%s", question.Method, question.Host, question.URL, poll.Method, poll.Host, poll.URL)
		}
		for name, want := range map[string]string{"Cookie": "bob", "Authorization": "Bearer bob", "X-Forwarded-For": "192.0.2.2"} {
			if got := question.Header.Get(name); got != want {
				t.Errorf("asked with %s: %q, want %q", name, got, want)
			}
			question.Header.Del(name)
			poll.Header.Del(name)
		}
		if fmt.Sprint(question.Header) != fmt.Sprint(poll.Header) {
			t.Errorf("asked with %v, polled with %v", question.Header, poll.Header)
		}
		if question.RemoteAddr != r.RemoteAddr {
			t.Errorf("asked from %s", question.RemoteAddr)
		}
	})
}

func TestAuthorizationCheckSeparatesUserCertificateAndAddress(t *testing.T) {
	within(t, shared, func(e *env) {
		e.watchAs(as("same"), &caller{user: "alice"}, "").want(t, "1")
		e.watchAs(as("same"), &caller{user: "bob"}, "").want(t, "1")
		elsewhere := as("same")
		elsewhere.RemoteAddr = "198.51.100.7:1234"
		e.watchAs(elsewhere, &caller{user: "bob"}, "").want(t, "1")
		if e.polls() != 3 || e.Views() != 1 {
			t.Errorf("%d requests for three viewers, %d views", e.polls(), e.Views())
		}
	})
}

func TestSharedViewCostsAtMostTwoRequestsPerPollAndJoin(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newClub(e)
		began := e.began
		joins := 0
		var viewers []*viewer
		for i := range 40 {
			who := fmt.Sprint("v", i%13)
			viewers = append(viewers, e.watch(as(who)))
			joins++
			switch i % 5 {
			case 0:
				c.tell(status(http.StatusForbidden), who)
			case 1:
				c.tell(status(http.StatusTooManyRequests), who)
			case 2:
				viewers[i/2].leave()
			case 3:
				c.tell(nil, fmt.Sprint("v", (i+5)%13))
			}
			pass(700 * ms)
		}
		seconds := int(time.Since(began)/time.Second) + 1
		// Each viewer of their own is polled no more often than the view.
		alone := 0
		for _, v := range viewers {
			if slices.Contains(v.got(), "stale") {
				alone++
			}
		}
		if n, most := len(c.was()), 2*seconds+2*joins+alone*10; n > most {
			t.Errorf("%d requests in %d s for %d joins, want at most %d", n, seconds, joins, most)
		}
	})
}

func TestViewerCountsOnceForAllItsStreams(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newClub(e)
		viewers := e.join("alice", "alice", "alice", "bob")
		viewers[0].leave()
		c.was()
		pass(4*time.Second + 500*ms)
		got := c.was()
		slices.Sort(got)
		if want := []string{"alice", "alice", "bob", "bob"}; !slices.Equal(got, want) {
			t.Errorf("asked as %q", got)
		}
		c.tell(status(http.StatusForbidden), "alice")
		pass(2 * time.Second)
		if !viewers[1].isRevoked() || !viewers[2].isRevoked() || viewers[3].isRevoked() {
			t.Error("not all of alice's streams were revoked, or bob's")
		}
	})
}

func TestSharedViewKeyHoldsNoCredential(t *testing.T) {
	within(t, shared, func(e *env) {
		newClub(e)
		e.join("secret-a", "secret-b")
		for _, info := range e.List() {
			if text := fmt.Sprintf("%+v", info); strings.Contains(text, "secret") || !info.Shared || info.Viewers != 2 {
				t.Error(text)
			}
		}
	})
}
