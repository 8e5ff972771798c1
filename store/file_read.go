package store

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"go.etcd.io/bbolt"
)

// Range implements [Store].
func (f *File) Range() (tail, head uint64) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.index.tail(), f.index.head
}

// Oldest implements [Store].
func (f *File) Oldest() (time.Time, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.index.oldest()
}

// IdempotencyRecord implements [Store].
func (f *File) IdempotencyRecord(scope string, key HashedKey) (time.Time, string, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.dedup.find(scope, key)
}

// Entry implements [Store]. It returns nil if the entry can't be read.
func (f *File) Entry(seq uint64) *Entry {
	return f.loadOne(func(*index) uint64 { return seq })
}

// Lookup implements [Store]. It returns nil if the entry can't be read.
func (f *File) Lookup(id string) *Entry {
	return f.loadOne(func(x *index) uint64 { return x.byID[id] })
}

// Last implements [Store]. It returns nil if the entry can't be read.
func (f *File) Last(topic string) *Entry {
	return f.loadOne(func(x *index) uint64 { return x.last(topic) })
}

// Before implements [Store].
func (f *File) Before(topics []string, n int) uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.index.before(topics, n)
}

// Topics implements [Store].
func (f *File) Topics(prefix string) []string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.index.topicsWith(prefix)
}

// loadOne returns the entry at the position that find returns.
func (f *File) loadOne(find func(x *index) uint64) *Entry {
	f.mu.RLock()
	seq := find(&f.index)
	if !f.index.has(seq) {
		f.mu.RUnlock()
		return nil
	}
	entries, err := f.loadAndUnlock([]uint64{seq}, nil)
	if err != nil {
		return nil
	}
	return entries[0]
}

// Read implements [Store]. It fails if the file is damaged or can't be read.
func (f *File) Read(topics []string, after uint64, maxBytes int, buf []*Entry) (Batch, error) {
	var room [32]uint64
	var b Batch
	f.mu.RLock()
	seqs := f.index.find(topics, after, maxBytes, room[:0], &b)
	entries, err := f.loadAndUnlock(seqs, buf)
	if err != nil {
		return Batch{}, fmt.Errorf("reading %s: %w", f.path, err)
	}
	b.Entries = entries
	return b, nil
}

// loadAndUnlock appends the entries at the positions to buf. It reads from the
// file those that aren't in memory. The caller holds mu for reading.
// loadAndUnlock releases mu before it waits for the disk: the transaction keeps
// the state of the file.
func (f *File) loadAndUnlock(seqs []uint64, buf []*Entry) ([]*Entry, error) {
	start := len(buf)
	var missing []uint64
	for _, seq := range seqs {
		e := f.index.entry(seq)
		buf = append(buf, e)
		if e == nil {
			missing = append(missing, seq)
		}
	}
	if len(missing) == 0 {
		f.mu.RUnlock()
		return buf, nil
	}
	db := f.db
	tx, err := run(f, func() (*bbolt.Tx, error) { return db.Begin(false) })
	f.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	loaded, err := run(f, func() ([]*Entry, error) {
		defer tx.Rollback() //nolint:errcheck // a read transaction
		return readEntries(tx, missing)
	})
	if err != nil {
		return nil, err
	}
	for i, e := range buf[start:] {
		if e == nil {
			buf[start+i], loaded = loaded[0], loaded[1:]
		}
	}
	return buf, nil
}

// readEntries reads the entries at the positions, which must be in order.
func readEntries(tx *bbolt.Tx, seqs []uint64) ([]*Entry, error) {
	entries := make([]*Entry, len(seqs))
	log := tx.Bucket(logBucket).Cursor()
	last := uint64(math.MaxUint64)
	var key, value []byte
	for i, seq := range seqs {
		if seq == last+1 { // a reader's entries are mostly neighbours
			key, value = log.Next()
		} else {
			key, value = log.Seek(keyOf(seq))
		}
		if last = seq; len(key) != 8 || binary.BigEndian.Uint64(key) != seq {
			return nil, fmt.Errorf("the event at %d: %w", seq, ErrDamaged)
		}
		var err error
		if entries[i], err = parseRecord(seq, value); err != nil {
			return nil, fmt.Errorf("the event at %d: %w", seq, err)
		}
		entries[i].LeaveUncompressed()
	}
	return entries, nil
}
