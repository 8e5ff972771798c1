package storetest

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

func read(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.add("a", "b", "a", "c", "b", "a")
	l.append(l.entry("x", "a", "b"))
	l.wantRead([]uint64{1, 3, 6, 7}, 0, "a")
	l.wantRead([]uint64{6, 7}, 3, "a")
	l.wantRead([]uint64{6, 7}, 4, "a")
	l.wantRead([]uint64{7}, 6, "a")
	l.wantRead([]uint64{}, 7, "a")
	l.wantRead([]uint64{1, 2, 3, 5, 6, 7}, 0, "a", "b")
	l.wantRead([]uint64{1, 2, 3, 5, 6, 7}, 0, "a", "b", "d")
	l.wantRead([]uint64{4, 5, 7}, 2, "b", "c")
	l.wantRead([]uint64{}, 0, "d", "e")
	l.wantRead([]uint64{}, 0)
}

// A reader may have more topics than there are entries after its position.
func readManyTopics(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	topics := make([]string, 500)
	for i := range topics {
		topics[i] = fmt.Sprintf("many/%03d", i)
	}
	l.add("other", topics[0], topics[250], "other", topics[499], "zz", topics[7])
	l.append(l.entry("x", topics[3], topics[4], "zzz"))
	want := []uint64{2, 3, 5, 7, 8}
	for after := range uint64(10) {
		l.wantRead(append([]uint64{}, want[sort.Search(len(want), func(i int) bool { return want[i] > after }):]...), after, topics...)
	}
	one := len(s.Entry(2).Frame)
	if b := l.read(1, 2*one, topics...); !slices.Equal(positions(b.Entries), []uint64{2, 3}) || !b.More || b.UpTo != 3 {
		t.Errorf("two entries: %v up to %d, more: %t", positions(b.Entries), b.UpTo, b.More)
	}
	if b := l.read(1, 0, topics...); !slices.Equal(positions(b.Entries), []uint64{2}) || !b.More || b.UpTo != 2 {
		t.Errorf("at least one entry: %v up to %d, more: %t", positions(b.Entries), b.UpTo, b.More)
	}
	l.trim(store.History{MaxEvents: 3}, 0)
	l.wantRead([]uint64{7, 8}, 0, topics...)
	l.wantRead([]uint64{7, 8}, 5, topics...)
}

func readAppends(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.add("a", "b", "a")
	for _, topics := range [][]string{{"a"}, {"a", "b"}, {"c"}, {}} {
		mine := &store.Entry{Seq: 99}
		b, err := s.Read(topics, 1, 1<<20, append(make([]*store.Entry, 0, 16), mine))
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Entries) == 0 || b.Entries[0] != mine {
			t.Fatalf("%q: what was in the buffer is gone: %+v", topics, b.Entries)
		}
		want := positions(l.read(1, 1<<20, topics...).Entries)
		if got := positions(b.Entries[1:]); !slices.Equal(got, want) {
			t.Errorf("%q: read %v, want %v", topics, got, want)
		}
	}
}

func boundedRead(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.add("a", "b", "a", "a", "b")
	one := len(s.Entry(1).Frame)
	for _, c := range []struct {
		max  int
		want []uint64
		upTo uint64
	}{
		{0, []uint64{1}, 1},
		{-1, []uint64{1}, 1},
		{one, []uint64{1}, 1},
		{2*one - 1, []uint64{1}, 1},
		{2 * one, []uint64{1, 3}, 3},
		{3 * one, []uint64{1, 3, 4}, 5},
		{1 << 40, []uint64{1, 3, 4}, 5},
	} {
		b := l.read(0, c.max, "a")
		if got := positions(b.Entries); !slices.Equal(got, c.want) || b.UpTo != c.upTo || b.More != (c.upTo < 5) {
			t.Errorf("%d bytes: %v up to %d (more: %v), want %v up to %d", c.max, got, b.UpTo, b.More, c.want, c.upTo)
		}
	}
	if b := l.read(4, 0, "a"); len(b.Entries) != 0 || b.UpTo != 5 || b.More {
		t.Errorf("nothing is left, and read as %+v", b)
	}
}

func boundedMerge(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	large := strings.Repeat("x", 5000)
	l.append(
		l.entry("x", "a"), l.entry(large, "b"), l.entry("x", "c"), l.entry("x", "a", "c"),
		l.entry(large, "a", "b", "c"), l.entry("x", "b"), l.entry("x", "d"),
	)
	for _, topics := range [][]string{{"a", "b"}, {"a", "b", "c"}, {"b", "c"}, {"c", "d"}, {"d", "a"}} {
		want := positions(l.read(0, 1<<20, topics...).Entries)
		for _, maxBytes := range []int{0, 1, 10, 50, 100, 4000, 5100, 6000, 10100} {
			if got := l.readAll(maxBytes, topics...); !slices.Equal(got, want) {
				t.Errorf("%q by %d bytes: %v, want %v", topics, maxBytes, got, want)
			}
		}
	}
}

// readAll reads to the end, a bounded read at a time.
func (l *log) readAll(maxBytes int, topics ...string) []uint64 {
	l.Helper()
	got := make([]uint64, 0, 16)
	for after := uint64(0); ; {
		b := l.read(after, maxBytes, topics...)
		got = append(got, positions(b.Entries)...)
		if !b.More {
			return got
		}
		if b.UpTo <= after {
			l.Fatalf("reading %q after %d goes nowhere: %+v", topics, after, b)
		}
		after = b.UpTo
	}
}

func readSaysTail(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.add("a", "b", "b", "b")
	l.trim(store.History{MaxEvents: 2}, 0)
	for _, topic := range []string{"a", "b", "c"} {
		if b := l.read(0, 1<<20, topic); b.Tail != 3 {
			t.Errorf("%s: the tail is read as %d", topic, b.Tail)
		}
	}
	l.trim(store.History{MaxAge: 1}, time.Hour)
	if b := l.read(0, 1<<20, "b"); b.Tail != 5 || b.UpTo != 4 {
		t.Errorf("an emptied log is read as %+v", b)
	}
}
