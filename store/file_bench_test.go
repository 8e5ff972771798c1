package store_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/store"
)

// manyEvents creates a file of 100,000 events and returns its path.
func manyEvents(b *testing.B) string {
	path := pathOf(b)
	f := openFile(b, path)
	data := strings.Repeat("x", 200)
	for seq := uint64(1); seq < 100_000; seq += 1000 {
		var batch []*store.Entry
		for i := range uint64(1000) {
			batch = append(batch, entry(seq+i, data, fmt.Sprint("orders/", (seq+i)%5000)))
		}
		appendTo(b, f, batch...)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

func BenchmarkFileOpenWith100000Events(b *testing.B) {
	path := manyEvents(b)
	b.ReportAllocs()
	for b.Loop() {
		f, err := store.OpenFile(path, store.FileOptions{})
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFileReadAtTheHead(b *testing.B) {
	f := openFile(b, pathOf(b))
	fill(b, f, 1, 10_000, "x")
	buf := make([]*store.Entry, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		batch, err := f.Read([]string{"a"}, 9999, 1<<20, buf[:0])
		if err != nil || len(batch.Entries) != 1 {
			b.Fatalf("%+v, %v", batch, err)
		}
	}
}

// A log that was just opened has no entry in memory.
func BenchmarkFileReadUncached(b *testing.B) {
	f := openFile(b, manyEvents(b))
	buf := make([]*store.Entry, 0, 1000)
	b.ReportAllocs()
	for b.Loop() {
		batch, err := f.Read([]string{"orders/7"}, 50_000, 1<<20, buf[:0])
		if err != nil || len(batch.Entries) != 10 {
			b.Fatalf("%d, %v", len(batch.Entries), err)
		}
	}
}

// BenchmarkFileAppend appends one event and one idempotency record, as a webhook
// does, to a log with a bounded history.
func BenchmarkFileAppend(b *testing.B) {
	f := openFile(b, pathOf(b))
	seq := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		seq++
		key := store.HashedKey([]byte(fmt.Sprintf("%016d", seq)))
		e := entry(seq, "x", "a")
		record := store.IdempotencyRecord{Scope: "s", Key: key, Time: e.Time, Window: store.Window{MaxCount: 1000}}
		if err := f.Append([]*store.Entry{e}, []store.IdempotencyRecord{record}); err != nil {
			b.Fatal(err)
		}
		if seq%100 == 0 {
			if err := f.Trim(store.History{MaxEvents: 1000}, e.Time); err != nil {
				b.Fatal(err)
			}
		}
	}
}
