package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"go.etcd.io/bbolt"
)

// load reads everything but the frames into the index and the dedup index.
func (f *File) load() error {
	return f.db.View(func(tx *bbolt.Tx) error {
		if err := f.loadMeta(tx); err != nil {
			return err
		}
		if err := f.loadLog(tx); err != nil {
			return err
		}
		return f.loadRecords(tx)
	})
}

func (f *File) loadMeta(tx *bbolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil || tx.Bucket(logBucket) == nil || tx.Bucket(recordBucket) == nil {
		return fmt.Errorf("%w: it contains no log", ErrDamaged)
	}
	if v := meta.Get([]byte("format")); len(v) != 1 || v[0] != formatVersion {
		return fmt.Errorf("its format is %v, and this version reads %d: use the version that created it", v, formatVersion)
	}
	f.epoch = string(meta.Get([]byte("epoch")))
	f.secret = append([]byte(nil), meta.Get([]byte("secret"))...)
	sum := meta.Get([]byte("checksum")) // early files have none
	if f.epoch == "" || len(f.secret) == 0 || sum != nil && !bytes.Equal(sum, epochChecksum(f.epoch, f.secret)) {
		return fmt.Errorf("%w: the checksum of its epoch and secret is wrong", ErrDamaged)
	}
	return nil
}

// epochChecksum returns the checksum of an epoch and a secret.
func epochChecksum(epoch string, secret []byte) []byte {
	sum := crc32.Checksum([]byte(epoch), castagnoli)
	return binary.BigEndian.AppendUint32(nil, crc32.Update(sum, castagnoli, secret))
}

func (f *File) loadLog(tx *bbolt.Tx) error {
	log := tx.Bucket(logBucket)
	err := log.ForEach(func(key, value []byte) error {
		seq, err := parseNumber(key)
		if err != nil {
			return err
		}
		if f.index.len() > 0 && seq != f.index.head+1 {
			return fmt.Errorf("%w: the events between %d and %d are missing", ErrDamaged, f.index.head, seq)
		}
		e, frame, err := parseHead(seq, value)
		if err != nil {
			return fmt.Errorf("the event at %d: %w", seq, err)
		}
		f.index.addStored(e, len(frame))
		return nil
	})
	if err != nil {
		return err
	}
	// Both buckets have the head: with one, damage to it could make an empty log
	// reuse positions. Early files have one.
	head, copied := log.Sequence(), tx.Bucket(recordBucket).Sequence()
	if copied != 0 && copied != head {
		return fmt.Errorf("%w: the last position is %d in one place and %d in another", ErrDamaged, head, copied)
	}
	if f.index.len() > 0 && f.index.head != head {
		return fmt.Errorf("%w: the last event is %d instead of %d", ErrDamaged, f.index.head, head)
	}
	f.index.head = head
	f.firstOnDisk = f.index.tail()
	return nil
}

func (f *File) loadRecords(tx *bbolt.Tx) error {
	return tx.Bucket(recordBucket).ForEach(func(key, value []byte) error {
		n, err := parseNumber(key)
		if err != nil {
			return err
		}
		r, err := ParseIdempotencyRecord(value)
		if err != nil {
			return fmt.Errorf("record %d: %w", n, err)
		}
		f.dedup.addNumbered(n, r)
		return nil
	})
}

func parseNumber(key []byte) (uint64, error) {
	if len(key) != 8 {
		return 0, fmt.Errorf("%w: %x is no key of eight bytes", ErrDamaged, key)
	}
	return binary.BigEndian.Uint64(key), nil
}
