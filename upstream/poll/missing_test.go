package poll_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func TestMissingDocumentIsGoneOnlyAfterGoneAfter(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, time.Minute} {
		logged(t, poll.Config{Interval: second, Max: 10 * second, GoneAfter: 30 * second}, func(e *env, log *observer.ObservedLogs) {
			v := e.subscribe(newRequest("/doc"))
			advance(interval)
			e.set(status(http.StatusNotFound))
			e.Invalidate("example.com", "/doc")
			advance(29 * time.Second)
			v.want(t, "1", "stale")
			if data := string(v.events()[1].Data); data[len(data)-len(`"status":404,"reason":"Not Found"}`):] != `"status":404,"reason":"Not Found"}` {
				t.Error(data)
			}
			advance(1100 * ms)
			v.want(t, "1", "stale", "gone")
			if !v.hasEnded() || e.Views() != 0 {
				t.Errorf("%v: the stream goes on", interval)
			}
			if n := log.FilterMessageSnippet("backend fails").Len(); n != 1 {
				t.Errorf("the log has %d lines", n)
			}
			if got := e.resume(newRequest("/doc"), v.lastID()).status(); got != http.StatusNotFound {
				t.Errorf("the viewer who comes back gets %d", got)
			}
		})
	}
}

func TestDocumentThatIsThereAgainGoesOn(t *testing.T) {
	for name, send := range map[string]string{"the same": `[1]`, "another": `[2]`} {
		for _, mode := range []string{"full", "patch"} {
			within(t, config{Interval: second, GoneAfter: 30 * second}.with(mode), func(e *env) {
				e.set(asJSON(`[1]`))
				v := e.subscribe(newRequest("/doc"))
				for range 5 { // each time anew
					e.set(status(http.StatusNotFound))
					advance(20 * time.Second)
					e.set(asJSON(`[1]`))
					advance(2 * time.Second)
				}
				e.set(status(http.StatusNotFound))
				advance(5 * time.Second)
				e.set(asJSON(send))
				advance(2 * time.Second)
				if got := v.got(); len(got) != 13 || got[12] != send || v.hasEnded() {
					t.Errorf("%s, %s: the viewer got %q", mode, name, got)
				}
			})
		}
	}
}

func TestAnyOtherAnswerBeginsGoneAfterAnew(t *testing.T) {
	for name, between := range map[string]func(*env){
		"503":     func(e *env) { e.set(status(http.StatusServiceUnavailable)) },
		"refused": func(e *env) { e.setError(errRefused) },
		"broken":  func(e *env) { e.set(asJSON("{")) },
	} {
		within(t, poll.Config{Interval: second, GoneAfter: 30 * second}, func(e *env) {
			v := e.subscribe(newRequest("/doc"))
			e.set(status(http.StatusNotFound))
			advance(25 * time.Second)
			between(e)
			advance(10 * time.Second)
			e.set(status(http.StatusNotFound))
			advance(25 * time.Second)
			v.want(t, "1", "stale")
			if v.hasEnded() {
				t.Errorf("%s: the stream has ended", name)
			}
			advance(30 * time.Second)
			v.want(t, "1", "stale", "gone")
		})
	}
}

func TestGoneIsFinalAtOnce(t *testing.T) {
	within(t, poll.Config{Interval: second, GoneAfter: 30 * second, Wait: true}, func(e *env) {
		v := e.subscribe(newRequest("/doc"))
		e.set(status(http.StatusGone))
		advance(2 * time.Second)
		v.want(t, "1", "gone")
		if got := e.subscribe(newRequest("/doc")).status(); got != http.StatusGone {
			t.Errorf("a new viewer gets %d", got)
		}
	})
}

func TestWaitOpensStreamOfDocumentThatIsNotThereYet(t *testing.T) {
	logged(t, poll.Config{Interval: second, Wait: true}, func(e *env, log *observer.ObservedLogs) {
		e.set(status(http.StatusNotFound))
		v := e.subscribe(newRequest("/report"))
		v.want(t, "stale")
		advance(time.Hour)
		if e.polls() < 3000 {
			t.Errorf("%d polls in an hour", e.polls())
		}
		e.set(document("1"))
		advance(2 * time.Second)
		v.want(t, "stale", "1")
		if log.Len() > 0 {
			t.Errorf("the log has %v", log.All())
		}
		e.set(status(http.StatusNotFound)) // without gone_after
		advance(2 * time.Second)
		v.want(t, "stale", "1", "gone")
		back := e.resume(newRequest("/report"), v.lastID())
		e.set(document("2"))
		advance(2 * time.Second)
		if got := back.got(); got[len(got)-1] != "2" || back.hasEnded() {
			t.Errorf("the viewer who comes back gets %q", got)
		}
	})
}

