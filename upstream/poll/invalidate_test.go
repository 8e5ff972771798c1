package poll_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// write invalidates /doc at regular times until d has passed.
func (e *env) write(every, d time.Duration) {
	for range d / every {
		e.Invalidate("example.com", "/doc")
		advance(every)
	}
}

// forget drops the polls recorded so far.
func (e *env) forget() {
	e.backend.mu.Lock()
	defer e.backend.mu.Unlock()
	e.began, e.at = time.Now(), nil
}

// wantPolls compares the times of the polls since the last forget.
func (e *env) wantPolls(want ...time.Duration) {
	e.t.Helper()
	e.backend.mu.Lock()
	defer e.backend.mu.Unlock()
	if !slices.Equal(e.at, want) {
		e.t.Errorf("polls at %v, want %v", e.at, want)
	}
}

// keepChanging makes the document differ in each response, so that a write is
// followed by no more polls than the one that it causes.
func (b *backend) keepChanging() {
	b.setFunc(func(*http.Request) (*subrequest.Response, error) { return document(fmt.Sprint(b.polls())), nil })
}

const ms = time.Millisecond

// aMinute has an interval long enough that only invalidations cause polls.
var aMinute = poll.Config{Interval: 60 * second}

func TestSingleInvalidationCostsOnePollAtOnce(t *testing.T) {
	within(t, aMinute, func(e *env) {
		e.keepChanging()
		e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.forget()
		e.Invalidate("example.com", "/doc")
		advance(10 * time.Second)
		e.wantPolls(0)
	})
}

func TestInvalidationAfterFirstPollCausesPoll(t *testing.T) {
	within(t, aMinute, func(e *env) {
		e.subscribe(newRequest("/doc"))
		e.Invalidate("example.com", "/doc")
		synctest.Wait()
		e.wantPolls(0, 0)
	})
}

func TestBurstCostsPollAtStartAndEnd(t *testing.T) {
	for _, takes := range []time.Duration{0, 10 * ms, 19 * ms, 21 * ms, 200 * ms, 450 * ms} {
		within(t, aMinute, func(e *env) {
			v := e.subscribe(newRequest("/doc"))
			advance(time.Second)
			e.forget()
			e.take(takes)
			e.write(5*ms, 500*ms-5*ms)
			e.set(document("2"))
			e.write(5*ms, 5*ms)
			advance(10 * time.Second)
			e.wantPolls(0, 515*ms)
			v.want(t, "1", "2")
		})
	}
}

func TestBurstOfTwoInvalidationsCostsTwoPolls(t *testing.T) {
	within(t, aMinute, func(e *env) {
		e.keepChanging()
		e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.forget()
		e.write(10*ms, 20*ms)
		advance(10 * time.Second)
		e.wantPolls(0, 30*ms)
	})
}

func TestEndlessBurstCostsOnePollPerSecond(t *testing.T) {
	for _, takes := range []time.Duration{0, 150 * ms} {
		within(t, aMinute, func(e *env) {
			e.subscribe(newRequest("/doc"))
			advance(time.Second)
			e.forget()
			e.take(takes)
			e.write(10*ms, 20*time.Second)
			polls := e.polls() - 1
			if polls < 17 || polls > 22 {
				t.Errorf("%d polls of %v within 20 s, at %v", polls, takes, e.at)
			}
			e.backend.mu.Lock()
			defer e.backend.mu.Unlock()
			for i := 1; i < len(e.at); i++ {
				if apart := e.at[i] - e.at[i-1]; apart > 1200*ms {
					t.Errorf("polls are %v apart: %v", apart, e.at)
				}
			}
		})
	}
}

func TestSeparateInvalidationsEachPollAtOnce(t *testing.T) {
	within(t, aMinute, func(e *env) {
		e.keepChanging()
		e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.forget()
		e.write(5*time.Second, 10*time.Second)
		e.wantPolls(0, 5*time.Second)
	})
}

func TestEachBurstPollsAtOnce(t *testing.T) {
	within(t, aMinute, func(e *env) {
		e.keepChanging()
		e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.forget()
		e.write(10*ms, 50*ms)
		advance(time.Second)
		e.write(10*ms, 50*ms)
		advance(10 * time.Second)
		e.wantPolls(0, 60*ms, 1050*ms, 1110*ms)
	})
}

func TestInvalidationDuringPollPollsOnceMoreAfterIt(t *testing.T) {
	within(t, aMinute, func(e *env) {
		e.take(2 * time.Second)
		v := e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.Invalidate("example.com", "/doc") // during the first
		advance(1500 * ms)
		e.set(document("2"))
		e.Invalidate("example.com", "/doc")
		advance(10 * time.Second)
		e.wantPolls(0, 2*time.Second, 4*time.Second)
		v.want(t, "1", "2")
	})
}

