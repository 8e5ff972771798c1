package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
)

// File is a store that keeps the log in a file, so that it outlives the process.
// [File.Append] returns after the disk has reported a sync. The index and the
// newest entries, up to 8 MiB, are in memory as well, so that subscribers at the
// end of the log read no file.
//
// One process at a time can have the file open. If the file is damaged, truncated
// or written by another process, the store fails: Append, Trim and Close, and
// reads of entries that aren't in memory, return the same error from then on.
type File struct {
	path    string
	info    os.FileInfo  // identifies the open file
	size    atomic.Int64 // of the file after the last write
	epoch   string
	secret  []byte
	failure *failure

	// writeMu serializes changes to the file. It guards the fields up to mu.
	writeMu sync.Mutex
	// firstOnDisk is the position of the oldest entry in the file. Entries that
	// the log has dropped stay in the file until the next update.
	firstOnDisk uint64
	// droppedRecords are the numbers of the records that the dedup index has
	// dropped and the file still holds.
	droppedRecords    []uint64
	uncommitted       bool      // the file may hold an append that failed
	appendedSinceTrim bool      // since the last Trim
	lastCleanup       time.Time // when update last removed dropped entries
	lastShrink        time.Time // the last attempt to shrink the file
	nameUnsynced      bool      // the directory must be synced

	// mu guards the rest. The file holds everything that index and dedup hold:
	// an entry is added to the file first and removed from it last.
	mu    sync.RWMutex
	db    *database
	index index
	dedup dedupIndex
}

var _ Store = (*File)(nil)

// cacheBytes limits the size of the newest entries that are kept in memory.
const cacheBytes = 8 << 20

// Epoch implements [Store].
func (f *File) Epoch() string { return f.epoch }

// Secret implements [Store].
func (f *File) Secret() []byte { return f.secret }

// Append implements [Store]. It fails while the disk is full, and succeeds again
// when there is space.
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
		err = write() // the cleanup freed space
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

// commit calls change in a transaction and commits it. Before and after, it checks
// that the store owns the file and that the file has kept its name.
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
			return err // the transaction may still be running
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

// cleanUp removes dropped entries from the file, unless the next append can do so
// at no extra cost. Without appends it runs at most once a second, unless the log
// is empty.
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

// backlog returns the number of entries and records that the file must lose.
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

// Close implements [Store]. If the store has failed, Close doesn't wait for calls
// that are in progress.
func (f *File) Close() error {
	f.writeMu.Lock()
	defer f.writeMu.Unlock()
	err, closeErr := f.cleanUpAll(), f.closeDatabase()
	if failure := f.failure.get(); failure != nil {
		return failure
	}
	return errors.Join(err, closeErr)
}

// closeDatabase closes the database. If the store has failed, closeDatabase only
// unlocks the file: bbolt would wait for locks that may never be released. The
// memory map then stays until the process ends, and so does the open file if a
// call is using it.
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

// The file's buckets. The keys of the log are positions, the keys of the records
// are numbers. The sequence of both buckets is the log's head.
var (
	metaBucket   = []byte("meta")
	logBucket    = []byte("log")
	recordBucket = []byte("receipts")
)

// fillPercent is high because keys are appended in order, and nearly all are
// removed in order.
const fillPercent = 0.95

// buckets are the buckets of one transaction.
type buckets struct{ log, records *bbolt.Bucket }

func bucketsOf(tx *bbolt.Tx) buckets {
	b := buckets{tx.Bucket(logBucket), tx.Bucket(recordBucket)}
	b.log.FillPercent, b.records.FillPercent = fillPercent, fillPercent
	return b
}

func keyOf(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// putEntries adds entries after the head.
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
		if err := b.records.Put(keyOf(number+uint64(i)), AppendIdempotencyRecord(nil, &records[i])); err != nil {
			return err
		}
	}
	return nil
}

// removeUncommitted removes entries after the head and records after a number. An
// append leaves them if it fails after its last write has reached the disk.
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

// remove removes the entries from position from up to, not including, position
// to, and the records with the numbers.
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
