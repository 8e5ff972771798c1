package store_test

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/store/storetest"
)

func TestMemoryImplementsStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store {
		m := store.NewMemory()
		t.Cleanup(func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
		return m
	})
}

func TestEachLogHasItsOwnEpochAndSecret(t *testing.T) {
	a, b := store.NewMemory(), store.NewMemory()
	if a.Epoch() == b.Epoch() || slices.Equal(a.Secret(), b.Secret()) {
		t.Errorf("%q and %q", a.Epoch(), b.Epoch())
	}
}

func TestEntryIsOnItsTopicsOnly(t *testing.T) {
	e := &store.Entry{Topics: []string{"a", "b/c"}}
	for topic, want := range map[string]bool{"a": true, "b/c": true, "b": false, "": false, "A": false} {
		if e.On(topic) != want {
			t.Errorf("%q: %v", topic, e.On(topic))
		}
	}
}

func TestEntrySizeCountsFrameIDAndTopics(t *testing.T) {
	var empty store.Entry
	e := store.Entry{ID: "12", Topics: []string{"abc", "defg"}, Frame: make(event.Frame, 1000)}
	if got := e.Size() - empty.Size(); got != 1009 {
		t.Errorf("%d bytes more than an empty one", got)
	}
}

// The garbage collector must be able to free trimmed entries, though the log keeps
// its arrays.
func TestTrimmedEntriesAreFreed(t *testing.T) {
	m := store.NewMemory()
	var freed int
	counted := make(chan struct{}, 100)
	for seq := uint64(1); seq <= 100; seq++ {
		e := &store.Entry{Seq: seq, Time: time.Now(), Topics: []string{"a"}, ID: "x", Frame: event.Frame(strings.Repeat("x", 1000))}
		runtime.AddCleanup(e, func(int) { counted <- struct{}{} }, 0)
		if err := m.Append([]*store.Entry{e}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Trim(store.History{MaxEvents: 10}, time.Now()); err != nil {
		t.Fatal(err)
	}
	for freed < 90 {
		runtime.GC()
		select {
		case <-counted:
			freed++
		case <-t.Context().Done():
			t.Fatalf("%d of 90 have been freed", freed)
		}
	}
	if tail, head := m.Range(); tail != 91 || head != 100 {
		t.Errorf("the log is %d to %d", tail, head)
	}
}

func BenchmarkMemoryAppendAndTrim(b *testing.B) {
	m := store.NewMemory()
	frame := event.Frame(strings.Repeat("x", 200))
	topics := []string{"orders/42"}
	batch := make([]*store.Entry, 1)
	now := time.Now()
	b.ReportAllocs()
	for i := range b.N {
		batch[0] = &store.Entry{Seq: uint64(i + 1), Time: now, Topics: topics, ID: "x", Frame: frame}
		_ = m.Append(batch, nil)
		_ = m.Trim(store.History{MaxEvents: 10000}, now)
	}
}

func BenchmarkMemoryReadAtTheHead(b *testing.B) {
	m := store.NewMemory()
	for seq := uint64(1); seq <= 10000; seq++ {
		_ = m.Append([]*store.Entry{{Seq: seq, Time: time.Now(), Topics: []string{"a"}, Frame: event.Frame("data: x\n\n")}}, nil)
	}
	buf := make([]*store.Entry, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		batch, err := m.Read([]string{"a"}, 9999, 1<<20, buf[:0])
		if err != nil || len(batch.Entries) != 1 {
			b.Fatalf("%+v, %v", batch, err)
		}
	}
}