func TestWaitSlowsDownToMax(t *testing.T) {
	within(t, poll.Config{Interval: second, Max: 60 * second, Wait: true}, func(e *env) {
		e.set(status(http.StatusNotFound))
		e.subscribe(newRequest("/report"))
		advance(time.Hour)
		if n := e.polls(); n < 60 || n > 80 {
			t.Errorf("%d polls in an hour", n)
		}
	})
}

func TestViewerWhoWaitsIsNotAuthorizedByOthers(t *testing.T) {
	c := shared
	c.Wait, c.GoneAfter = true, 30*second
	within(t, c, func(e *env) {
		b := newCookieBackend(e)
		b.respond(status(http.StatusNotFound), "eve", "bob") // the backend hides what eve may not see
		eve, bob := e.subscribe(as("eve")), e.subscribe(as("bob"))
		b.respond(nil, "bob")
		advance(time.Minute)
		if !bob.hasEnded() {
			t.Error("bob doesn't reconnect to the shared view")
		}
		bob = e.subscribe(as("bob"))
		b.publish("2")
		advance(time.Minute)
		bob.want(t, "1", "2")
		eve.want(t, "stale")
		e.subscribe(as("eve")).want(t, "stale")
	})
}

func TestSharedViewWhoseDocumentIsMissingAdmitsNobody(t *testing.T) {
	c := shared
	c.GoneAfter = 30 * second
	within(t, c, func(e *env) {
		b := newCookieBackend(e)
		b.setDocument(document("1"))
		e.join("alice")
		b.respond(status(http.StatusNotFound), "eve")
		if got := e.subscribe(as("eve")).status(); got != http.StatusNotFound {
			t.Errorf("eve, who alone gets 404, is answered with %d", got)
		}
		b.setDocument(status(http.StatusNotFound))
		advance(3 * time.Second)
		bob := e.subscribe(as("bob"))
		bob.want(t, "stale")
		b.setDocument(document("2"))
		advance(5 * time.Second)
		if !bob.hasEnded() {
			t.Error("bob doesn't reconnect to the shared view")
		}
		e.subscribe(as("bob")).want(t, "2")
	})
}

func TestMissingDocumentIsNotAbsorbed(t *testing.T) {
	c := absorbing
	c.GoneAfter = 60 * second
	within(t, c, func(e *env) {
		e.set(asJSON(spaced))
		v := e.subscribe(newRequest("/doc"))
		e.set(status(http.StatusNotFound))
		advance(11 * time.Second)
		v.want(t, `{"stock":5,"rest":0.10}`, "stale")
		e.wantNotAbsorbed()
	})
}

func TestRetryAfterOf404DelaysItsNextPoll(t *testing.T) {
	within(t, poll.Config{Interval: second, GoneAfter: 10 * second}, func(e *env) {
		v := e.subscribe(newRequest("/doc"))
		resp := status(http.StatusNotFound)
		resp.Header.Set("Retry-After", "40")
		e.set(resp)
		advance(35 * time.Second)
		v.want(t, "1", "stale")
		advance(10 * time.Second)
		v.want(t, "1", "stale", "gone")
	})
}

func TestFileThatIsRegeneratedIsNeverGone(t *testing.T) {
	within(t, poll.Config{Interval: second, GoneAfter: 5 * second}, func(e *env) {
		n := 0
		e.setFunc(func(*http.Request) (*subrequest.Response, error) {
			if n++; n%2 == 0 {
				return status(http.StatusNotFound), nil
			}
			return document(fmt.Sprint(n)), nil
		})
		v := e.subscribe(newRequest("/doc"))
		advance(10 * time.Minute)
		if v.hasEnded() || e.polls() < 500 {
			t.Errorf("ended: %v, after %d polls", v.hasEnded(), e.polls())
		}
	})
}
