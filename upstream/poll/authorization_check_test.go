package poll_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// Effects of one viewer, and of the backend's responses to it, on other viewers
// of a shared view.

func later(code int, seconds string) *subrequest.Response {
	answer := status(code)
	answer.Header.Set("Retry-After", seconds)
	return answer
}

func TestFirstViewersFailureIsNotThatOfWaitingViewers(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		c.respond(later(http.StatusTooManyRequests, "86400"), "eve")
		c.delay(time.Second, "eve")
		e.start(as("eve"), new(caller), "")
		advance(100 * time.Millisecond)
		bob := e.start(as("bob"), new(caller), "")
		advance(5 * time.Second)
		bob.want(t, "1")
	})
}

func TestOneViewerCountsOnceInAuthorizationChecks(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		others := e.join("carl", "dora")
		for i := range 5 {
			r := as("eve")
			r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", i)
			e.subscribe(r)
		}
		c.respond(status(http.StatusUnauthorized), "eve")
		advance(20 * time.Second)
		for _, v := range others {
			v.want(t, "1")
			if v.hasEnded() {
				t.Error("a viewer's stream has ended since another has logged out")
			}
		}
	})
}

func TestRefusalAndFailureDoNotConfirmEachOther(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		members := e.join("alice", "bob", "carl", "dora")
		c.respond(later(http.StatusTooManyRequests, "3600"), "alice")
		c.respond(status(http.StatusForbidden), "bob")
		advance(20 * time.Second)
		c.publish("2")
		advance(20 * time.Second)
		for _, v := range members[2:] {
			v.want(t, "1", "2")
		}
	})
}

func TestNewViewerGetsNoEventsFromBeforeAuthorization(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		c.respond(status(http.StatusForbidden), "bob")
		alice := e.join("alice")[0]
		position := alice.lastID()
		c.publish(`"secret"`)
		advance(2 * time.Second)
		c.publish("3")
		c.respond(nil, "bob")
		advance(2 * time.Second)
		e.resume(as("bob"), position).want(t, "3")
	})
}

func TestReconnectingViewerGetsMissedEvents(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		members := e.join("alice", "bob")
		position := members[1].lastID()
		members[1].leave()
		for _, doc := range []string{"2", "3"} {
			c.publish(doc)
			advance(2 * time.Second)
		}
		back := e.resume(as("bob"), position)
		back.want(t, "2", "3")
		position = back.lastID()
		back.leave()
		for _, doc := range []string{"4", "5"} {
			c.publish(doc)
			advance(time.Minute)
		}
		e.resume(as("bob"), position).want(t, "5")
	})
}

func TestRefusedViewerKeepsNoViewAlive(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		c.respond(status(http.StatusForbidden), "eve")
		e.join("alice")[0].leave()
		for range 10 {
			advance(20 * time.Second)
			e.subscribe(as("eve"))
		}
		if got := c.requesters(); slices.Contains(got[len(got)-5:], "alice") {
			t.Error("a poll carries the credentials of a viewer who has left")
		}
	})
}

func TestFailedAuthorizationIsCheckedAgainOnReturn(t *testing.T) {
	within(t, shared, func(e *env) {
		c := newCookieBackend(e)
		alice := e.join("alice", "bob")[0]
		c.respond(status(http.StatusTooManyRequests), "alice")
		alice.leave()
		c.publish("2")
		advance(10 * time.Second)
		c.requesters()
		back := e.subscribe(as("alice"))
		if got := c.requesters(); !slices.Contains(got, "alice") {
			t.Errorf("requests as %q", got)
		}
		back.want(t, "stale")
	})
}

func TestRefusalGoesOnlyToTheRefusedViewer(t *testing.T) {
	for _, share := range []string{"checked", "unchecked"} {
		within(t, poll.Config{Interval: second, Share: share}, func(e *env) {
			e.take(time.Second)
			e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
				answer := status(http.StatusForbidden)
				answer.Body = []byte("no, " + r.Header.Get("Cookie"))
				return answer, nil
			})
			viewers := map[string]*viewer{}
			for _, who := range []string{"alice", "bob", "carl"} {
				viewers[who] = e.start(as(who), new(caller), "")
				advance(100 * time.Millisecond)
			}
			advance(time.Minute)
			for who, v := range viewers {
				v.mu.Lock()
				if v.refused == nil || string(v.refused.Body) != "no, "+who {
					t.Errorf("%s: %s got %+v", share, who, v.refused)
				}
				v.mu.Unlock()
			}
		})
	}
}

func TestDocumentPublicForSomeOnlyDoesNotMoveViewersForever(t *testing.T) {
	within(t, private, func(e *env) {
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if r.Header.Get("Cookie") == "bob" {
				return document(`"bob's"`, "Cache-Control", "private"), nil
			}
			return document(`"all's"`, "Cache-Control", "public"), nil
		})
		streams := 0
		open := map[string]*viewer{}
		for range 120 {
			for _, who := range []string{"alice", "bob"} {
				if v := open[who]; v != nil && !v.hasEnded() {
					continue
				}
				open[who] = e.subscribe(as(who))
				streams++
				if who == "bob" && slices.Contains(open[who].got(), `"all's"`) {
					t.Fatal("bob got what is not his")
				}
			}
			advance(500 * time.Millisecond)
		}
		if streams > 6 {
			t.Errorf("%d streams in a minute", streams)
		}
	})
}
