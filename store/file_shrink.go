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

// bbolt reuses free pages but never shrinks a file. The store copies a file of at
// least smallFile bytes that is mostly free, for example after a burst, into a
// smaller file.
const (
	smallFile   = 32 << 20
	shrinkPause = time.Minute // between two checks
	shrinkRetry = time.Hour   // after a failed attempt
)

// shrink shrinks the file if less than a quarter of it is in use. Publishers wait
// meanwhile, so shrink does nothing if more is in use.
func (f *File) shrink(now time.Time) error {
	if now.Sub(f.lastShrink) < shrinkPause {
		return nil
	}
	f.lastShrink = now
	err := f.shrinkTo(1, 4)
	if err != nil { // each attempt writes much to the disk
		f.lastShrink = now.Add(shrinkRetry - shrinkPause)
	}
	return err
}

// shrinkTo shrinks the file if less than parts/of of it is in use. If it fails, the
// file stays unchanged.
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

// usedBytes returns the size of the pages that are in use.
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

// replace replaces the file by a compact copy. It locks the copy before the copy
// gets its name.
func (f *File) replace() error {
	db, err := newTempDB(f.path)
	if err != nil {
		return err
	}
	made, old := db.Path(), f.db
	db.AllocSize = growthBytes
	err = f.do(func() error {
		db.NoSync = true // only the complete copy must be on the disk
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
	return errors.Join(f.checkPath(), f.do(old.Close)) // waits for readers
}

// checkPath fails if the path no longer leads to the open file, because it was
// removed or replaced: a restart would not find what the store writes. The store
// fails for good if the file was truncated.
func (f *File) checkPath() error {
	if err := f.failure.get(); err != nil {
		return err
	}
	info, err := statSameFile(f.path, f.info)
	if err != nil {
		return fmt.Errorf("the file was removed or replaced while it was in use: restart Caddy to use the file that is there now: %w", err)
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

// syncDir syncs the directory of a path, except on Windows, which can't.
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
