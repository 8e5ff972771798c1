package poll_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// outdated returns a backend that responds to one browser otherwise, and to all
// others with the document 1. Both responses have a Vary header.
func outdated(resp *subrequest.Response, vary string) func(*http.Request) (*subrequest.Response, error) {
	resp.Header.Set("Vary", vary)
	return func(r *http.Request) (*subrequest.Response, error) {
		if r.Header.Get("User-Agent") == "old" {
			return resp, nil
		}
		return document("1", "Vary", vary), nil
	}
}

var refusals = []int{204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 410, 418, 451}

var failures = []int{408, 425, 429, 500, 502, 503, 504}

func TestVaryOfRefusalSeparatesWaitingViewers(t *testing.T) {
	for _, code := range refusals {
		for _, vary := range []string{"User-Agent", "accept, USER-AGENT", "*"} {
			within(t, poll.Config{}, func(e *env) {
				e.setFunc(outdated(status(code), vary))
				e.take(time.Second)
				old, current, other := e.subscribe(newRequest("/doc", "User-Agent", "old")), e.subscribe(newRequest("/doc", "User-Agent", "new")), e.subscribe(newRequest("/doc"))
				advance(10 * time.Second)
				if got := old.status(); got != code {
					t.Errorf("%d, Vary: %s: the refused viewer got %d", code, vary, got)
				}
				current.want(t, "1")
				other.want(t, "1")
			})
		}
	}
}

func TestVaryOfFailureSeparatesWaitingViewers(t *testing.T) {
	for _, code := range failures {
		within(t, poll.Config{}, func(e *env) {
			e.setFunc(outdated(status(code), "User-Agent"))
			e.take(time.Second)
			old, current := e.subscribe(newRequest("/doc", "User-Agent", "old")), e.subscribe(newRequest("/doc", "User-Agent", "new"))
			advance(10 * time.Second)
			old.want(t, "stale")
			current.want(t, "1")
		})
	}
}

// The backend may begin at any time to respond to one browser otherwise.
func TestVaryOfRefusalSeparatesCurrentViewers(t *testing.T) {
	for _, code := range append(refusals, failures...) {
		within(t, poll.Config{}, func(e *env) {
			old, current := e.subscribe(newRequest("/doc", "User-Agent", "old")), e.subscribe(newRequest("/doc", "User-Agent", "new"))
			e.setFunc(outdated(status(code), "User-Agent"))
			advance(3 * time.Second)
			for _, v := range []*viewer{old, current} {
				if v.want(t, "1"); !v.hasEnded() {
					t.Fatalf("%d: the viewers still share a view", code)
				}
			}
			e.resume(newRequest("/doc", "User-Agent", "new"), current.lastID()).want(t, "1")
			again := e.resume(newRequest("/doc", "User-Agent", "old"), old.lastID())
			if subrequest.IsFailure(code) {
				again.want(t, "stale")
			} else if got := again.status(); got != code {
				t.Errorf("the refused viewer got %d, want %d", got, code)
			}
		})
	}
}

// Without Vary, a hint makes no difference.
func TestRefusalWithoutVaryIsForAllWaitingViewers(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.set(status(http.StatusForbidden))
		e.take(time.Second)
		for _, agent := range []string{"old", "new", "newer"} {
			defer func(v *viewer) {
				if got := v.status(); got != http.StatusForbidden {
					t.Errorf("%s got %d", agent, got)
				}
			}(e.subscribe(newRequest("/doc", "User-Agent", agent)))
		}
		advance(10 * time.Second)
		if e.polls() != 1 {
			t.Errorf("%d requests, want 1", e.polls())
		}
	})
}

func TestVaryOfResponseThatBreaksOffSeparatesWaitingViewers(t *testing.T) {
	for err, want := range map[error][]string{subrequest.ErrTooLarge: nil, subrequest.ErrAborted: {"stale"}} {
		within(t, poll.Config{}, func(e *env) {
			e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
				if r.Header.Get("User-Agent") == "old" {
					return document("", "Vary", "User-Agent"), err
				}
				return document("1", "Vary", "User-Agent"), nil
			})
			e.take(time.Second)
			old, current := e.subscribe(newRequest("/doc", "User-Agent", "old")), e.subscribe(newRequest("/doc", "User-Agent", "new"))
			advance(10 * time.Second)
			if got := old.got(); !slices.Equal(got, want) {
				t.Errorf("%v: the viewer got %q, want %q", err, got, want)
			}
			current.want(t, "1")
		})
	}
}

// A check of a shared view is the viewer's own request.
func TestVaryOfCheckIsHeeded(t *testing.T) {
	for _, code := range append(refusals, failures...) {
		for _, first := range []string{"old", "new"} {
			within(t, shared, func(e *env) {
				e.setFunc(outdated(status(code), "User-Agent"))
				e.take(500 * ms)
				viewers := map[string]*viewer{}
				viewers[first] = e.subscribe(as("alice", "User-Agent", first))
				for _, agent := range []string{"old", "new"} {
					if agent != first {
						viewers[agent] = e.subscribe(as("bob", "User-Agent", agent))
					}
				}
				carol := e.subscribe(as("carol", "User-Agent", "new"))
				advance(4 * time.Second)
				viewers["new"].want(t, "1")
				carol.want(t, "1")
				if subrequest.IsFailure(code) {
					viewers["old"].want(t, "stale")
				} else if got := viewers["old"].status(); got != code {
					t.Errorf("%d, %s first: the refused viewer got %d", code, first, got)
				}
			})
		}
	}
}

// The backend still fails for one browser.
func TestOutageIsNotOverWhenFailureSeparatesViewers(t *testing.T) {
	logged(t, poll.Config{Interval: second}, func(e *env, log *observer.ObservedLogs) {
		v := e.subscribe(newRequest("/doc", "User-Agent", "old"))
		e.set(status(http.StatusServiceUnavailable))
		advance(time.Second)
		v.want(t, "1", "stale")
		e.setFunc(outdated(status(http.StatusServiceUnavailable), "User-Agent"))
		advance(10 * time.Second)
		if !v.hasEnded() {
			t.Error("the viewer is not separated")
		}
		wantLines(t, log, "warn example.com 503")
	})
}

// Polls carry the first viewer's browser. The refusal that another viewer gets
// with it is not the one that counts for the view.
func TestVaryOfRefusalThatDoesNotCountIsHeeded(t *testing.T) {
	for _, alices := range []*subrequest.Response{document("1"), status(http.StatusServiceUnavailable)} {
		within(t, shared, func(e *env) {
			alice, bob := e.subscribe(as("alice", "User-Agent", "new")), e.subscribe(as("bob", "User-Agent", "old"))
			e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
				switch {
				case r.Header.Get("Cookie") == "alice":
					return alices, nil
				case r.Header.Get("User-Agent") == "new":
					resp := status(http.StatusForbidden)
					resp.Header.Set("Vary", "User-Agent")
					return resp, nil
				default:
					return document("1"), nil
				}
			})
			advance(3 * time.Second)
			if !alice.hasEnded() || !bob.hasEnded() && !bob.isRevoked() {
				t.Errorf("the viewers still share a view while alice gets %d", alices.Status)
			}
			e.resume(as("bob", "User-Agent", "old"), bob.lastID()).want(t, "1")
			if e.Views() != 1 {
				t.Errorf("%d views, want bob's", e.Views())
			}
		})
	}
}
