package store_test

import (
	"fmt"
	"testing"

	"github.com/caddy-sse/caddy-sse/store"
)

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
