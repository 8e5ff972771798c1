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
	return catchDamage(f.replace)
}

// usedBytes is how many bytes of the file hold something.
func (f *File) usedBytes() (bytes int64, err error) {
	err = f.db.View(func(tx *bbolt.Tx) error {
		stats := f.db.Stats()
		bytes = tx.Size() - int64(stats.FreePageN+stats.PendingPageN)*int64(f.db.Info().PageSize)
		return nil
	})
	return bytes, err
}

// replace puts a copy in the file's place. The copy is locked before anybody
// else can find it.
func (f *File) replace() error {
	db, err := newTempDB(f.path)
	if err != nil {
		return err
	}
	made := db.Path()
	db.AllocSize = growthBytes
	db.NoSync = true // it is of no use before it is complete
	// A damaged page makes bbolt panic.
	err = catchDamage(func() error { return errors.Join(bbolt.Compact(db, f.db, 8<<20), db.Sync()) })
	db.NoSync = false
	is, statErr := os.Stat(made)
	if err = errors.Join(err, statErr); err == nil {
		err = os.Rename(made, f.path)
	}
	if err != nil {
		return errors.Join(err, catchDamage(db.Close), os.Remove(made))
	}
	f.info, f.nameUnsynced = is, true
	f.mu.Lock()
	old := f.db
	f.db = db
	f.mu.Unlock()
	return errors.Join(f.checkPath(), old.Close()) // which waits for those who read it
}

// checkPath sees to it that the file that is written to is the one that is found
// after a restart: it fails if somebody has removed it, or put a copy back.
func (f *File) checkPath() error {
	if err := checkSameFile(f.path, f.info); err != nil {
		return fmt.Errorf("the file was removed or replaced while it was in use, restart to go on with what is there now: %w", err)
	}
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
