// Package store is where a hub's log lives: events in the order in which they
// were published, found by position, by topic and by id.
package store

import (
	"time"

	"github.com/caddy-sse/caddy-sse/event"
)

// Entry is one event in the log. It must not be changed once appended: readers
// share it.
type Entry struct {
	// Seq is the place in the log. The first entry ever has 1, the next one
	// more; no number is used twice.
	Seq uint64
	// Time is when the event was published.
	Time time.Time
	// Topics are the topics that the event was published on.
	Topics []string
	// ID is the event's id on the wire, unique in the log.
	ID string
	// Given tells that the publisher chose the id. Lookup finds only those;
	// other ids hold the position themselves.
	Given bool
	// Frame is the event on the wire.
	Frame event.Frame
}

// On tells whether the entry was published on the topic.
func (e *Entry) On(topic string) bool {
	for _, t := range e.Topics {
		if t == topic {
			return true
		}
	}
	return false
}

// entryOverhead is roughly what an entry costs beside its bytes: the struct and
// its places in the log and in the indexes.
const entryOverhead = 256

// Size is what the entry counts against [History.MaxBytes].
func (e *Entry) Size() int64 { return e.sizeWith(len(e.Frame)) }

// sizeWith is Size with a frame of that length.
func (e *Entry) sizeWith(frame int) int64 {
	n := entryOverhead + frame + len(e.ID)
	for _, t := range e.Topics {
		n += len(t)
	}
	return int64(n)
}

// History bounds a log. The oldest entries go as soon as any bound is passed,
// but the newest entry is kept whatever its size. Zero means no bound.
type History struct {
	MaxEvents int
	MaxAge    time.Duration
	MaxBytes  int64
}

// HashedKey is a digest that names a delivery within its space.
type HashedKey [16]byte

// IdempotencyRecord is what stays of a delivery when its events have left the log: the
// proof that it has been, for when it comes again.
type IdempotencyRecord struct {
	// Scope sets the keys of unrelated publishers apart.
	Scope string
	// HashedKey is the delivery's. A receipt replaces an earlier one of its space
	// and key.
	Key HashedKey
	// Time is when the delivery came.
	Time time.Time
	// Answer is what the publisher wants to know of it then. The store does
	// not look into it.
	Answer string
	// Window bounds the receipts of the space, from now on.
	Window Window
}

// Window bounds the receipts of a space: the oldest go as soon as either bound
// is passed. Zero means no bound.
type Window struct {
	MaxCount int
	MaxAge   time.Duration
}

// Batch is what a read of the log gives: a consistent view of it.
type Batch struct {
	// Entries are in the order of the log.
	Entries []*Entry
	// Tail is the position of the oldest entry that the log still holds, and
	// one more than Head when it holds none.
	Tail uint64
	// UpTo is the position up to which the read is complete.
	UpTo uint64
	// More tells that there is more than fitted: read again after UpTo.
	More bool
}

// Store keeps a log. One goroutine at a time may call Append and Trim; all else
// is safe to call at any time, and sees an appended batch whole or not at all.
type Store interface {
	// Epoch names this log among all that a client may have seen. It is made
	// with the log and stays with it, and is a valid part of an event id.
	Epoch() string
	// Secret is a key that is made with the log and stays with it, for
	// digests that nobody outside may compute.
	Secret() []byte
	// Append adds entries, numbered by the caller from one more than the
	// head, and receipts, and returns once they are as durable as this store
	// makes them. Either may be empty. They are stored in one step: on an
	// error, and after a crash before the end of it, none of them is there.
	// Of the receipts of a space that its bound has no room for, the first
	// go first. It keeps neither slice.
	Append(entries []*Entry, receipts []IdempotencyRecord) error
	// Trim drops the oldest entries until the log is within its bounds, and
	// the receipts that are older than their windows.
	Trim(h History, now time.Time) error
	// Range returns the positions of the oldest and of the newest entry. An
	// empty log's tail is one more than its head.
	Range() (tail, head uint64)
	// Oldest returns the time of the oldest entry, and false if there is none.
	Oldest() (time.Time, bool)
	// Entry returns the entry at a position, or nil.
	Entry(seq uint64) *Entry
	// Lookup returns the entry whose publisher gave it this id, or nil.
	Lookup(id string) *Entry
	// IdempotencyRecord returns the time and the answer of a space's receipt, and false
	// if there is none.
	IdempotencyRecord(space string, key HashedKey) (at time.Time, answer string, ok bool)
	// Last returns the newest entry on a topic, or nil.
	Last(topic string) *Entry
	// Topics returns the topics that begin with a prefix and on which the log
	// holds entries, in any order.
	Topics(prefix string) []string
	// Read returns the entries on any of the topics after a position, each
	// once, of about maxBytes in all but at least one. It appends them to
	// buf, which may be nil.
	Read(topics []string, after uint64, maxBytes int, buf []*Entry) (Batch, error)
	// Close frees what the store holds. No call may follow.
	Close() error
}
