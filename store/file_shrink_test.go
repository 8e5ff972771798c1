package store_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

func sizeOf(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestFileSizeIsBoundedByHistory(t *testing.T) {
	path := pathOf(t)
	f := openFile(t, path)
	const perBatch = 100
	for seq := uint64(1); seq < 20_000; seq += perBatch {
		var records []store.IdempotencyRecord
		for i := range perBatch {
			key := store.HashedKey([]byte(fmt.Sprintf("%016d", seq+uint64(i))))
			records = append(records, store.IdempotencyRecord{Scope: "s", Key: key, Window: store.Window{MaxCount: 100}})
		}
		var entries []*store.Entry
		for i := range perBatch {
			entries = append(entries, entry(seq+uint64(i), strings.Repeat("x", 100), "a"))
		}
		if err := f.Append(entries, records); err != nil {
			t.Fatal(err)
		}
		if err := f.Trim(store.History{MaxEvents: 200}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if size := sizeOf(t, path); size > 512<<10 {
		t.Errorf("the file has %d bytes", size)
	}
}

// Readers read the file by position all the while.
func TestMostlyFreeFileShrinks(t *testing.T) {
	path := pathOf(t)
	f := openFile(t, path)
	const n = 120
	for seq := uint64(1); seq <= n; seq++ {
		fill(t, f, seq, 1, strings.Repeat("x", 400<<10))
	}
	large := sizeOf(t, path)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() { readWhile(t, f, done) })
	}
	now, smallest := time.Now(), large
	for i := range 10 {
		if err := f.Trim(store.History{MaxEvents: 25 - i}, now.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
		smallest = min(smallest, sizeOf(t, path))
	}
	close(done)
	readers.Wait()
	// It grows again while readers keep free pages from being reused.
	if size := sizeOf(t, path); large < 45<<20 || smallest > 13<<20 || size > 32<<20 {
		t.Errorf("the file had %d bytes, then %d, and has %d", large, smallest, size)
	}
	fill(t, f, n+1, 1, "y")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = openFile(t, path)
	if tail, head := f.Range(); tail != n-15 || head != n+1 {
		t.Errorf("the log is %d to %d", tail, head)
	}
	wantEntries(t, f, n-1, n, n+1)
	if names := namesBeside(t, path); len(names) != 1 {
		t.Errorf("there is more than the file: %q", names)
	}
}

func readWhile(t *testing.T, f *store.File, done <-chan struct{}) {
	for {
		select {
		case <-done:
			return
		default:
		}
		b, err := f.Read([]string{"a"}, 0, 1<<20, nil)
		if err != nil || len(b.Entries) == 0 || b.Entries[0].Seq != b.Tail {
			t.Errorf("%d entries from %d on, %v", len(b.Entries), b.Tail, err)
			return
		}
	}
}

func TestOpenShrinksMostlyFreeFile(t *testing.T) {
	path := pathOf(t)
	f := openFile(t, path)
	for seq := uint64(1); seq <= 100; seq++ {
		fill(t, f, seq, 1, strings.Repeat("x", 400<<10))
	}
	now := time.Now()
	for _, kept := range []int{100, 40} { // the first Trim looks at the size, the second within a minute doesn't
		if err := f.Trim(store.History{MaxEvents: kept}, now); err != nil {
			t.Fatal(err)
		}
	}
	epoch := f.Epoch()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	large := sizeOf(t, path)
	f = openFile(t, path)
	if size := sizeOf(t, path); large < 38<<20 || size > large*2/3 {
		t.Errorf("the file had %d bytes, and has %d", large, size)
	}
	if tail, head := f.Range(); tail != 61 || head != 100 || f.Epoch() != epoch {
		t.Errorf("the log is %d to %d", tail, head)
	}
}
