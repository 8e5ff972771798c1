package hub_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// stores returns one store of each kind.
func stores(t testing.TB) map[string]store.Store {
	t.Helper()
	f, err := store.OpenFile(filepath.Join(t.TempDir(), "log.db"), store.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]store.Store{"memory": store.NewMemory(), "file": f}
}

// fill publishes n events of about 100 bytes, the i-th on the topic topic(i).
func fill(t testing.TB, h *hub.Hub, n int, topic func(i int) string) {
	t.Helper()
	const together = 1000 // one sync of the file for a thousand events
	for first := 0; first < n; first += together {
		messages := make([]hub.Message, 0, together)
		for i := first; i < min(first+together, n); i++ {
			messages = append(messages, hub.Message{Topics: []string{topic(i)}, Event: event.Event{Data: fmt.Appendf(nil, "%-100d", i)}})
		}
		if _, err := h.PublishAll(messages, hub.IdempotencyKey{}); err != nil {
			t.Fatal(err)
		}
	}
}

// A cursor far behind reads every event of its topics in batches of bounded size,
// and then the events that were published meanwhile.
func TestReplayOfManyEventsUsesBoundedBatches(t *testing.T) {
	const events, live, maxBatch = 100_000, 10, 256 << 10
	topics := []string{"a", "b", "c"}
	onEach := func(i int) string { return topics[i%3] }
	for name, s := range stores(t) {
		h := newHubOn(t, s, store.History{})
		fill(t, h, events, onEach)
		c := subscribeAfter(t, h, 0, topics...)
		last, batches, largest := uint64(0), 0, 0
		var entries []*store.Entry
		for ; batches == 0 || !c.CaughtUp(); batches++ {
			if batches < 10 {
				fill(t, h, live, onEach)
			}
			var err error
			if entries, err = c.Next(maxBatch, entries[:0]); err != nil {
				t.Fatalf("%s: after %d: %v", name, last, err)
			}
			bytes := 0
			for _, e := range entries {
				if e.Seq != last+1 {
					t.Fatalf("%s: %d came after %d", name, e.Seq, last)
				}
				last = e.Seq
				bytes += len(e.Frame)
			}
			largest = max(largest, bytes)
		}
		if last != events+10*live {
			t.Errorf("%s: the replay ended at %d", name, last)
		}
		if largest > maxBatch || batches < 40 {
			t.Errorf("%s: it took %d batches of up to %d bytes", name, batches, largest)
		}
		publish(t, h, "afterwards", "b")
		wantRead(t, c, "afterwards")
	}
}

// BenchmarkResumeOnRareTopic resumes at any position on a topic with few events
// in a log with many.
func BenchmarkResumeOnRareTopic(b *testing.B) {
	for _, events := range []int{1_000, 10_000, 100_000} {
		for name, s := range stores(b) {
			h := newHubOn(b, s, store.History{})
			fill(b, h, events, func(i int) string {
				if i%(events/100) == events/200 {
					return "rare" // a hundred events in every log
				}
				return "busy"
			})
			b.Run(fmt.Sprintf("%s/events=%d", name, events), func(b *testing.B) {
				topics := []string{"rare"}
				var entries []*store.Entry
				b.ReportAllocs()
				b.ResetTimer()
				for i := range b.N {
					from, ok := h.Resolve(h.Position(uint64(i*7919%events)+1), nil)
					if !ok {
						b.Fatal("the position is unknown")
					}
					c := h.SubscribeAfter(topics, from)
					var err error
					if entries, err = c.Next(1, entries[:0]); err != nil {
						b.Fatal(err)
					}
					c.Close()
				}
			})
		}
	}
}
