package hub_test

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

func TestCursorsAtOnePositionShareReading(t *testing.T) {
	h := newHub(t, store.History{})
	a, b := subscribe(t, h, "x"), subscribe(t, h, "x")
	publish(t, h, "1", "x")
	publish(t, h, "2", "x")
	r, err := a.Read(1 << 20)
	if err != nil || len(r.Entries()) != 2 {
		t.Fatalf("%d entries, %v", len(r.Entries()), err)
	}
	if !b.Share(r) || !b.CaughtUp() || b.Position() != a.Position() || b.Lag() != 0 {
		t.Errorf("the other cursor is at %s with a lag of %d, want %s", b.Position(), b.Lag(), a.Position())
	}
}

func TestCursorSharesNoReadingThatDiffersFromItsOwn(t *testing.T) {
	h, other := newHub(t, store.History{}), newHub(t, store.History{})
	publish(t, h, "0", "x")
	publish(t, other, "0", "x")
	cursors := map[string]*hub.Cursor{
		"other topics":     subscribe(t, h, "y"),
		"more topics":      subscribe(t, h, "x", "y"),
		"other hub":        subscribe(t, other, "x"),
		"earlier position": h.SubscribeAfter([]string{"x"}, 0),
		"newer event":      subscribe(t, h, "x"),
	}
	a := subscribe(t, h, "x")
	publish(t, h, "1", "x")
	r, err := a.Read(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, h, "2", "x")
	for name, c := range cursors {
		position := c.Position()
		if c.Share(r) || c.Position() != position {
			t.Errorf("%s: the cursor shares the reading", name)
		}
		c.Close()
	}
}

// The readers share what they can while events are published and dropped. Each
// reads every event once and in order.
func TestSharedReadingsMissNothing(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 5000})
	const events, readers = 3000, 8
	var latest atomic.Pointer[hub.Reading]
	var wg sync.WaitGroup
	var shared atomic.Int64
	for range readers {
		c := subscribe(t, h, "x")
		wg.Go(func() {
			var got []uint64
			for len(got) < events {
				<-c.Ready()
				for first := true; first || !c.CaughtUp(); first = false {
					r := latest.Load()
					if r != nil && c.Share(r) {
						shared.Add(1)
					} else {
						var err error
						if r, err = c.Read(2000); err != nil {
							t.Error(err)
							return
						}
						latest.Store(r)
					}
					got = append(got, seqsOf(r.Entries())...)
				}
			}
			if len(got) != events || !slices.IsSorted(got) || len(slices.Compact(got)) != events {
				t.Errorf("%d events, sorted: %t", len(got), slices.IsSorted(got))
			}
		})
	}
	for range events {
		publish(t, h, "event", "x")
	}
	wg.Wait()
	t.Logf("%d readings were shared", shared.Load())
}

// The hub wakes many subscribers after it has acknowledged the event, and before
// it appends the next.
func TestManySubscribersReadEachEventAlthoughHistoryDropsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{MaxEvents: 2})
		cursors := make([]*hub.Cursor, 1000)
		for i := range cursors {
			cursors[i] = subscribe(t, h, "x")
		}
		late := subscribe(t, h, "x")
		for range 3 {
			publish(t, h, "event", "x")
			synctest.Wait()
			for i, c := range cursors {
				select {
				case <-c.Ready():
				default:
					t.Fatalf("cursor %d was not woken", i)
				}
				if entries, err := c.Next(1000, nil); err != nil || len(entries) != 1 {
					t.Fatalf("cursor %d read %d entries, %v", i, len(entries), err)
				}
			}
		}
		if _, err := late.Next(1000, nil); err != hub.ErrLost {
			t.Errorf("a cursor that missed an event got %v", err)
		}
	})
}
