// Package storetest tests implementations of [store.Store]. The test of a store
// calls [Run], or [RunDurable] if the store outlives the process.
package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
)

// Run tests the stores that open returns. Each must be empty. open must register a
// cleanup that closes the store when its test ends.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s store.Store)
	}{
		{"an empty log's tail is one more than its head", emptyLog},
		{"the epoch never changes and is valid in an id", epoch},
		{"Entry finds entries by position", byPosition},
		{"an empty append changes nothing", emptyAppend},
		{"an entry is returned as it was appended", asItWas},
		{"an entry on several topics is read from each", severalTopics},
		{"topics differ if one byte differs", similarTopics},
		{"Last returns the newest entry on a topic", last},
		{"Before returns the position before the newest entries on the topics", before},
		{"Topics returns the topics with entries and a prefix", topicsByPrefix},
		{"Lookup finds given ids until their entries are dropped", lookup},
		{"MaxEvents drops the oldest entries", trimByCount},
		{"MaxAge drops old entries, even the newest", trimByAge},
		{"MaxBytes drops the oldest entries, but never the newest", trimBySize},
		{"without bounds no entry is dropped", noBound},
		{"each bound drops entries", allBounds},
		{"positions continue after the log was emptied", positionsGoOn},
		{"a topic whose entries were dropped is empty", trimmedTopic},
		{"Read returns later entries in order, each once", read},
		{"a reader of many topics reads the entries on any of them", readManyTopics},
		{"Read appends to its buffer", readAppends},
		{"a bounded read returns at least one entry and where it stopped", boundedRead},
		{"a bounded read of several topics skips nothing", boundedMerge},
		{"Read returns the tail of the log", readSaysTail},
		{"a record is found by its scope and its key", recordsFound},
		{"a record needs no entries and outlives those appended with it", recordsAlone},
		{"a record replaces an earlier one with its key", recordsReplaced},
		{"MaxCount drops the oldest records of a scope", recordsByCount},
		{"MaxAge drops old records", recordsByAge},
		{"concurrent readers see whole batches in order", concurrent},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
	t.Run("any sequence of calls matches the model", func(t *testing.T) { model(t, open) })
}

// start is the time from which entries count their seconds. It has no monotonic
// clock reading, which a file doesn't keep.
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
