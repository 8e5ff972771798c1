package hub_test

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

var benchEvent = event.Event{Data: []byte(strings.Repeat("x", 200))}

// benchHub returns a hub with subscribers of the topic "a", and other subscribers
// of one topic each.
func benchHub(b *testing.B, subscribers, others int) *hub.Hub {
	h := newHub(b, store.History{MaxEvents: 10000})
	for range subscribers {
		subscribe(b, h, "a")
	}
	for i := range others {
		subscribe(b, h, fmt.Sprint("other/", i))
	}
	return h
}

func BenchmarkPublish(b *testing.B) {
	for _, n := range []struct{ subscribers, others int }{{0, 0}, {1, 0}, {100, 0}, {10000, 0}, {1, 10000}} {
		b.Run(fmt.Sprintf("subscribers=%d/others=%d", n.subscribers, n.others), func(b *testing.B) {
			h := benchHub(b, n.subscribers, n.others)
			topics := []string{"a"}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := h.Publish(topics, benchEvent); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPublishFromManyGoroutines(b *testing.B) {
	for _, subscribers := range []int{0, 100} {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			h := benchHub(b, subscribers, 0)
			topics := []string{"a"}
			b.ReportAllocs()
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, _, err := h.Publish(topics, benchEvent); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkPublishToStore compares stores. With a file, Publish returns after a
// sync, which concurrent publishers share.
func BenchmarkPublishToStore(b *testing.B) {
	for name, open := range map[string]func(b *testing.B) store.Store{
		"memory": func(*testing.B) store.Store { return store.NewMemory() },
		"file": func(b *testing.B) store.Store {
			f, err := store.OpenFile(filepath.Join(b.TempDir(), "log.db"), store.FileOptions{})
			if err != nil {
				b.Fatal(err)
			}
			return f
		},
	} {
		for _, publishers := range []int{1, 10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/publishers=%d", name, publishers), func(b *testing.B) {
				benchPublishers(b, newHubOn(b, open(b), store.History{MaxEvents: 10000}), publishers)
			})
		}
	}
}

func benchPublishers(b *testing.B, h *hub.Hub, publishers int) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range publishers {
		wg.Go(func() {
			for n := left.Add(-1); n >= 0; n = left.Add(-1) {
				_, err := h.PublishAll([]hub.Message{{Topics: []string{"a"}, Event: benchEvent}}, hub.IdempotencyKey{Scope: "s", ID: strconv.FormatInt(n, 10)})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkCursorNext reads one event at a time, far behind the log's head.
func BenchmarkCursorNext(b *testing.B) {
	for _, topics := range [][]string{{"a"}, {"a", "b", "c", "d"}} {
		b.Run(fmt.Sprintf("topics=%d", len(topics)), func(b *testing.B) {
			h := newHub(b, store.History{})
			const n = 10000
			for range n {
				publish(b, h, "x", "a")
			}
			buf := make([]*store.Entry, 0, 8)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				c := h.SubscribeAfter(topics, uint64(i%n))
				var err error
				if buf, err = c.Next(1, buf[:0]); err != nil || len(buf) != 1 {
					b.Fatal(len(buf), err)
				}
				c.Close()
			}
		})
	}
}

// BenchmarkPublishAndNext publishes an event, waits for the wake-up and reads it.
func BenchmarkPublishAndNext(b *testing.B) {
	h := newHub(b, store.History{MaxEvents: 10000})
	c := subscribe(b, h, "a")
	buf := make([]*store.Entry, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		publish(b, h, "x", "a")
		<-c.Ready()
		var err error
		if buf, err = c.Next(1<<18, buf[:0]); err != nil || len(buf) != 1 {
			b.Fatal(len(buf), err)
		}
	}
}

func BenchmarkSubscribeAndClose(b *testing.B) {
	h := benchHub(b, 10000, 0)
	topics := []string{"a"}
	b.ReportAllocs()
	for b.Loop() {
		h.Subscribe(topics).Close()
	}
}

// The number of allocations per event must not grow with the subscribers.
func TestPublishAllocatesNothingPerSubscriber(t *testing.T) {
	allocs := func(subscribers int) float64 {
		h := newHub(t, store.History{MaxEvents: 100})
		for range subscribers {
			subscribe(t, h, "a")
		}
		topics := []string{"a"}
		return testing.AllocsPerRun(1000, func() {
			if _, _, err := h.Publish(topics, benchEvent); err != nil {
				t.Fatal(err)
			}
		})
	}
	none, few, many := allocs(0), allocs(200), allocs(2000)
	if many > few+0.5 || few > none+2.5 || none > 12 { // a goroutine wakes more than a hundred
		t.Errorf("%.1f allocations without subscribers, %.1f with 200, %.1f with 2000", none, few, many)
	}
}

// BenchmarkSubscribers counts the subscribers of all topics of a large publish
// while 1,000 cursors are on ten of the topics each. It shows the time for one
// topic, which must not grow with their number.
func BenchmarkSubscribers(b *testing.B) {
	for _, count := range []int{100, 1000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("topics=%d", count), func(b *testing.B) {
			h := hub.New(store.NewMemory(), store.History{})
			topics := make([]string, count)
			for i := range topics {
				topics[i] = fmt.Sprint("topic/", i)
			}
			for i := range 1000 {
				first := i % (count / 10) * 10
				defer h.Subscribe(topics[first : first+10]).Close()
			}
			for b.Loop() {
				if n := h.Subscribers(topics); n != 1000 {
					b.Fatalf("%d subscribers", n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(count), "ns/topic")
		})
	}
}

// BenchmarkPublishAmongManyTopics publishes on a topic with one subscriber, while
// other topics have one each, and while the subscriber is on many topics. Neither
// number may matter.
func BenchmarkPublishAmongManyTopics(b *testing.B) {
	for _, n := range []struct{ topics, perSubscriber int }{{1, 1}, {1000, 1}, {100_000, 1}, {1000, 1000}} {
		b.Run(fmt.Sprintf("topics=%d/of-subscriber=%d", n.topics, n.perSubscriber), func(b *testing.B) {
			h := newHub(b, store.History{MaxEvents: 1000})
			topics := make([]string, n.topics)
			for i := range topics {
				topics[i] = fmt.Sprint("topic/", i)
			}
			var first *hub.Cursor
			for i := 0; i < len(topics); i += n.perSubscriber {
				c := subscribe(b, h, topics[i:i+n.perSubscriber]...)
				if first == nil {
					first = c
				}
			}
			buf := make([]*store.Entry, 0, 8)
			b.ReportAllocs()
			for b.Loop() {
				publish(b, h, "x", topics[0])
				<-first.Ready()
				var err error
				if buf, err = first.Next(1<<18, buf[:0]); err != nil || len(buf) != 1 {
					b.Fatal(len(buf), err)
				}
			}
		})
	}
}
