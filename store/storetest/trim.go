package storetest

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

func trimByCount(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.add("a", "b", "a", "b", "a")
	l.trim(store.History{MaxEvents: 5}, 0)
	l.wantRange(1, 5)
	l.trim(store.History{MaxEvents: 3}, 0)
	l.wantRange(3, 5)
	if s.Entry(2) != nil || s.Entry(3) == nil {
		t.Error("what is trimmed is not what is too old")
	}
	l.trim(store.History{MaxEvents: 1}, 0)
	l.wantRange(5, 5)
}

func trimByAge(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.add("a", "a", "a") // at 1, 2 and 3 s
	h := store.History{MaxAge: 10 * time.Second}
	l.trim(h, 11*time.Second-1)
	l.wantRange(1, 3)
	l.trim(h, 11*time.Second)
	l.wantRange(2, 3)
	if oldest, _ := s.Oldest(); !oldest.Equal(start.Add(2 * time.Second)) {
		t.Errorf("the oldest is of %v", oldest)
	}
	l.trim(h, time.Hour)
	l.wantRange(4, 3)
	if _, ok := s.Oldest(); ok {
		t.Error("there is an oldest entry")
	}
}

func trimBySize(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	large := strings.Repeat("x", 100<<10)
	l.append(l.entry("x", "a"), l.entry(large, "a"), l.entry(large, "a"))
	size := s.Entry(2).Size() + s.Entry(3).Size()
	l.trim(store.History{MaxBytes: size}, 0)
	l.wantRange(2, 3)
	l.trim(store.History{MaxBytes: size - 1}, 0)
	l.wantRange(3, 3)
	l.trim(store.History{MaxBytes: 1}, 0)
	l.wantRange(3, 3)
	l.append(l.entry("x", "a"))
	l.trim(store.History{MaxBytes: 10 << 10}, 0)
	l.wantRange(4, 4)
}

func noBound(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.add("a", "a", "a")
	l.trim(store.History{}, 1000*time.Hour)
	l.wantRange(1, 3)
}

func allBounds(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	for range 10 {
		l.add("a")
	}
	h := store.History{MaxEvents: 8, MaxAge: time.Minute, MaxBytes: 1 << 20}
	l.trim(h, 0)
	l.wantRange(3, 10)
	l.trim(h, time.Minute+5*time.Second)
	l.wantRange(6, 10)
	h.MaxBytes = s.Entry(9).Size() + s.Entry(10).Size()
	l.trim(h, time.Minute+5*time.Second)
	l.wantRange(9, 10)
}

func positionsGoOn(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.add("a", "a")
	l.trim(store.History{MaxAge: 1}, time.Hour)
	l.wantRange(3, 2)
	l.wantRead([]uint64{}, 0, "a")
	l.add("a")
	l.wantRange(3, 3)
	l.wantRead([]uint64{3}, 0, "a")
	l.wantRead([]uint64{}, 3, "a")
}

func trimmedTopic(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.add("a", "b", "b")
	l.trim(store.History{MaxEvents: 2}, 0)
	l.wantRead([]uint64{}, 0, "a")
	l.add("a")
	l.wantRead([]uint64{4}, 0, "a")
}
