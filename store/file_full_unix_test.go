//go:build unix

package store_test

import (
	"fmt"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

// limitFiles makes files that grow beyond a size fail, as on a full disk, until
// the returned function is called.
func limitFiles(t *testing.T, size int64) (lift func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		t.Fatal(err)
	}
	limit := before
	limit.Cur = uint64(size)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	lifted := false
	lift = func() {
		if lifted {
			return
		}
		lifted = true
		signal.Reset(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(lift)
	return lift
}

func TestFullDiskRefusesEventsUntilSpaceIsFree(t *testing.T) {
	path := pathOf(t)
	f := openFile(t, path)
	head := uint64(0)
	next := func() error {
		e := entry(head+1, strings.Repeat("x", 10_000), "a")
		e.Given = true
		key := store.HashedKey([]byte(fmt.Sprintf("%016d", e.Seq)))
		err := f.Append([]*store.Entry{e}, []store.IdempotencyRecord{{Scope: "s", Key: key, Time: e.Time}})
		if err == nil {
			head++
		}
		_, gotHead := f.Range()
		_, _, record := f.IdempotencyRecord("s", key)
		if ok := err == nil; gotHead != head || record != ok || (f.Lookup(e.ID) != nil) != ok {
			t.Fatalf("%v, and the log ends at %d instead of %d (record: %v)", err, gotHead, head, record)
		}
		return err
	}
	untilFull := func() {
		t.Helper()
		for next() == nil {
			if head > 10_000 {
				t.Fatal("the disk is never full")
			}
		}
	}
	lift := limitFiles(t, 2<<20)
	untilFull()
	kept := head
	if err := next(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("the append to a full disk returns %v", err)
	}
	if _, err := f.Read([]string{"a"}, 0, 1<<20, nil); err != nil {
		t.Errorf("reading from a full disk: %v", err)
	}
	lift()
	for range 100 {
		if err := next(); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = openFile(t, path)
	if tail, got := f.Range(); tail != 1 || got != kept+100 {
		t.Errorf("the log is %d to %d, want 1 to %d", tail, got, kept+100)
	}
}

func TestTrimFreesSpaceOnFullDisk(t *testing.T) {
	f := openFile(t, pathOf(t))
	defer limitFiles(t, 2<<20)()
	seq := uint64(1)
	for ; f.Append([]*store.Entry{entry(seq, strings.Repeat("x", 10_000), "a")}, nil) == nil; seq++ {
		if seq > 10_000 {
			t.Fatal("the disk is never full")
		}
	}
	if err := f.Trim(store.History{MaxEvents: 10}, time.Now()); err != nil {
		t.Errorf("nothing can be removed from a full disk: %v", err)
	}
	for range 100 {
		appendTo(t, f, entry(seq, strings.Repeat("x", 10_000), "a"))
		seq++
		if err := f.Trim(store.History{MaxEvents: 10}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
}
