package store

import (
	"errors"
	"sync"
	"time"
)

// Lazy is a store that [Lazy.Open] or the first use opens. If that fails, it stays
// empty and refuses appends.
type Lazy struct {
	open   func() (Store, error)
	once   sync.Once
	opened Store
	err    error
}

var _ Store = (*Lazy)(nil)

// NewLazy returns a store that calls open at most once.
func NewLazy(open func() (Store, error)) *Lazy { return &Lazy{open: open} }

// Open opens the store if it isn't open. Each call returns the same error.
func (l *Lazy) Open() error {
	l.once.Do(func() {
		if l.opened, l.err = l.open(); l.err != nil {
			l.opened = newFailedStore(l.err)
		}
	})
	return l.err
}

// Shared returns the store if several processes append to its log, and nil
// otherwise. It opens the store if it isn't open.
func (l *Lazy) Shared() Shared {
	shared, _ := l.store().(Shared)
	return shared
}

func (l *Lazy) store() Store {
	_ = l.Open()
	return l.opened
}

// Close implements [Store]. A store that nothing has opened stays closed.
func (l *Lazy) Close() error {
	l.once.Do(func() {
		l.err = errors.New("the store is closed")
		l.opened = newFailedStore(l.err)
	})
	return l.opened.Close()
}

// Epoch implements [Store].
func (l *Lazy) Epoch() string { return l.store().Epoch() }

// Secret implements [Store].
func (l *Lazy) Secret() []byte { return l.store().Secret() }

// Append implements [Store].
func (l *Lazy) Append(entries []*Entry, records []IdempotencyRecord) error {
	return l.store().Append(entries, records)
}

// Trim implements [Store].
func (l *Lazy) Trim(h History, now time.Time) error { return l.store().Trim(h, now) }

// Range implements [Store].
func (l *Lazy) Range() (tail, head uint64) { return l.store().Range() }

// Oldest implements [Store].
func (l *Lazy) Oldest() (time.Time, bool) { return l.store().Oldest() }

// Entry implements [Store].
func (l *Lazy) Entry(seq uint64) *Entry { return l.store().Entry(seq) }

// Lookup implements [Store].
func (l *Lazy) Lookup(id string) *Entry { return l.store().Lookup(id) }

// IdempotencyRecord implements [Store].
func (l *Lazy) IdempotencyRecord(scope string, key HashedKey) (time.Time, string, bool) {
	return l.store().IdempotencyRecord(scope, key)
}

// Last implements [Store].
func (l *Lazy) Last(topic string) *Entry { return l.store().Last(topic) }

// Before implements [Store].
func (l *Lazy) Before(topics []string, n int) uint64 { return l.store().Before(topics, n) }

// Topics implements [Store].
func (l *Lazy) Topics(prefix string) []string { return l.store().Topics(prefix) }

// Read implements [Store].
func (l *Lazy) Read(topics []string, after uint64, maxBytes int, buf []*Entry) (Batch, error) {
	return l.store().Read(topics, after, maxBytes, buf)
}

// failedStore is an empty log whose Append fails.
type failedStore struct {
	*Memory
	err error
}

func newFailedStore(err error) failedStore { return failedStore{NewMemory(), err} }

func (n failedStore) Append([]*Entry, []IdempotencyRecord) error { return n.err }
