package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
)

// File is a store that keeps the log in a file, so that it outlives the
// process: what [File.Append] has taken is on the disk when it returns, as far
// as the disk can be believed. Where each entry is, and the newest entries
// themselves, are in memory as well: who follows the log reads no file.
//
// One process at a time can have the file open.
type File struct {
	path    string
	info    os.FileInfo  // the file that is written to
	size    atomic.Int64 // of the file, as the store left it
	epoch   string
	secret  []byte
	failure *failure

	// writeMu is held by whoever changes the file.
	writeMu sync.Mutex
	// firstOnDisk is the position of the oldest entry in the file, which may hold
	// more than the log: what has left goes with the next append.
	firstOnDisk uint64
	// droppedRecords are the numbers of records that are in the file and no more in
	// the dedup index.
	droppedRecords    []uint64
	uncommitted       bool      // the file may hold an append that was refused
	appendedSinceTrim bool      // since the last Trim
	lastCleanup       time.Time // when what has left was last removed from the file
	lastShrink        time.Time // when it was last tried to make the file smaller
	nameUnsynced      bool      // the file's name may not last yet

	// mu guards the rest. All that index and records hold is in the file,
	// too: an entry is added to the file first, and removed from it last.
	mu    sync.RWMutex
	db    *database
	index index
	dedup dedupIndex
}

var _ Store = (*File)(nil)

// cacheBytes is how much of the newest entries is kept in memory.
const cacheBytes = 8 << 20

// Epoch implements [Store].
func (f *File) Epoch() string { return f.epoch }

// Secret implements [Store].
func (f *File) Secret() []byte { return f.secret }

// Append implements [Store]. It fails when the disk is full, and works again
// when it isn't any more.
func (f *File) Append(entries []*Entry, records []IdempotencyRecord) error {
	if len(entries) == 0 && len(records) == 0 {
		return nil
	}
	f.writeMu.Lock()
	defer f.writeMu.Unlock()
	head, first := f.index.head, f.dedup.lastNumber+1
	entries, records = slices.Clone(entries), slices.Clone(records) // see run
	write := func() error {
		return f.update(func(b buckets) error {
			if err := b.putEntries(head, entries); err != nil {
				return err
			}
			return b.putRecords(first, records)
		})
	}
	err := write()
	if err != nil && f.backlog() > 0 && f.cleanUpAll() == nil {
		err = write() // what has left made room
	}
	if err != nil {
		return fmt.Errorf("writing to %s: %w", f.path, err)
	}
	f.appendedSinceTrim = true
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range entries {
		f.index.add(e)
	}
	f.index.limitCache(cacheBytes)
	for i := range records {
		f.dedup.addNumbered(first+uint64(i), &records[i])
	}
	return nil
}

// cleanupBatch is the number of entries that have left the log which one write
// transaction removes from the file.
const cleanupBatch = 2000

// update changes the file in one write transaction, which also removes some of
// the entries that have left the log.
func (f *File) update(change func(b buckets) error) error {
	if err := f.checkPath(); err != nil {
		return err
	}
	head, number := f.index.head, f.dedup.lastNumber
	first, tail := f.firstOnDisk, min(f.firstOnDisk+cleanupBatch, f.index.tail())
	gone := f.droppedRecords[:min(cleanupBatch, len(f.droppedRecords))]
	err := f.commit(func(tx *bbolt.Tx) error {
		b := bucketsOf(tx)
		if err := b.removeUncommitted(head, number); err != nil {
			return err
		}
		if err := b.remove(first, tail, gone); err != nil {
			return err
		}
		return change(b)
	})
	if err != nil {
		return err
	}
	f.uncommitted = false
	f.firstOnDisk, f.droppedRecords = tail, f.droppedRecords[len(gone):]
	return nil
}

// commit changes the file in a transaction. It succeeds if the transaction is the
// newest in the file that is found after a restart.
func (f *File) commit(change func(tx *bbolt.Tx) error) error {
	db, before := f.db, f.db.meta.tx
	if err := db.writeWriter(db.mark, before); err != nil {
		return err
	}
	err := f.checkOwner(before)
	if err == nil {
		err = f.do(func() error { return db.Update(change) })
		switch {
		case err == nil:
			err = cmp.Or(f.checkOwner(before+1), f.checkPath())
		case f.failure.get() != nil:
			return err // the transaction may go on
		default: // it may have reached the disk all the same
			err = cmp.Or(f.checkOwner(before, before+1), err)
			f.uncommitted = f.uncommitted || db.meta.tx != before
		}
	}
	_ = db.writeWriter(ownerMark{}, before) // a mark that stays delays the next open
	return err
}

// Trim implements [Store]. Entries that have left the log leave the file with the next
// Append, or now, if there was none since the last Trim.
func (f *File) Trim(h History, now time.Time) error {
	f.writeMu.Lock()
	defer f.writeMu.Unlock()
	f.mu.Lock()
	for f.index.exceeds(h, now) {
		f.index.drop()
	}
	f.dedup.expire(now)
	f.mu.Unlock()
	if err := f.cleanUp(now); err != nil {
		return fmt.Errorf("removing old events from %s: %w", f.path, err)
	}
	return f.shrink(now)
}

