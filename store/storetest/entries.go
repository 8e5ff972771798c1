package storetest

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
)

func emptyLog(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.wantRange(1, 0)
	if _, ok := s.Oldest(); ok {
		t.Error("an empty log has an oldest entry")
	}
	if s.Entry(0) != nil || s.Entry(1) != nil || s.Last("a") != nil || s.Lookup("a") != nil || s.Lookup("") != nil {
		t.Error("an empty log holds an entry")
	}
	l.wantRead([]uint64{}, 0, "a")
	l.wantRead([]uint64{}, 0)
	l.trim(store.History{MaxEvents: 1, MaxAge: 1, MaxBytes: 1}, time.Hour)
	l.wantRange(1, 0)
	if b := l.read(0, 10, "a"); b.Tail != 1 {
		t.Errorf("the tail of an empty log is read as %d", b.Tail)
	}
}

func epoch(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	epoch, secret := s.Epoch(), bytes.Clone(s.Secret())
	if err := event.CheckID(epoch + "-18446744073709551615"); err != nil {
		t.Error(err)
	}
	if epoch == "" || len(secret) < 16 {
		t.Errorf("epoch %q, a secret of %d bytes", epoch, len(secret))
	}
	l.add("a", "a")
	l.trim(store.History{MaxEvents: 1}, 0)
	if s.Epoch() != epoch || !bytes.Equal(s.Secret(), secret) {
		t.Error("the epoch or the secret has changed")
	}
}

func byPosition(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.append(l.entry("one", "a"), l.entry("two", "b"))
	l.append(l.entry("three", "a"))
	l.wantRange(1, 3)
	for seq := uint64(1); seq <= 3; seq++ {
		if e := s.Entry(seq); e == nil || e.Seq != seq {
			t.Errorf("at %d is %+v", seq, e)
		}
	}
	for _, seq := range []uint64{0, 4, 1 << 63, ^uint64(0)} {
		if e := s.Entry(seq); e != nil {
			t.Errorf("at %d, where nothing is, is %+v", seq, e)
		}
	}
	if oldest, ok := s.Oldest(); !ok || !oldest.Equal(start.Add(time.Second)) {
		t.Errorf("the oldest is of %v, %v", oldest, ok)
	}
}

func emptyAppend(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.append()
	l.wantRange(1, 0)
	l.add("a")
	l.append()
	l.wantRange(1, 1)
}

func asItWas(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	want := l.given("delivery-1", "a\nb \u2028\x00é", "a", "orders/42", "\x00poll/x")
	l.append(l.entry("before", "b"), want)
	got := []*store.Entry{s.Entry(1), s.Lookup("delivery-1"), s.Last("orders/42")}
	got = append(got, l.read(0, 100, "\x00poll/x").Entries...)
	for i, e := range got {
		if e == nil || e.Seq != want.Seq || !e.Time.Equal(want.Time) || !slices.Equal(e.Topics, want.Topics) ||
			e.ID != want.ID || e.Given != want.Given || !bytes.Equal(e.Frame, want.Frame) {
			t.Errorf("%d: %+v, want %+v", i, e, want)
		}
	}
	if e := s.Entry(2); e != nil && (e.Given || !e.On("b")) {
		t.Errorf("%+v", e)
	}
}

func severalTopics(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.append(l.entry("x", "a", "b", "c"), l.entry("x", "b"))
	l.append(l.entry("x", "c", "a"))
	l.wantRead([]uint64{1, 3}, 0, "a")
	l.wantRead([]uint64{1, 2}, 0, "b")
	l.wantRead([]uint64{1, 3}, 0, "c")
	l.wantRead([]uint64{1, 2, 3}, 0, "a", "b", "c")
	l.wantRead([]uint64{1, 3}, 0, "a", "c")
	l.trim(store.History{MaxEvents: 2}, 0)
	l.wantRead([]uint64{3}, 0, "a")
	l.wantRead([]uint64{2}, 0, "b")
	l.wantRead([]uint64{3}, 0, "c")
}

