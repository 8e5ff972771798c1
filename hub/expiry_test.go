package hub_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// countingTrim is a store that counts calls of Trim.
type countingTrim struct {
	*store.Memory
	calls int
}

func (s *countingTrim) Trim(history store.History, now time.Time) error {
	s.calls++
	return s.Memory.Trim(history, now)
}

func TestTimerRunsOnlyWhileAnEventCanExpire(t *testing.T) {
	for name, c := range map[string]struct {
		history   store.History
		published int
		most      int // calls of Trim
	}{
		"no maximum age":             {store.History{MaxEvents: 5}, 1, 1},
		"an empty log":               {store.History{MaxAge: time.Minute}, 0, 1},
		"a log that becomes empty":   {store.History{MaxAge: time.Minute}, 1, 3},
		"events that expire at once": {store.History{MaxAge: time.Minute}, 5, 7},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &countingTrim{Memory: store.NewMemory()}
				h := newHubOn(t, s, c.history)
				if c.published == 0 {
					h.SetHistory(c.history)
				}
				for range c.published {
					publish(t, h, "x", "a")
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				if s.calls > c.most {
					t.Errorf("Trim was called %d times in an hour, want at most %d", s.calls, c.most)
				}
				if _, ok := s.Oldest(); ok != (c.history.MaxAge == 0) {
					t.Errorf("the log holds an event: %v", ok)
				}
			})
		})
	}
}

func TestClosedHubNeverTouchesItsStore(t *testing.T) {
	s := &countingTrim{Memory: store.NewMemory()}
	h := hub.New(s, store.History{MaxAge: time.Hour})
	publish(t, h, "x", "a")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	before := s.calls
	h.SetHistory(store.History{MaxEvents: 1})
	if s.calls != before {
		t.Error("a closed store is trimmed")
	}
}
