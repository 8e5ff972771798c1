package storetest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-sse/caddy-sse/store"
)

// model makes random calls to stores, and compares the results with those of a
// simple model.
func model(t *testing.T, open func(t *testing.T) store.Store) {
	rapid.Check(t, func(rt *rapid.T) { rt.Repeat(newWalker(t, open(t)).actions()) })
}

func newWalker(t *testing.T, s store.Store) *walker {
	return &walker{log: &log{TB: t, Store: s}, naive: &naiveLog{tail: 1, windows: make(map[string]store.Window)}}
}

func (w *walker) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"append": w.append,
		"record": w.putRecords,
		"trim":   w.trim,
		"read":   w.read,
		"":       w.check,
	}
}

// naiveLog is the model: a list.
type naiveLog struct {
	entries []*store.Entry
	tail    uint64
	now     time.Duration

	records []store.IdempotencyRecord // in their order
	windows map[string]store.Window   // by scope
}

func (m *naiveLog) trim(h store.History, now time.Time) {
	size := func() (n int64) {
		for _, e := range m.entries {
			n += e.Size()
		}
		return n
	}
	for len(m.entries) > 0 {
		n := len(m.entries)
		tooOld := h.MaxAge > 0 && now.Sub(m.entries[0].Time) >= h.MaxAge
		tooMany := h.MaxEvents > 0 && n > h.MaxEvents
		tooLarge := h.MaxBytes > 0 && size() > h.MaxBytes
		if !tooOld && (n == 1 || !tooMany && !tooLarge) {
			return
		}
		m.entries = m.entries[1:]
		m.tail++
	}
}

func (m *naiveLog) after(seq uint64, topics []string) []uint64 {
	got := make([]uint64, 0)
	for _, e := range m.entries {
		if e.Seq > seq && slices.ContainsFunc(topics, e.On) {
			got = append(got, e.Seq)
		}
	}
	return got
}

type walker struct {
	log   *log
	naive *naiveLog
}

var names = []string{"a", "b", "c", "d", "e"}

func topics(t *rapid.T, atLeast int) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(names), atLeast, 4, rapid.ID[string]).Draw(t, "topics")
}

func (w *walker) append(t *rapid.T) {
	var batch []*store.Entry
	for range rapid.IntRange(1, 4).Draw(t, "entries") {
		data := strings.Repeat("x", rapid.IntRange(0, 200).Draw(t, "bytes"))
		topics := topics(t, 1)
		if rapid.Bool().Draw(t, "given") {
			batch = append(batch, w.log.given(fmt.Sprintf("g%d", w.log.head), data, topics...))
		} else {
			batch = append(batch, w.log.entry(data, topics...))
		}
	}
	records := w.drawRecords(t, 0)
	w.log.commit(batch, records...)
	w.naive.entries = append(w.naive.entries, batch...)
	w.naive.putRecords(records)
}

func (w *walker) trim(t *rapid.T) {
	w.naive.now = max(w.naive.now, time.Duration(w.log.head)*time.Second)
	h := store.History{
		MaxEvents: rapid.IntRange(0, 30).Draw(t, "events"),
		MaxBytes:  rapid.Int64Range(0, 10000).Draw(t, "size"),
		MaxAge:    time.Duration(rapid.IntRange(0, 30).Draw(t, "seconds")) * time.Second,
	}
	w.log.trim(h, w.naive.now)
	w.naive.trim(h, start.Add(w.naive.now))
	w.naive.expire(start.Add(w.naive.now))
}

// read reads from a random position to the end, in batches of random sizes.
func (w *walker) read(t *rapid.T) {
	topics := topics(t, 0)
	after := rapid.Uint64Range(0, w.log.head).Draw(t, "after")
	want := w.naive.after(after, topics)
	got := make([]uint64, 0, len(want))
	for more := true; more; {
		maxBytes := rapid.IntRange(0, 800).Draw(t, "maxBytes")
		b := w.log.read(after, maxBytes, topics...)
		if b.Tail != w.naive.tail || b.UpTo < after || b.More && b.UpTo == after {
			t.Fatalf("after %d: %+v, and the tail is %d", after, b, w.naive.tail)
		}
		size := 0
		for _, e := range b.Entries {
			size += len(e.Frame)
		}
		if size > maxBytes && len(b.Entries) > 1 {
			t.Fatalf("%d bytes are read, of at most %d", size, maxBytes)
		}
		got = append(got, positions(b.Entries)...)
		after, more = b.UpTo, b.More
	}
	if !slices.Equal(got, want) || after != w.log.head {
		t.Fatalf("%q: read %v up to %d, want %v up to %d", topics, got, after, want, w.log.head)
	}
}

func (w *walker) check(t *rapid.T) {
	m, s := w.naive, w.log.Store
	tail, head := s.Range()
	if tail != m.tail || head != w.log.head {
		t.Fatalf("the log is %d to %d, want %d to %d", tail, head, m.tail, w.log.head)
	}
	oldest, ok := s.Oldest()
	if ok != (len(m.entries) > 0) || ok && !oldest.Equal(m.entries[0].Time) {
		t.Fatalf("the time of the oldest is %v, %v", oldest, ok)
	}
	for seq := max(1, tail-1); seq <= head+1; seq++ {
		i, held := slices.BinarySearchFunc(m.entries, seq, func(e *store.Entry, seq uint64) int { return cmp.Compare(e.Seq, seq) })
		e := s.Entry(seq)
		if held != (e != nil) || held && e.ID != m.entries[i].ID {
			t.Fatalf("at %d is %+v", seq, e)
		}
		if held && (s.Lookup(e.ID) != nil) != e.Given {
			t.Fatalf("%q (given: %v) is looked up as %+v", e.ID, e.Given, s.Lookup(e.ID))
		}
	}
	w.checkRecords(t)
	for _, name := range names {
		want := m.after(0, []string{name})
		e := s.Last(name)
		if (e != nil) != (len(want) > 0) || e != nil && e.Seq != want[len(want)-1] {
			t.Fatalf("the last on %s is %+v, want the last of %v", name, e, want)
		}
	}
}
