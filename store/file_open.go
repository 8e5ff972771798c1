package store

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// FileOptions configures [OpenFile]. The zero value has the defaults.
type FileOptions struct {
	// Wait limits how long OpenFile waits for another process, for example one
	// that is exiting, to close the file. Zero means 3 s.
	Wait time.Duration
	// OnReplace, if set, makes OpenFile rename a damaged file and create an
	// empty log in its place. OpenFile calls it with the new path of the damaged
	// file and the damage. If nil, OpenFile fails.
	OnReplace func(aside string, cause error)
}

// formatVersion is the version of the file format.
const formatVersion = 1

// OpenFile opens the log in a file. If the file doesn't exist, OpenFile creates an
// empty log, and the directories of its path. Only the owner can access a file or
// a directory that OpenFile creates; an existing one keeps its mode. The path may
// be a symbolic link.
//
// OpenFile verifies the structure of the file and reads everything but the frames.
// It fails if another process has the file open, and with [ErrDamaged] if the file
// is damaged and [FileOptions.OnReplace] is nil. It doesn't change a file that it
// doesn't open.
func OpenFile(path string, o FileOptions) (*File, error) {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	// shrink replaces the file and must not replace the link.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	f, err := openFile(path, o)
	if err == nil || o.OnReplace == nil || !errors.Is(err, ErrDamaged) {
		return f, err
	}
	aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	if err := os.Rename(path, aside); err != nil {
		return nil, fmt.Errorf("renaming a damaged file: %w", err)
	}
	o.OnReplace(aside, err)
	return openFile(path, o)
}

// makeDir creates a directory and its parents, and syncs them.
func makeDir(path string) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(path)
}

func openFile(path string, o FileOptions) (*File, error) {
	if err := create(path); err != nil {
		return nil, fmt.Errorf("creating %s: %w", path, err)
	}
	wait := cmp.Or(o.Wait, 3*time.Second)
	deadline := time.Now().Add(wait)
	for {
		f, err := tryOpen(path, wait)
		switch {
		case err == nil:
			removeTempFiles(path)
			_ = f.shrinkTo(1, 2) // a large file works as well
			return f, nil
		case !errors.Is(err, errChanged) || time.Now().After(deadline):
			return nil, fmt.Errorf("opening %s: %w", path, err)
		}
	}
}

// errChanged means that the file changes although it is locked.
var errChanged = errors.New("another process writes to the file although this one has locked it: locks have no effect on this file system, use a local one")

// tryOpen verifies the file and opens it. It fails with errChanged if another
// process changes the file meanwhile: a process that exits may replace the file by
// a smaller one, and a lock may have no effect.
func tryOpen(path string, wait time.Duration) (*File, error) {
	meta, err := verifyFile(path, wait)
	if err != nil {
		return nil, err
	}
	db, err := openDatabase(path, &bbolt.Options{Timeout: wait}, checkNotEmpty)
	if errors.Is(err, ErrDamaged) && hasChanged(path, meta) {
		err = errChanged // see own
	}
	if err != nil {
		return nil, err
	}
	db.AllocSize, db.meta = growthBytes, meta
	f := &File{path: path, db: db, failure: newFailure(), index: newIndex()}
	f.dedup.onDrop = func(number uint64) { f.droppedRecords = append(f.droppedRecords, number) }
	if err := f.own(); err != nil {
		_ = f.closeDatabase() // Close would write to a damaged file
		return nil, err
	}
	return f, nil
}

// hasChanged is [isChanged] for a path.
func hasChanged(path string, meta dbMeta) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	return isChanged(file, meta)
}

// own loads the log and makes the store the owner of the file. It fails with
// errChanged if the file has changed since it was verified, because bbolt's list
// of free pages may be out of date. It doesn't change a file that it can't load.
func (f *File) own() (err error) {
	if f.info, err = f.db.file.Stat(); err != nil {
		return err
	}
	f.size.Store(f.info.Size())
	err = f.do(f.load)
	if _, replaced := statSameFile(f.path, f.info); replaced != nil {
		return errChanged
	}
	if isChanged(f.db.file, f.db.meta) {
		return errChanged // err may be due to pages that an append has overwritten
	}
	if err == nil {
		err = cmp.Or(f.db.writeOwner(), f.db.waitForWriter())
	}
	if err != nil {
		return err
	}
	return f.checkOwner(f.db.meta.tx)
}

// verifyFile verifies the structure of the file before bbolt relies on it. It holds
// a shared lock meanwhile.
func verifyFile(path string, wait time.Duration) (dbMeta, error) {
	db, err := openDatabase(path, &bbolt.Options{Timeout: wait, ReadOnly: true}, checkNotEmpty)
	if err != nil {
		return dbMeta{}, err
	}
	defer db.Close()
	return verifyUnchanged(db.file)
}

// openedFile is an [os.File] that is only read.
type openedFile interface {
	io.ReaderAt
	Stat() (fs.FileInfo, error)
}

// verifyUnchanged verifies the structure of a file, and fails with errChanged if
// it changes meanwhile.
func verifyUnchanged(file openedFile) (dbMeta, error) {
	meta, err := readMeta(file)
	info, statErr := file.Stat()
	if err = errors.Join(err, statErr); err == nil {
		err = verify(file, info.Size(), meta)
	}
	if isChanged(file, meta) {
		return dbMeta{}, errChanged // see own
	}
	return meta, err
}

// removeTempFiles removes the temporary files that a crash has left. Only the
// process that has locked the file creates such files.
func removeTempFiles(path string) {
	made, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*.new-*"))
	for _, name := range made {
		if strings.HasPrefix(filepath.Base(name), filepath.Base(path)+".new-") {
			_ = os.Remove(name)
		}
	}
}

// statSameFile returns information about the file at a path. It fails if that file
// is not the same as is.
func statSameFile(path string, is os.FileInfo) (os.FileInfo, error) {
	found, err := os.Stat(path)
	if err == nil && !os.SameFile(is, found) {
		err = errors.New("the path leads to another file")
	}
	return found, err
}

// checkNotEmpty fails if the file is too short for a database. bbolt would
// initialize an empty file.
func checkNotEmpty(file *os.File) error {
	info, err := file.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errors.New("it is no regular file")
	case info.Size() < 2*4096:
		err = fmt.Errorf("%w: it has %d bytes", ErrDamaged, info.Size())
	}
	return err
}