func similarTopics(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	topics := []string{"a", "A", "a/", "a/b", "a\x00", "a\x00b", "\x00a", "é", "e\u0301", "a b", strings.Repeat("a", 1024), strings.Repeat("a", 1023)}
	l.add(topics...)
	for i, topic := range topics {
		l.wantRead([]uint64{uint64(i + 1)}, 0, topic)
	}
	l.wantRead([]uint64{}, 0, "b")
	l.wantRead([]uint64{}, 0, "")
}

func last(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.add("a", "b", "a", "c")
	for topic, want := range map[string]uint64{"a": 3, "b": 2, "c": 4} {
		if e := s.Last(topic); e == nil || e.Seq != want {
			t.Errorf("the last on %s is %+v, want %d", topic, e, want)
		}
	}
	if e := s.Last("d"); e != nil {
		t.Errorf("%+v", e)
	}
	l.trim(store.History{MaxEvents: 2}, 0)
	if e := s.Last("b"); e != nil {
		t.Errorf("the last on b has left the history: %+v", e)
	}
	if e := s.Last("a"); e == nil || e.Seq != 3 {
		t.Errorf("%+v", e)
	}
}

func before(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	want := func(seq uint64, n int, topics ...string) {
		t.Helper()
		if got := s.Before(topics, n); got != seq {
			t.Errorf("before the last %d on %q: %d, want %d", n, topics, got, seq)
		}
	}
	want(0, 1, "a")
	l.add("a", "b", "a", "c")
	l.append(l.entry("x", "a", "b"), l.entry("x", "d"))
	for n, seq := range []uint64{6, 4, 2, 0, 0} {
		want(seq, n, "a")
	}
	for n, seq := range []uint64{6, 4, 2, 1, 0, 0} {
		want(seq, n, "a", "b")
	}
	want(6, 9)
	want(6, 9, "e")
	want(3, 2, "b", "c")
	l.trim(store.History{MaxEvents: 3}, 0)
	want(4, 9, "a", "b")
	want(3, 9, "a", "c")
}

func topicsByPrefix(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	want := func(prefix string, topics ...string) {
		t.Helper()
		if got := slices.Sorted(slices.Values(s.Topics(prefix))); !slices.Equal(got, topics) {
			t.Errorf("with %q: %q, want %q", prefix, got, topics)
		}
	}
	want("")
	l.add("a/1", "b/1", "a/2", "a/1", "\x00a/1")
	want("", "\x00a/1", "a/1", "a/2", "b/1")
	want("a/", "a/1", "a/2")
	want("\x00", "\x00a/1")
	want("c")
	l.trim(store.History{MaxEvents: 2}, 0)
	want("", "\x00a/1", "a/1")
}

func lookup(t *testing.T, s store.Store) {
	l := &log{TB: t, Store: s}
	l.append(l.given("g1", "x", "a"), l.entry("x", "a"), l.given("g3", "x", "a", "b"))
	position := s.Entry(2).ID
	wantLookup := func(id string, want uint64) {
		t.Helper()
		var got uint64
		if e := s.Lookup(id); e != nil {
			got = e.Seq
		}
		if got != want {
			t.Errorf("%q is at %d, want %d", id, got, want)
		}
	}
	wantLookup("g1", 1)
	wantLookup("g3", 3)
	wantLookup(position, 0)
	wantLookup("", 0)
	wantLookup("G1", 0)
	l.trim(store.History{MaxEvents: 2}, 0)
	wantLookup("g1", 0)
	wantLookup("g3", 3)
	l.append(l.given("g1", "again", "a"))
	wantLookup("g1", 4)
	l.trim(store.History{MaxEvents: 1}, 0)
	wantLookup("g1", 4)
	wantLookup("g3", 0)
}
