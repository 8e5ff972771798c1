package store_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
)

// BenchmarkReadManyTopics reads a whole log of 100 topics in bounded batches,
// as a client that comes back after a long time does. It shows the time for one
// event, which must not depend on the number of events.
func BenchmarkReadManyTopics(b *testing.B) {
	for _, events := range []int{1e4, 1e5, 1e6} {
		b.Run(fmt.Sprintf("memory/%d", events), func(b *testing.B) {
			benchmarkReadManyTopics(b, store.NewMemory(), events)
		})
	}
	b.Run("file/10000", func(b *testing.B) {
		f, err := store.OpenFile(filepath.Join(b.TempDir(), "log"), store.FileOptions{})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = f.Close() })
		benchmarkReadManyTopics(b, f, 1e4)
	})
}

func benchmarkReadManyTopics(b *testing.B, s store.Store, events int) {
	const topics, batch = 100, 1000
	names := make([]string, topics)
	for i := range names {
		names[i] = fmt.Sprint("topic/", i)
	}
	frame, err := event.Event{ID: "id", Data: make([]byte, 200)}.Encode()
	if err != nil {
		b.Fatal(err)
	}
	for first := 0; first < events; first += batch {
		var entries []*store.Entry
		for i := first; i < first+batch; i++ {
			entries = append(entries, &store.Entry{Seq: uint64(i + 1), Time: time.Now(), Topics: names[i%topics : i%topics+1], Frame: frame})
		}
		if err := s.Append(entries, nil); err != nil {
			b.Fatal(err)
		}
	}
	var buf []*store.Entry
	for b.Loop() {
		read, after := 0, uint64(0)
		for {
			batch, err := s.Read(names, after, 256<<10, buf[:0])
			if err != nil {
				b.Fatal(err)
			}
			read += len(batch.Entries)
			if buf, after = batch.Entries, batch.UpTo; !batch.More {
				break
			}
		}
		if read != events {
			b.Fatalf("read %d of %d events", read, events)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(events), "ns/event")
}
