// Package storetest is what every store must do. A store's own test calls
// [Run] with a way to open an empty one.
package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
)

// Run tests stores that open makes. Each must be empty, and open must see to
// it that what the store holds is freed when its test ends.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s store.Store)
	}{
		{"an empty log's tail is one more than its head", emptyLog},
		{"the epoch stays and may begin an id", epoch},
		{"entries are found by their position", byPosition},
		{"an empty append changes nothing", emptyAppend},
		{"an entry comes back as it went in", asItWas},
		{"an entry on several topics is found under each", severalTopics},
		{"topics are told apart to the byte", similarTopics},
		{"Last is the newest entry on the topic", last},
		{"Topics are those with entries, by their prefix", topicsByPrefix},
		{"Lookup finds ids that were given, until they leave", lookup},
		{"a count trims the oldest", trimByCount},
		{"an age trims the oldest, even the newest", trimByAge},
		{"a size trims the oldest, but never the newest", trimBySize},
		{"no bound trims nothing", noBound},
		{"whichever bound is met first trims", allBounds},
		{"positions go on after the log was emptied", positionsGoOn},
		{"a topic whose entries have left is empty", trimmedTopic},
		{"reading gives what came after, in order, each once", read},
		{"reading appends to what it is given", readAppends},
		{"a bounded read gives at least one and says where it stopped", boundedRead},
		{"a bounded read of several topics skips nothing", boundedMerge},
		{"a read says how far the log reaches back", readSaysTail},
		{"a record is found by its scope and its key", recordsFound},
		{"a record needs no entries, and outlives those it came with", recordsAlone},
		{"a record replaces an earlier one of its key", recordsReplaced},
		{"the oldest records of a scope leave when there are too many", recordsByCount},
		{"records leave when they are too old", recordsByAge},
		{"readers are never in the way of the writer", concurrent},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
	t.Run("any walk equals the naive model", func(t *testing.T) { model(t, open) })
}

// start is when the first entry of a test is published, without the monotonic
// reading that no disk keeps.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// log numbers the entries that a test appends.
type log struct {
	testing.TB
	store.Store
	head uint64
}

func (l *log) entry(data string, topics ...string) *store.Entry {
	l.Helper()
	l.head++
	id := fmt.Sprintf("%s-%d", l.Epoch(), l.head)
	frame, err := event.Event{ID: id, Data: []byte(data)}.Encode()
	if err != nil {
		l.Fatal(err)
	}
	return &store.Entry{
		Seq:    l.head,
		Time:   start.Add(time.Duration(l.head) * time.Second),
		Topics: topics,
		ID:     id,
		Frame:  frame,
	}
}

func (l *log) given(id, data string, topics ...string) *store.Entry {
	l.Helper()
	e := l.entry(data, topics...)
	e.ID, e.Given = id, true
	return e
}

func (l *log) append(entries ...*store.Entry) {
	l.Helper()
	l.commit(entries)
}

func (l *log) commit(entries []*store.Entry, records ...store.IdempotencyRecord) {
	l.Helper()
	if err := l.Append(entries, records); err != nil {
		l.Fatal(err)
	}
}

// add appends one small entry on each of the topics.
func (l *log) add(topics ...string) {
	l.Helper()
	for _, t := range topics {
		l.append(l.entry("x", t))
	}
}

func (l *log) trim(h store.History, at time.Duration) {
	l.Helper()
	if err := l.Trim(h, start.Add(at)); err != nil {
		l.Fatal(err)
	}
}

func (l *log) wantRange(tail, head uint64) {
	l.Helper()
	if gotTail, gotHead := l.Range(); gotTail != tail || gotHead != head {
		l.Errorf("the log is %d to %d, want %d to %d", gotTail, gotHead, tail, head)
	}
}

func (l *log) read(after uint64, maxBytes int, topics ...string) store.Batch {
	l.Helper()
	b, err := l.Read(topics, after, maxBytes, nil)
	if err != nil {
		l.Fatal(err)
	}
	return b
}

func (l *log) wantRead(want []uint64, after uint64, topics ...string) {
	l.Helper()
	b := l.read(after, 1<<20, topics...)
	if got := positions(b.Entries); !slices.Equal(got, want) {
		l.Errorf("%q after %d: read %v, want %v", topics, after, got, want)
	}
	if _, head := l.Range(); b.UpTo != head || b.More {
		l.Errorf("%q after %d: read up to %d (more: %v), want all up to %d", topics, after, b.UpTo, b.More, head)
	}
}

func positions(entries []*store.Entry) []uint64 {
	got := make([]uint64, 0, len(entries))
	for _, e := range entries {
		got = append(got, e.Seq)
	}
	return got
}

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
	l.wantRead([]uint64{1, 2, 3, 5, 6, 7}, 0, "b", "a", "d")
	l.wantRead([]uint64{4, 5, 7}, 2, "c", "b")
	l.wantRead([]uint64{}, 0, "d", "e")
	l.wantRead([]uint64{}, 0)
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

// concurrent lets readers check what must hold at any time while the log is
// written and trimmed.
func concurrent(t *testing.T, s store.Store) {
	const batches, perBatch, kept = 300, 4, 64
	l := &log{TB: t, Store: s}
	var readers sync.WaitGroup
	done := make(chan struct{})
	for _, topics := range [][]string{{"a"}, {"a", "b"}, {"b", "c", "all"}} {
		readers.Go(func() {
			if err := follow(s, topics, perBatch, done); err != nil {
				t.Errorf("%q: %v", topics, err)
			}
		})
	}
	for range batches {
		batch := []*store.Entry{l.entry("1", "a", "all"), l.entry("2", "b", "all"), l.given(fmt.Sprint("g", l.head), "3", "a", "b", "all"), l.entry("4", "all")}
		l.append(batch...)
		l.trim(store.History{MaxEvents: kept}, 0)
	}
	close(done)
	readers.Wait()
	l.wantRange(batches*perBatch-kept+1, batches*perBatch)
}

// follow reads what a writer appends, as a hub's cursor does.
func follow(s store.Store, topics []string, perBatch int, done <-chan struct{}) error {
	var pos uint64
	for last := false; ; {
		select {
		case <-done:
			last = true
		default:
		}
		b, err := s.Read(topics, pos, 300, nil)
		if err != nil {
			return err
		}
		if err := checkBatch(b, topics, pos, perBatch); err != nil {
			return err
		}
		pos = b.UpTo
		for _, t := range topics {
			if e := s.Last(t); e != nil && !e.On(t) {
				return fmt.Errorf("the last on %s is on %q", t, e.Topics)
			}
		}
		if tail, head := s.Range(); tail > head+1 || head < pos {
			return fmt.Errorf("the log is %d to %d, and was read up to %d", tail, head, pos)
		}
		if last && !b.More {
			return nil
		}
	}
}

func checkBatch(b store.Batch, topics []string, after uint64, perBatch int) error {
	if !b.More && b.UpTo%uint64(perBatch) != 0 {
		return fmt.Errorf("a batch is seen in part, up to %d", b.UpTo)
	}
	for _, e := range b.Entries {
		switch {
		case e.Seq <= after || e.Seq > b.UpTo || e.Seq < b.Tail:
			return fmt.Errorf("%d is out of order after %d (tail %d, up to %d)", e.Seq, after, b.Tail, b.UpTo)
		case !slices.ContainsFunc(topics, e.On):
			return fmt.Errorf("%d is on %q", e.Seq, e.Topics)
		}
		after = e.Seq
	}
	return nil
}
