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

func TestFileIsAStore(t *testing.T) {
	storetest.RunDurable(t, func(t *testing.T, dir string) store.Store { return openFile(t, filepath.Join(dir, "log.db")) })
}

// openFile opens a file that is closed when the test ends, if it isn't then.
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

// fillPercent appends n entries on the topic a from a position on.
func fillPercent(t testing.TB, s store.Store, from uint64, n int, data string) {
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

func TestACrashLosesNothingThatWasAppended(t *testing.T) {
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
		fillPercent(t, again, seq+1, 1, "after the crash")
		if err := again.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFileIsForItsOwnerOnly(t *testing.T) {
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

func TestAFileThatIsInUseIsRefusedSoon(t *testing.T) {
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

func TestAFileIsWaitedForWhileItsProcessEnds(t *testing.T) {
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

func TestFilesThatAreMadeAtTheSameMomentAreOne(t *testing.T) {
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

func TestWhatACrashLeftHalfMadeIsRemoved(t *testing.T) {
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

// damages are ways in which a file may be no log any more.
var damages = map[string]func(content []byte) []byte{
	"cut in half":    func(b []byte) []byte { return b[:len(b)/2] },
	"cut to a page":  func(b []byte) []byte { return b[:4096] },
	"empty":          func([]byte) []byte { return nil },
	"another's":      func([]byte) []byte { return []byte("{\"this\": \"is something else\"}\n") },
	"no beginning":   func(b []byte) []byte { clear(b[:8192]); return b },
	"only beginning": func(b []byte) []byte { clear(b[8192:]); return b },
	"noise": func(b []byte) []byte {
		for i := range b[8192:] {
			b[8192+i] = byte(i * 7)
		}
		return b
	},
	"another topic": func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("topic-of-this"), []byte("topic-of-that")) },
}

// damagedFile returns the path of a log of a few large events that has been
// damaged, and what is in it now.
func damagedFile(t *testing.T, damage func([]byte) []byte) (path string, content []byte) {
	t.Helper()
	path = pathOf(t)
	f := openFile(t, path)
	for seq := uint64(1); seq <= 50; seq++ {
		appendTo(t, f, entry(seq, strings.Repeat("x", 3000), "a", "topic-of-this"))
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err == nil {
		content = damage(content)
		err = os.WriteFile(path, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path, content
}

func TestADamagedFileIsRefusedAndLeftAsItIs(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			path, content := damagedFile(t, damage)
			for range 2 {
				f, err := store.OpenFile(path, store.FileOptions{Wait: time.Second})
				if !errors.Is(err, store.ErrDamaged) || f != nil || !strings.Contains(err.Error(), path) {
					t.Fatalf("%v", err)
				}
			}
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, content) {
				t.Errorf("the file has been changed: %v", err)
			}
		})
	}
}

func TestADamagedFileIsReplacedIfThatIsAskedFor(t *testing.T) {
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			path, content := damagedFile(t, damage)
			var aside string
			f, err := store.OpenFile(path, store.FileOptions{OnReplace: func(to string, cause error) {
				aside = to
				if !errors.Is(cause, store.ErrDamaged) {
					t.Error(cause)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if now, err := os.ReadFile(aside); err != nil || !bytes.Equal(now, content) {
				t.Errorf("%q is not the damaged file: %v", aside, err)
			}
			if tail, head := f.Range(); tail != 1 || head != 0 {
				t.Errorf("the new log is %d to %d", tail, head)
			}
			appendTo(t, f, entry(1, "x", "a"))
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			wantEntries(t, openFile(t, path), 0, 1)
		})
	}
}

func TestAFrameThatIsDamagedIsNeverSent(t *testing.T) {
	path, _ := damagedFile(t, func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte("xxxxx"), []byte("xxxyx"))
	})
	f := openFile(t, path) // the frames are not read yet
	if b, err := f.Read([]string{"a"}, 0, 1<<20, nil); !errors.Is(err, store.ErrDamaged) || len(b.Entries) > 0 {
		t.Errorf("%d entries, %v", len(b.Entries), err)
	}
	if e := f.Entry(1); e != nil {
		t.Errorf("%+v", e)
	}
	appendTo(t, f, entry(51, "x", "a"))
	wantEntries(t, f, 50, 51)
}

func TestWhatIsNoDamageReplacesNothing(t *testing.T) {
	path := pathOf(t)
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := store.OpenFile(path, store.FileOptions{OnReplace: func(string, error) { t.Error("it was set aside") }})
	if err == nil || errors.Is(err, store.ErrDamaged) {
		t.Errorf("a directory: %v", err)
	}
}

// What is written to a file without a name is acknowledged, and gone.
func TestAFileThatIsRemovedWhileItIsInUseTakesNoMore(t *testing.T) {
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

func sizeOf(t testing.TB, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestAFileGrowsWithItsHistoryOnly(t *testing.T) {
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

// What is in the file is read by position all the while.
func TestAFileThatIsMostlyFreeGetsSmaller(t *testing.T) {
	path := pathOf(t)
	f := openFile(t, path)
	const n = 120
	for seq := uint64(1); seq <= n; seq++ {
		fillPercent(t, f, seq, 1, strings.Repeat("x", 400<<10))
	}
	large := sizeOf(t, path)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() { readWhile(t, f, done) })
	}
	now := time.Now()
	for i := range 10 {
		if err := f.Trim(store.History{MaxEvents: 25 - i}, now.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	readers.Wait()
	if size := sizeOf(t, path); large < 45<<20 || size > 18<<20 {
		t.Errorf("the file had %d bytes, and has %d", large, size)
	}
	fillPercent(t, f, n+1, 1, "y")
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

func TestAFileThatWasMostlyFreeIsOpenedSmaller(t *testing.T) {
	path := pathOf(t)
	f := openFile(t, path)
	for seq := uint64(1); seq <= 100; seq++ {
		fillPercent(t, f, seq, 1, strings.Repeat("x", 400<<10))
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

// manyEvents makes a file of 100,000 events.
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
	fillPercent(b, f, 1, 10_000, "x")
	buf := make([]*store.Entry, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		batch, err := f.Read([]string{"a"}, 9999, 1<<20, buf[:0])
		if err != nil || len(batch.Entries) != 1 {
			b.Fatalf("%+v, %v", batch, err)
		}
	}
}

// Of a log that was just opened nothing is in memory.
func BenchmarkFileReadOfWhatIsNotInMemory(b *testing.B) {
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
