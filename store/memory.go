package store

import (
	"sync"
	"time"
)

// Memory is a store that keeps the log in memory until the process ends. It is an
// index that holds every entry.
type Memory struct {
	epoch  string
	secret []byte

	mu    sync.RWMutex
	index index
	dedup dedupIndex
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty log with an epoch of its own.
func NewMemory() *Memory {
	epoch, secret := newEpoch()
	return &Memory{epoch: epoch, secret: secret, index: newIndex()}
}

// NewMirror returns an empty log that continues another: its epoch and its secret
// are those of the other log, and its next entry has the position head+1.
func NewMirror(epoch string, secret []byte, head uint64) *Memory {
	m := &Memory{epoch: epoch, secret: secret, index: newIndex()}
	m.index.head = head
	return m
}

// Bytes returns the size of all entries; see [Entry.Size].
func (m *Memory) Bytes() int64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.index.bytes
}

// Records returns all idempotency records. Those of a scope are in the order in
// which they were appended.
func (m *Memory) Records() []IdempotencyRecord {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.dedup.all()
}

// Epoch implements [Store].
func (m *Memory) Epoch() string { return m.epoch }

// Secret implements [Store].
func (m *Memory) Secret() []byte { return m.secret }

// Append implements [Store]. It never fails.
func (m *Memory) Append(entries []*Entry, records []IdempotencyRecord) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range records {
		m.dedup.add(&records[i])
	}
	for _, e := range entries {
		m.index.add(e)
	}
	return nil
}

// Trim implements [Store]. It never fails.
func (m *Memory) Trim(h History, now time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.index.exceeds(h, now) {
		m.index.drop()
	}
	m.dedup.expire(now)
	return nil
}

// Range implements [Store].
func (m *Memory) Range() (tail, head uint64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.index.tail(), m.index.head
}

// Oldest implements [Store].
func (m *Memory) Oldest() (time.Time, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.index.oldest()
}

// Entry implements [Store].
func (m *Memory) Entry(seq uint64) *Entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.index.entry(seq)
}

// Lookup implements [Store].
func (m *Memory) Lookup(id string) *Entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.index.entry(m.index.byID[id])
}

// IdempotencyRecord implements [Store].
func (m *Memory) IdempotencyRecord(scope string, key HashedKey) (time.Time, string, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.dedup.find(scope, key)
}

// Last implements [Store].
func (m *Memory) Last(topic string) *Entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.index.entry(m.index.last(topic))
}

// Before implements [Store].
func (m *Memory) Before(topics []string, n int) uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.index.before(topics, n)
}

// Topics implements [Store].
func (m *Memory) Topics(prefix string) []string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.index.topicsWith(prefix)
}

// Read implements [Store]. It never fails.
func (m *Memory) Read(topics []string, after uint64, maxBytes int, buf []*Entry) (Batch, error) {
	var room [32]uint64
	b := Batch{Entries: buf}
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, seq := range m.index.find(topics, after, maxBytes, room[:0], &b) {
		b.Entries = append(b.Entries, m.index.entry(seq))
	}
	return b, nil
}

// Close implements [Store].
func (m *Memory) Close() error { return nil }