// cleanUp removes what has left the log from the file, unless an append will soon
// do so by the way. While events only leave, one by one, it waits until a
// second's are together.
func (f *File) cleanUp(now time.Time) error {
	behind := f.backlog()
	idle := !f.appendedSinceTrim && (f.index.len() == 0 || now.Sub(f.lastCleanup) >= time.Second)
	f.appendedSinceTrim = false
	if behind == 0 || behind < cleanupBatch && !idle {
		return nil
	}
	f.lastCleanup = now
	return f.cleanUpAll()
}

// backlog is how much is in the file and not, or no more, in the log.
func (f *File) backlog() int {
	n := int(f.index.tail()-f.firstOnDisk) + len(f.droppedRecords)
	if f.uncommitted {
		n++
	}
	return n
}

func (f *File) cleanUpAll() error {
	for f.backlog() > 0 {
		if err := f.update(func(buckets) error { return nil }); err != nil {
			return err
		}
	}
	return nil
}

// Close implements [Store]. It does not wait for calls that a failure left
// behind.
func (f *File) Close() error {
	f.writeMu.Lock()
	defer f.writeMu.Unlock()
	err, closeErr := f.cleanUpAll(), f.closeDatabase()
	if failure := f.failure.get(); failure != nil {
		return failure
	}
	return errors.Join(err, closeErr)
}

// closeDatabase closes the database, or, if the store has failed, only gives the
// file to other processes: bbolt would wait for locks that may never be
// released. The memory map stays until the process ends, and so does the open
// file if it is in use.
func (f *File) closeDatabase() error {
	err := f.do(f.db.Close)
	if f.failure.get() != nil {
		unlock(f.db.file)
		if f.failure.running.Load() == 0 {
			_ = f.db.file.Close()
		}
	}
	return err
}

// The file's buckets. The log's keys are positions, those of the records their
// numbers; the sequence of both is the log's head.
var (
	metaBucket   = []byte("meta")
	logBucket    = []byte("log")
	recordBucket = []byte("receipts")
)

// fillPercent is how full pages are made: all keys but the records' that go are
// written and removed in their order.
const fillPercent = 0.95

// buckets are those of one transaction.
type buckets struct{ log, records *bbolt.Bucket }

func bucketsOf(tx *bbolt.Tx) buckets {
	b := buckets{tx.Bucket(logBucket), tx.Bucket(recordBucket)}
	b.log.FillPercent, b.records.FillPercent = fillPercent, fillPercent
	return b
}

func keyOf(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// putEntries adds entries behind the head.
func (b buckets) putEntries(head uint64, entries []*Entry) error {
	for _, e := range entries {
		if err := b.log.Put(keyOf(e.Seq), appendRecord(nil, e)); err != nil {
			return err
		}
		head = e.Seq
	}
	return b.setHead(head)
}

func (b buckets) putRecords(number uint64, records []IdempotencyRecord) error {
	for i := range records {
		if err := b.records.Put(keyOf(number+uint64(i)), appendIdempotencyRecord(nil, &records[i])); err != nil {
			return err
		}
	}
	return nil
}

// removeUncommitted removes what is beyond the newest: it is of an append that was reported
// to have failed, when the disk did take it.
func (b buckets) removeUncommitted(head, number uint64) error {
	for _, c := range []struct {
		*bbolt.Cursor
		last uint64
	}{{b.log.Cursor(), head}, {b.records.Cursor(), number}} {
		for k, _ := c.Last(); k != nil && binary.BigEndian.Uint64(k) > c.last; k, _ = c.Last() {
			if err := c.Delete(); err != nil {
				return err
			}
		}
	}
	return b.setHead(head)
}

func (b buckets) setHead(head uint64) error {
	return errors.Join(b.log.SetSequence(head), b.records.SetSequence(head))
}

// remove removes the entries from one position up to before another, and
// records by their numbers.
func (b buckets) remove(from, to uint64, records []uint64) error {
	for ; from < to; from++ {
		if err := b.log.Delete(keyOf(from)); err != nil {
			return err
		}
	}
	for _, number := range records {
		if err := b.records.Delete(keyOf(number)); err != nil {
			return err
		}
	}
	return nil
}

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

// Entry implements [Store]. An entry that can't be read is none.
func (f *File) Entry(seq uint64) *Entry {
	return f.loadOne(func(*index) uint64 { return seq })
}

// Lookup implements [Store]. An entry that can't be read is none.
func (f *File) Lookup(id string) *Entry {
	return f.loadOne(func(x *index) uint64 { return x.byID[id] })
}

// Last implements [Store]. An entry that can't be read is none.
func (f *File) Last(topic string) *Entry {
	return f.loadOne(func(x *index) uint64 { return x.last(topic) })
}

// Topics implements [Store].
func (f *File) Topics(prefix string) []string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.index.topicsWith(prefix)
}

// loadOne reads the entry whose position find returns.
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

// Read implements [Store]. It fails when the file is damaged, or can't be read.
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

// loadAndUnlock appends entries of the log, those that aren't in memory from
// the file. It is called with mu held for reading, and lets go of it before
// it waits for the disk: the transaction holds on to what was in the file.
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
		defer tx.Rollback() //nolint:errcheck // it only reads
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

// readEntries reads the entries at the positions, which are in order.
func readEntries(tx *bbolt.Tx, seqs []uint64) ([]*Entry, error) {
	entries := make([]*Entry, len(seqs))
	log := tx.Bucket(logBucket).Cursor()
	last := uint64(math.MaxUint64)
	var key, value []byte
	for i, seq := range seqs {
		if seq == last+1 { // as a rule a reader's entries are near each other
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
	}
	return entries, nil
}
