package poll_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func TestWriteWhoseEffectComesLateIsFollowedByPolls(t *testing.T) {
	for late, seen := range map[time.Duration]time.Duration{
		0:                0,
		100 * ms:         300 * ms,
		999 * ms:         time.Second,
		1800 * ms:        3 * time.Second,
		2999 * ms:        3 * time.Second,
		10 * time.Second: 63 * time.Second, // the clock finds it
	} {
		within(t, aMinute, func(e *env) {
			v := e.subscribe(newRequest("/doc"))
			advance(time.Second)
			e.forget()
			time.AfterFunc(late, func() { e.set(document("2")) })
			e.Invalidate("example.com", "/doc")
			if late == 0 {
				e.set(document("2"))
			}
			advance(seen - 1)
			if seen > 0 {
				v.want(t, "1")
			}
			advance(1)
			v.want(t, "1", "2")
		})
	}
}

func TestWriteDuringAFollowUpsWaitIsFollowedByPolls(t *testing.T) {
	c := aMinute
	c.MaxInFlight = 1
	within(t, c, func(e *env) {
		v := e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if r.URL.Path == "/other" {
				time.Sleep(2 * time.Second)
			}
			return document("1"), nil
		})
		e.Invalidate("example.com", "/doc")
		advance(2900 * ms)
		e.start(newRequest("/other"), new(caller), "") // it has the slot until 4.9 s
		advance(1100 * ms)
		e.forget()
		e.Invalidate("example.com", "/doc") // the follow-up of 3 s waits
		advance(900 * ms)
		e.wantPolls(900 * ms)
		e.set(document("2"))
		advance(300 * ms)
		e.wantPolls(900*ms, 1200*ms)
		v.want(t, "1", "2")
	})
}

func TestFollowUpsEndWithTheFirstChange(t *testing.T) {
	within(t, aMinute, func(e *env) {
		e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.forget()
		e.Invalidate("example.com", "/doc")
		advance(500 * ms)
		e.set(document("2"))
		advance(30 * time.Second)
		e.wantPolls(0, 300*ms, time.Second)
	})
}

func TestWriteThatChangesNothingCostsThreeFollowUps(t *testing.T) {
	within(t, aMinute, func(e *env) {
		e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.forget()
		e.Invalidate("example.com", "/doc")
		advance(30 * time.Second)
		e.wantPolls(0, 300*ms, time.Second, 3*time.Second)
	})
}

func TestFollowUpsNeitherDelayNorMultiplyFrequentPolls(t *testing.T) {
	within(t, poll.Config{Interval: second / 4}, func(e *env) {
		e.subscribe(newRequest("/doc"))
		advance(time.Second + 100*ms)
		e.forget()
		e.Invalidate("example.com", "/doc")
		advance(4 * time.Second)
		if n := e.polls(); n < 15+5 || n > 19+5 {
			t.Errorf("polls at %v", e.at)
		}
		for i := 1; i < len(e.at); i++ {
			if e.at[i]-e.at[i-1] > 250*ms {
				t.Errorf("polls at %v", e.at)
			}
		}
	})
}

func TestWriteResetsPauseAndItsPollsAreNotQuiet(t *testing.T) {
	within(t, poll.Config{Interval: 2 * second, Max: 60 * second}, func(e *env) {
		e.subscribe(newRequest("/doc"))
		advance(10 * time.Minute)
		e.forget()
		e.Invalidate("example.com", "/doc")
		advance(10 * time.Second)
		e.wantPolls(0, 300*ms, time.Second, 3*time.Second, 5*time.Second, 8*time.Second)
	})
}

func TestFollowUpsIgnoreMaxAgeAndObeyRetryAfter(t *testing.T) {
	within(t, aMinute, func(e *env) {
		e.set(document("1", "Cache-Control", "max-age=600"))
		e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.forget()
		e.Invalidate("example.com", "/doc")
		advance(800 * ms)
		e.set(document("1", "Retry-After", "20"))
		advance(20 * time.Second)
		e.wantPolls(0, 300*ms, time.Second)
		advance(time.Second)
		e.wantPolls(0, 300*ms, time.Second, 21*time.Second)
	})
}

func TestFollowUpsOfSlowBackendLeaveItPauses(t *testing.T) {
	within(t, aMinute, func(e *env) {
		e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.forget()
		e.take(5 * time.Second)
		e.Invalidate("example.com", "/doc")
		advance(30 * time.Second)
		e.wantPolls(0, 5300*ms, 11*time.Second, 18*time.Second)
	})
}

func TestFailingBackendIsGivenTimeAfterWrite(t *testing.T) {
	within(t, aMinute, func(e *env) {
		v := e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.forget()
		e.set(status(http.StatusServiceUnavailable))
		e.Invalidate("example.com", "/doc")
		advance(2 * time.Second) // it is less than half of the first pause
		e.wantPolls(0)
		e.set(document("1"))
		advance(20 * time.Second)
		v.want(t, "1", "stale", "1")
	})
}

// Nobody but the write's own burst is at once; a flood of writes has a bounded rate.
func TestWritesOfStrangersCauseAtMostTwoPollsPerSecond(t *testing.T) {
	for _, every := range []time.Duration{ms, 10 * ms, 25 * ms, 100 * ms, 301 * ms, 700 * ms, 1100 * ms} {
		for _, changes := range []bool{false, true} {
			within(t, aMinute, func(e *env) {
				if changes {
					e.keepChanging()
				}
				e.subscribe(newRequest("/doc"))
				advance(time.Second)
				before := e.polls()
				e.write(every, 60*time.Second)
				if n := e.polls() - before; n > 10+2*60 || n < 40 {
					t.Errorf("a write every %v caused %d polls within a minute", every, n)
				}
				advance(10 * time.Second)
				e.forget()
				before = e.polls()
				e.Invalidate("example.com", "/doc")
				synctest.Wait()
				if e.polls() != before+1 {
					t.Errorf("after writes every %v, the next one waits", every)
				}
			})
		}
	}
}

func TestFollowUpsOfManyViewsKeepToMaxInFlight(t *testing.T) {
	c := aMinute
	c.MaxInFlight, c.Refresh = 4, []string{"/"}
	within(t, c, func(e *env) {
		for i := range 40 {
			e.start(newRequest(fmt.Sprint("/doc/", i)), new(caller), "")
		}
		advance(time.Second)
		running, most := 0, 0
		e.setFunc(func(*http.Request) (*subrequest.Response, error) {
			e.mu.Lock()
			running++
			most = max(most, running)
			e.mu.Unlock()
			time.Sleep(10 * ms)
			e.mu.Lock()
			running--
			e.mu.Unlock()
			return document("1"), nil
		})
		before := e.polls()
		e.Invalidate("example.com", "/any")
		advance(30 * time.Second)
		if n := e.polls() - before; most > 4 || n != 4*40 {
			t.Errorf("%d polls, up to %d at a time", n, most)
		}
	})
}
