package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"go.etcd.io/bbolt"
)

// A file never gets smaller by itself: what is free in it is used again. One
// that is mostly free, since the history was made smaller or after a burst, is
// copied into a new one of what is in it, if it is not small anyway.
const (
	smallFile   = 32 << 20
	shrinkPause = time.Minute // from one look to the next
	shrinkRetry = time.Hour   // after one that has failed
)

// shrink makes a file smaller of which less than a quarter is in use. Events
// that are published meanwhile wait, so it is not done for less.
func (f *File) shrink(now time.Time) error {
	if now.Sub(f.lastShrink) < shrinkPause {
		return nil
	}
	f.lastShrink = now
	err := f.shrinkTo(1, 4)
	if err != nil { // each try writes much, and keeps the disk from others
		f.lastShrink = now.Add(shrinkRetry - shrinkPause)
	}
	return err
}

// shrinkTo makes a file smaller if the part of it that is in use is less than
// so many of so many. Where that fails the file stays as it is.
func (f *File) shrinkTo(parts, of int64) error {
	info, err := os.Stat(f.path)
	if err != nil {
		return err
	}
	used, err := f.usedBytes()
	if err != nil || info.Size() < smallFile || used > info.Size()/of*parts {
		return err
	}
	return f.replace()
}

// usedBytes is how many bytes of the file hold something.
func (f *File) usedBytes() (bytes int64, err error) {
	db := f.db
	return run(f, func() (int64, error) {
		var size int64
		err := db.View(func(tx *bbolt.Tx) error {
			stats := db.Stats()
			size = tx.Size() - int64(stats.FreePageN+stats.PendingPageN)*int64(db.Info().PageSize)
			return nil
		})
		return size, err
	})
}

// replace puts a copy in the file's place. The copy is locked before anybody
// else can find it.
func (f *File) replace() error {
	db, err := newTempDB(f.path)
	if err != nil {
		return err
	}
	made, old := db.Path(), f.db
	db.AllocSize = growthBytes
	err = f.do(func() error {
		db.NoSync = true // it is of no use before it is complete
		defer func() { db.NoSync = false }()
		return errors.Join(bbolt.Compact(db.DB, old.DB, 8<<20), db.Sync())
	})
	is, statErr := os.Stat(made)
	meta, metaErr := readMeta(db.file)
	db.meta = meta
	if err = errors.Join(err, statErr, metaErr); err == nil {
		err = f.checkOwner(old.meta.tx)
	}
	if err == nil {
		err = os.Rename(made, f.path)
	}
	if err != nil {
		if f.failure.get() == nil {
			err = errors.Join(err, db.Close())
		}
		return errors.Join(err, os.Remove(made))
	}
	f.info, f.nameUnsynced = is, true
	f.size.Store(is.Size())
	f.mu.Lock()
	f.db = db
	f.mu.Unlock()
	return errors.Join(f.checkPath(), f.do(old.Close)) // which waits for those who read it
}

// checkPath sees to it that the file that is written to is the one that is found
// after a restart: it fails if somebody has removed it, or put a copy back.
func (f *File) checkPath() error {
	if err := f.failure.get(); err != nil {
		return err
	}
	info, err := statSameFile(f.path, f.info)
	if err != nil {
		return fmt.Errorf("the file was removed or replaced while it was in use, restart to go on with what is there now: %w", err)
	}
	if err := f.checkSize(info); err != nil {
		return f.failure.fail(err)
	}
	f.size.Store(info.Size())
	if !f.nameUnsynced {
		return nil
	}
	if err := syncDir(f.path); err != nil {
		return err
	}
	f.nameUnsynced = false
	return nil
}

// syncDir makes the names beside a file last, where a directory can be synced.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