func TestInvalidationRespectsRetryAfter(t *testing.T) {
	for name, test := range map[string]struct {
		config poll.Config
		resp   *subrequest.Response
	}{
		"of a failure":                  {poll.Config{Interval: 2 * second}, &subrequest.Response{Status: 503, Header: http.Header{"Retry-After": {"20"}}}},
		"of a failure, long interval":   {aMinute, &subrequest.Response{Status: 429, Header: http.Header{"Retry-After": {"20"}}}},
		"of an answer":                  {poll.Config{Interval: 2 * second}, document("2", "Retry-After", "20")},
		"of an answer, longer interval": {aMinute, document("2", "Retry-After", "20")},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, test.config, func(e *env) {
				e.subscribe(newRequest("/doc"))
				advance(time.Second)
				e.set(test.resp)
				e.Invalidate("example.com", "/doc")
				synctest.Wait()
				e.set(document("3"))
				e.forget()
				e.write(time.Second, 15*time.Second)
				e.wantPolls()
				advance(5*time.Second - 1)
				e.wantPolls()
				advance(1) // the writes are not forgotten
				e.wantPolls(20 * time.Second)
			})
		})
	}
}

func TestInvalidationPollsFreshDocument(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.set(document("1", "Cache-Control", "max-age=600"))
		e.subscribe(newRequest("/doc"))
		advance(5 * time.Minute)
		e.wantPolls(0)
		e.Invalidate("example.com", "/doc")
		advance(0)
		e.wantPolls(0, 5*time.Minute)
	})
}

func TestInvalidationPollsFailingBackend(t *testing.T) {
	within(t, aMinute, func(e *env) {
		e.setError(errRefused)
		v := e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.set(document("1"))
		e.Invalidate("example.com", "/doc")
		synctest.Wait()
		v.want(t, "stale", "1")
	})
}

func TestInvalidationPollsSlowedView(t *testing.T) {
	within(t, poll.Config{Interval: 2 * second, Max: 60 * second}, func(e *env) {
		v := e.subscribe(newRequest("/doc"))
		advance(10 * time.Minute)
		polls := e.polls()
		e.set(document("2"))
		e.Invalidate("example.com", "/doc")
		synctest.Wait()
		v.want(t, "1", "2")
		advance(2 * time.Second)
		if e.polls() != polls+2 {
			t.Errorf("%d polls: the pause is not the interval again", e.polls()-polls)
		}
	})
}

func TestPauseGrowsToMaxWhileUnchanged(t *testing.T) {
	within(t, poll.Config{Interval: 2 * second, Max: 8 * second}, func(e *env) {
		e.subscribe(newRequest("/doc"))
		advance(34 * time.Second)
		e.wantPolls(0, 2*time.Second, 5*time.Second, 9500*ms, 16250*ms, 24250*ms, 32250*ms)
	})
}

func TestViewEndsDuringPause(t *testing.T) {
	for name, before := range map[string]func(e *env){
		"for its time": func(*env) {},
		"for the end of a burst": func(e *env) {
			e.write(10*ms, 50*ms)
		},
		"for what Retry-After says": func(e *env) {
			e.set(document("1", "Retry-After", "600"))
			e.Invalidate("example.com", "/doc")
			synctest.Wait()
			e.Invalidate("example.com", "/doc")
		},
		"for a backend that fails": func(e *env) {
			e.setError(errRefused)
			e.Invalidate("example.com", "/doc")
		},
	} {
		within(t, poll.Config{Interval: caddy.Duration(time.Hour), Linger: -1}, func(e *env) {
			v := e.subscribe(newRequest("/doc"))
			advance(time.Second)
			before(e)
			synctest.Wait()
			polls := e.polls()
			v.leave()
			e.Invalidate("example.com", "/doc")
			advance(2 * time.Hour)
			if e.polls() != polls || e.Views() != 0 {
				t.Errorf("%s: %d polls more, %d views", name, e.polls()-polls, e.Views())
			}
		})
	}
}

func TestInvalidationBelowRefreshPathPollsWholeRule(t *testing.T) {
	for path, concerned := range map[string]bool{
		"/checkout": true, "/checkout/": true, "/checkout/42": true, "/checkout/42/x": true, "/admin/stock/7": true,
		"/checkouts": false, "/check": false, "/Checkout": false, "/admin": false, "/admin/stocks": false, "/other": false,
		"/doc": true, "/": false, // only what is at a path, above or below it
	} {
		within(t, poll.Config{Interval: 60 * second, Refresh: []string{"/checkout", "/admin/stock/"}}, func(e *env) {
			e.keepChanging()
			e.subscribe(newRequest("/doc"))
			e.subscribe(newRequest("/doc/2", "Authorization", "x"))
			e.subscribe(newRequest("http://other.example.com/doc"))
			advance(time.Second)
			e.forget()
			e.Invalidate("example.com", "/elsewhere", path)
			synctest.Wait()
			want := map[bool][]time.Duration{true: {0, 0}}[concerned]
			if !slices.Equal(e.at, want) {
				t.Errorf("%s: polls at %v, want %v", path, e.at, want)
			}
			e.Invalidate("elsewhere.example.com", path)
			advance(time.Second)
			if !slices.Equal(e.at, want) {
				t.Errorf("%s of another host: polls at %v, want %v", path, e.at, want)
			}
		})
	}
}

func TestRootRefreshPathMatchesAllPaths(t *testing.T) {
	within(t, poll.Config{Interval: 60 * second, Refresh: []string{"/"}}, func(e *env) {
		e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.Invalidate("example.com", "/any/thing")
		synctest.Wait()
		e.wantPolls(0, time.Second)
	})
}

func TestRefreshOffIgnoresInvalidations(t *testing.T) {
	within(t, poll.Config{Interval: 60 * second, RefreshOff: true}, func(e *env) {
		e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.write(10*ms, time.Second)
		advance(time.Minute)
		e.wantPolls(0, time.Minute)
	})
}
