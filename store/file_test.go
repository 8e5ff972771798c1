package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/store/storetest"
)

func TestFileImplementsStore(t *testing.T) {
	storetest.RunDurable(t, func(t *testing.T, dir string) store.Store { return openFile(t, filepath.Join(dir, "log.db")) })
}

// openFile opens a file and closes it when the test ends.
func openFile(t testing.TB, path string) *store.File {
	t.Helper()
	f, err := store.OpenFile(path, store.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func pathOf(t testing.TB) string { return filepath.Join(t.TempDir(), "sse", "default.db") }

func entry(seq uint64, data string, topics ...string) *store.Entry {
	return &store.Entry{Seq: seq, Time: time.Unix(int64(seq), 0), Topics: topics, ID: fmt.Sprint("e-", seq), Frame: event.Frame("data: " + data + "\n\n")}
}

func appendTo(t testing.TB, s store.Store, entries ...*store.Entry) {
	t.Helper()
	if err := s.Append(entries, nil); err != nil {
		t.Fatal(err)
	}
}

// fill appends n entries on the topic a, the first at the position from.
func fill(t testing.TB, s store.Store, from uint64, n int, data string) {
	t.Helper()
	var batch []*store.Entry
	for i := range n {
		batch = append(batch, entry(from+uint64(i), data, "a"))
	}
	appendTo(t, s, batch...)
}

func wantEntries(t testing.TB, s store.Store, after uint64, want ...uint64) {
	t.Helper()
	b, err := s.Read([]string{"a"}, after, 1<<30, nil)
	var got []uint64
	for _, e := range b.Entries {
		got = append(got, e.Seq)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("after %d: %v, %v, want %v", after, got, err, want)
	}
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestCrashLosesNoAppendedEvent(t *testing.T) {
	path, crashed := pathOf(t), pathOf(t)
	if err := os.Mkdir(filepath.Dir(crashed), 0o700); err != nil {
		t.Fatal(err)
	}
	f := openFile(t, path)
	key := store.HashedKey{1, 2, 3}
	for seq := uint64(1); seq <= 20; seq++ {
		record := store.IdempotencyRecord{Scope: "s", Key: key, Time: time.Unix(int64(seq), 0), Outcome: fmt.Sprint(seq)}
		if err := f.Append([]*store.Entry{entry(seq, "x", "a")}, []store.IdempotencyRecord{record}); err != nil {
			t.Fatal(err)
		}
		if err := f.Trim(store.History{MaxEvents: 5}, time.Now()); err != nil {
			t.Fatal(err)
		}
		copyFile(t, path, crashed)
		again := openFile(t, crashed)
		if tail, head := again.Range(); head != seq || tail > max(1, seq-min(seq, 5)+1) || again.Epoch() != f.Epoch() || !bytes.Equal(again.Secret(), f.Secret()) {
			t.Errorf("after %d the log is %d to %d", seq, tail, head)
		}
		if at, answer, ok := again.IdempotencyRecord("s", key); !ok || answer != fmt.Sprint(seq) || !at.Equal(time.Unix(int64(seq), 0)) {
			t.Errorf("after %d the record says %q, %v, %v", seq, answer, at, ok)
		}
		wantEntries(t, again, seq-1, seq)
		fill(t, again, seq+1, 1, "after the crash")
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFileIsReadableByOwnerOnly(t *testing.T) {
	path := pathOf(t)
	openFile(t, path)
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	if names := namesBeside(t, path); len(names) != 1 {
		t.Errorf("there is more than the file: %q", names)
	}
}

func namesBeside(t *testing.T, path string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestFileInUseIsRefusedAfterWait(t *testing.T) {
	path := pathOf(t)
	f := openFile(t, path)
	appendTo(t, f, entry(1, "x", "a"))
	begun := time.Now()
	_, err := store.OpenFile(path, store.FileOptions{Wait: 200 * time.Millisecond, OnReplace: func(string, error) { t.Error("it was set aside") }})
	if err == nil || errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), "another process has had it open") || time.Since(begun) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
	appendTo(t, f, entry(2, "x", "a"))
	wantEntries(t, f, 0, 1, 2)
}

func TestOpenWaitsForProcessThatEnds(t *testing.T) {
	path := pathOf(t)
	f := openFile(t, path)
	appendTo(t, f, entry(1, "x", "a"))
	var wg sync.WaitGroup
	wg.Go(func() {
		again, err := store.OpenFile(path, store.FileOptions{Wait: time.Minute})
		if err != nil {
			t.Error(err)
			return
		}
		wantEntries(t, again, 0, 1)
		if err := again.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestConcurrentOpensCreateOneLog(t *testing.T) {
	path := pathOf(t)
	epochs := make(chan string, 8)
	var wg sync.WaitGroup
	for range cap(epochs) {
		wg.Go(func() {
			f, err := store.OpenFile(path, store.FileOptions{Wait: time.Minute})
			if err != nil {
				t.Error(err)
				return
			}
			epochs <- f.Epoch()
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(epochs)
	first := <-epochs
	for epoch := range epochs {
		if epoch != first {
			t.Errorf("%s and %s", first, epoch)
		}
	}
}

func TestLeftoverTempFilesAreRemoved(t *testing.T) {
	path := pathOf(t)
	if err := openFile(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".new-123", ".damaged-123"} {
		if err := os.WriteFile(path+name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openFile(t, path)
	if got, want := namesBeside(t, path), []string{"default.db", "default.db.damaged-123"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// An append to a file without a name would be acknowledged, and lost.
func TestRemovedFileRefusesAppends(t *testing.T) {
	for what, spoil := range map[string]func(path string) error{
		"removed": os.Remove,
		"replaced": func(path string) error {
			copyFile(t, path, path+".backup")
			return os.Rename(path+".backup", path)
		},
	} {
		path := pathOf(t)
		f := openFile(t, path)
		appendTo(t, f, entry(1, "x", "a"))
		if err := spoil(path); err != nil {
			t.Fatal(err)
		}
		if err := f.Append([]*store.Entry{entry(2, "x", "a")}, nil); err == nil || errors.Is(err, store.ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
		wantEntries(t, f, 0, 1)
		if err := f.Close(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
