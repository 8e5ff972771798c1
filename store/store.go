// Package store keeps a hub's log: events in the order in which they were
// published, which callers find by position, by topic or by id.
package store

import (
	"sync/atomic"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/gzipblock"
)

// Entry is one event in the log. Readers share it: nobody may change it once it
// is appended, or copy it.
type Entry struct {
	// Seq is the entry's position in the log. The first entry ever has 1, and
	// each further entry one more. No position is used twice.
	Seq uint64
	// Time is when the event was published.
	Time time.Time
	// Topics are the topics that the event was published on.
	Topics []string
	// ID is the event's id on the wire, unique in the log.
	ID string
	// Given means that the publisher chose the id. [Store.Lookup] finds only
	// such entries; the other ids contain the position.
	Given bool
	// Frame is the event on the wire.
	Frame event.Frame

	uncompressed bool                            // Gzipped returns nil
	gzipped      atomic.Pointer[gzipblock.Block] // nil until a reader asks for it
}

// notCompressed stands for the block of a frame that isn't compressed.
var notCompressed = new(gzipblock.Block)

// Gzipped returns the frame as a block of a gzip stream. The first call compresses
// the frame; the entry keeps the block for all readers. Gzipped returns nil if
// compression doesn't pay: for short frames (see [gzipblock.Compress]), and after
// [Entry.LeaveUncompressed]. It is safe for concurrent use.
func (e *Entry) Gzipped() *gzipblock.Block {
	if e.uncompressed {
		return nil
	}
	b := e.gzipped.Load()
	if b == nil {
		if b = gzipblock.Compress(e.Frame); b == nil {
			b = notCompressed
		}
		if !e.gzipped.CompareAndSwap(nil, b) {
			b = e.gzipped.Load() // another reader was faster
		}
	}
	if b == notCompressed {
		return nil
	}
	return b
}

// LeaveUncompressed makes Gzipped return nil. It is for an entry that one reader
// alone gets, such as one from a disk: a client can ask for it again and again. Other
// goroutines must not have the entry yet.
func (e *Entry) LeaveUncompressed() { e.uncompressed = true }

// WithFrame returns an entry that readers of e send in its place, with the same
// position and another frame. It is left uncompressed if e is.
func (e *Entry) WithFrame(f event.Frame) *Entry {
	return &Entry{Seq: e.Seq, Frame: f, uncompressed: e.uncompressed}
}

// On reports whether the entry was published on the topic.
func (e *Entry) On(topic string) bool {
	for _, t := range e.Topics {
		if t == topic {
			return true
		}
	}
	return false
}

// entryOverhead is about how many bytes of memory an entry needs beyond its
// content: the struct and its parts of the index.
const entryOverhead = 256

// Size returns the bytes that the entry counts against [History.MaxBytes].
func (e *Entry) Size() int64 { return e.sizeWith(len(e.Frame)) }

// sizeWith returns the Size of the entry with a frame of that length.
func (e *Entry) sizeWith(frame int) int64 {
	n := entryOverhead + frame + len(e.ID)
	for _, t := range e.Topics {
		n += len(t)
	}
	return int64(n)
}

// History bounds a log. The log drops its oldest entries until it is within every
// bound. MaxEvents and MaxBytes never drop the newest entry. Zero means no bound.
type History struct {
	MaxEvents int
	MaxAge    time.Duration
	MaxBytes  int64
}

// HashedKey is a digest that identifies a delivery within its scope.
type HashedKey [16]byte

// IdempotencyRecord records that a delivery was published, so that a repetition
// is recognized even after the log has dropped the delivery's events.
type IdempotencyRecord struct {
	// Scope separates the keys of unrelated publishers.
	Scope string
	// Key is the delivery's hashed idempotency key. A record replaces an
	// earlier one with the same scope and key.
	Key HashedKey
	// Time is when the delivery was published.
	Time time.Time
	// Outcome is the result of the delivery, as the publisher encodes it. The
	// store does not interpret it.
	Outcome string
	// Window bounds the records of the scope from now on.
	Window Window
}

// Window bounds the idempotency records of a scope. The store drops the oldest
// until the scope is within both bounds. Zero means no bound.
type Window struct {
	MaxCount int
	MaxAge   time.Duration
}

// Batch is the result of a read: a consistent snapshot of the log.
type Batch struct {
	// Entries are the entries read, in the order of the log.
	Entries []*Entry
	// Tail is the position of the oldest entry in the log; if the log is empty,
	// one more than the head.
	Tail uint64
	// UpTo is the position up to which the read is complete.
	UpTo uint64
	// More means that maxBytes ended the read: read again after UpTo.
	More bool
}

// Store keeps a log. One goroutine at a time may call Append and Trim. The other
// methods are safe for concurrent use; they see an appended batch whole or not at
// all.
type Store interface {
	// Epoch returns a name that distinguishes this log from every other. It is
	// made with the log, never changes, and is valid in an event id.
	Epoch() string
	// Secret returns a key for digests that only the hub may compute. It is
	// made with the log and never changes.
	Secret() []byte
	// Append adds entries and idempotency records, and returns once they are
	// as durable as this store makes them. Either slice may be empty; Append
	// keeps neither. The caller numbers the entries from one more than the
	// head. Append stores all in one step: if it fails, or the process crashes
	// before it is done, the log holds none of them. If the records of a scope
	// exceed its bound, Append drops the oldest.
	Append(entries []*Entry, records []IdempotencyRecord) error
	// Trim drops the oldest entries until the log is within h, and the
	// idempotency records that are older than their windows.
	Trim(h History, now time.Time) error
	// Range returns the positions of the oldest and of the newest entry. If the
	// log is empty, tail is one more than head.
	Range() (tail, head uint64)
	// Oldest returns the time of the oldest entry, and false if there is none.
	Oldest() (time.Time, bool)
	// Entry returns the entry at a position, or nil if the log doesn't hold it.
	Entry(seq uint64) *Entry
	// Lookup returns the entry whose publisher gave it the id, or nil.
	Lookup(id string) *Entry
	// IdempotencyRecord returns the time and the outcome of the record with a
	// scope and a key, and false if there is none.
	IdempotencyRecord(scope string, key HashedKey) (at time.Time, outcome string, ok bool)
	// Last returns the newest entry on a topic, or nil.
	Last(topic string) *Entry
	// Before returns the position before the newest n entries on any of the
	// topics, each counted once: the position before the oldest of them if there
	// are fewer, and the head if there are none.
	Before(topics []string, n int) uint64
	// Topics returns the topics that begin with a prefix and on which the log
	// holds entries, in any order.
	Topics(prefix string) []string
	// Read returns the entries on any of the topics, which are sorted, after a
	// position, each once: about maxBytes of frames, but at least one entry if there is any.
	// It appends them to buf, which may be nil.
	Read(topics []string, after uint64, maxBytes int, buf []*Entry) (Batch, error)
	// Close releases the store's resources. No call may follow.
	Close() error
}
