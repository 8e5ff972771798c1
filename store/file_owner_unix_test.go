//go:build unix && !solaris && !aix

package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"
)

// openUnlocked opens a file whose lock has no effect, as on some network and
// desktop file systems.
func openUnlocked(t *testing.T, path string) *File {
	t.Helper()
	f, err := OpenFile(path, FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	unlock(f.db.file)
	return f
}

// appendNext appends an event with an id to the end of the log as f knows it.
func appendNext(f *File, id string) error {
	_, head := f.Range()
	return f.Append([]*Entry{{Seq: head + 1, Time: time.Unix(1, 0), Topics: []string{"a"}, ID: id, Given: true, Frame: []byte(id)}}, nil)
}

func TestStoreStopsWhenAnotherOpensItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	first := openUnlocked(t, path)
	if err := appendNext(first, "first"); err != nil {
		t.Fatal(err)
	}
	second := openUnlocked(t, path)
	for range 2 {
		if err := appendNext(first, "lost"); !errors.Is(err, errChanged) || errors.Is(err, ErrDamaged) {
			t.Errorf("the first store appends: %v", err)
		}
	}
	if err := first.Close(); !errors.Is(err, errChanged) {
		t.Errorf("the first store is closed: %v", err)
	}
	for i := range 5 {
		if err := appendNext(second, fmt.Sprint("second", i)); err != nil {
			t.Fatalf("the second store appends: %v", err)
		}
	}
	if second.Lookup("first") == nil || second.Lookup("lost") != nil || second.Lookup("second4") == nil {
		t.Error("the log is not what was acknowledged")
	}
}

// A program that doesn't know of marks, such as an earlier version, is noticed by
// its transaction.
func TestStoreStopsWhenItsFileIsWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f := openUnlocked(t, path)
	if err := appendNext(f, "before"); err != nil {
		t.Fatal(err)
	}
	other, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Update(func(*bbolt.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := appendNext(f, "after"); !errors.Is(err, errChanged) {
		t.Errorf("the store appends: %v", err)
	}
}

// A store that lost its file while it was writing may overwrite what its successor
// writes, so the successor waits for it.
func TestStoreWaitsForWriteInProgress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	first := openUnlocked(t, path)
	if err := appendNext(first, "first"); err != nil {
		t.Fatal(err)
	}
	writing, finish := make(chan struct{}), make(chan struct{})
	var stores sync.WaitGroup
	stores.Go(func() {
		err := first.commit(func(tx *bbolt.Tx) error {
			close(writing)
			<-finish
			return bucketsOf(tx).putEntries(1, entriesOf(2, 2, "lost"))
		})
		if !errors.Is(err, errChanged) {
			t.Errorf("the first store writes: %v", err)
		}
	})
	<-writing
	opened := make(chan *File)
	stores.Go(func() {
		second, err := OpenFile(path, FileOptions{Wait: time.Minute})
		if err != nil {
			t.Error(err)
		}
		opened <- second
	})
	for owner := first.db.mark; owner == first.db.mark || owner == (ownerMark{}); {
		m, err := first.db.readMarks(0)
		if err != nil {
			t.Fatal(err)
		}
		owner = m.owner
	}
	select {
	case <-opened:
		t.Error("the second store is open while the first is writing")
	default:
	}
	close(finish)
	second := <-opened
	if second != nil {
		if err := appendNext(second, "second"); err != nil {
			t.Error(err)
		}
		if second.Lookup("first") == nil || second.Lookup("second") == nil {
			t.Error("an acknowledged event is lost")
		}
		_ = second.Close()
	}
	stores.Wait()
}

func TestTwoStoresOnOneFileLoseNoAcknowledgedEvent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var acknowledged []string
	opened := 0
	for round := range 5 {
		first := openUnlocked(t, path)
		var mu sync.Mutex
		appending := make(chan struct{}) // closed when the first has appended some
		appendUntilFailure := func(f *File, name string, limit int) {
			for i := range limit {
				id := fmt.Sprint(name, round, "-", i)
				if err := appendNext(f, id); err != nil {
					if !errors.Is(err, errChanged) {
						t.Errorf("%s: %v", id, err)
					}
					return
				}
				mu.Lock()
				acknowledged = append(acknowledged, id)
				mu.Unlock()
				if f == first && i == 3 {
					close(appending)
				}
			}
		}
		var stores sync.WaitGroup
		stores.Go(func() { appendUntilFailure(first, "first", 60) })
		stores.Go(func() {
			<-appending
			second, err := OpenFile(path, FileOptions{Wait: 200 * time.Millisecond, OnReplace: func(_ string, err error) { t.Errorf("the file is replaced: %v", err) }})
			if err != nil {
				if !errors.Is(err, errChanged) {
					t.Errorf("opening: %v", err)
				}
				return
			}
			opened++
			appendUntilFailure(second, "second", 20)
			_ = second.Close()
		})
		stores.Wait()
		_ = first.Close()
	}
	f := openUnlocked(t, path)
	for _, id := range acknowledged {
		if e := f.Lookup(id); e == nil || string(e.Frame) != id {
			t.Errorf("%s is lost", id)
		}
	}
	t.Logf("%d events are acknowledged, the second store opened the file %d times", len(acknowledged), opened)
	if opened == 0 {
		t.Error("the second store never opened the file")
	}
}
