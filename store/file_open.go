package store

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/bbolt"
)

// FileOptions say how a file is opened. The zero ones are the defaults.
type FileOptions struct {
	// Wait is how long to wait for a process that has the file open, one that
	// is about to end say. Zero means 3 s.
	Wait time.Duration
	// Replaced, if it is set, makes a damaged file be set aside and a new log
	// be begun in its place. It is told where the old one is now, and why.
	OnReplace func(aside string, cause error)
}

// formatVersion is the version of what is in the file.
const formatVersion = 1

// OpenFile opens the log in a file, and makes an empty one if there is no file.
// A file that is made can be read and written by its owner only, and so can a
// directory; one that is there keeps its mode. The path may be a symbolic link.
//
// It fails if another process has the file open, and with [ErrDamaged] if the
// file is damaged and no [FileOptions.OnReplace] is set; the file is as it was.
func OpenFile(path string, o FileOptions) (*File, error) {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	// A link stays one when the file is made anew.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	f, err := openFile(path, o)
	if err == nil || o.OnReplace == nil || !errors.Is(err, ErrDamaged) {
		return f, err
	}
	aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	if err := os.Rename(path, aside); err != nil {
		return nil, fmt.Errorf("setting a damaged file aside: %w", err)
	}
	o.OnReplace(aside, err)
	return openFile(path, o)
}

// makeDir makes a directory, and those above it, so that they last.
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
		return nil, fmt.Errorf("making %s: %w", path, err)
	}
	wait := cmp.Or(o.Wait, 3*time.Second)
	deadline := time.Now().Add(wait)
	for {
		f, err := tryOpen(path, wait)
		switch {
		case err == nil:
			removeTempFiles(path)
			_ = f.shrinkTo(1, 2) // a file that stays large works as well
			return f, nil
		case !errors.Is(err, errChanged) || time.Now().After(deadline):
			return nil, fmt.Errorf("opening %s: %w", path, err)
		}
	}
}

// errChanged means that the file changes although it is locked.
var errChanged = errors.New("another process writes to it although this one has locked it: locks have no effect on its file system, so move the file to another, and restart")

// tryOpen verifies the file and opens it. It fails with errChanged if another
// process changes the file meanwhile: one that is about to end, and replaced
// the file by a smaller one, or one that the lock does not keep out.
func tryOpen(path string, wait time.Duration) (*File, error) {
	meta, err := verifyFile(path, wait)
	if err != nil {
		return nil, err
	}
	db, err := openDatabase(path, &bbolt.Options{Timeout: wait}, checkNotEmpty)
	if err != nil {
		return nil, err
	}
	db.AllocSize, db.meta = growthBytes, meta
	f := &File{path: path, db: db, failure: newFailure(), index: newIndex()}
	f.dedup.onDrop = func(number uint64) { f.droppedRecords = append(f.droppedRecords, number) }
	if err := f.own(); err != nil {
		_ = f.closeDatabase() // nothing is written to a damaged file
		return nil, err
	}
	return f, nil
}

// own loads the log and makes the store the owner of the file. It fails with
// errChanged if the file is no more as it was verified: bbolt has read the list of
// free pages then, and what it reads later may not fit. A file that can't be
// loaded stays as it is.
func (f *File) own() (err error) {
	if f.info, err = f.db.file.Stat(); err != nil {
		return err
	}
	f.size.Store(f.info.Size())
	err = f.do(f.load)
	if _, replaced := statSameFile(f.path, f.info); replaced != nil {
		return errChanged
	}
	if now, changed := readMeta(f.db.file); changed == nil && now != f.db.meta {
		return errChanged // an append overwrites pages that were in use before
	}
	if err == nil {
		err = cmp.Or(f.db.writeOwner(), f.db.waitForWriter())
	}
	if err != nil {
		return err
	}
	return f.checkOwner(f.db.meta.tx)
}

// verifyFile verifies the structure of the file before bbolt relies on it, with
// a lock that lasts as long.
func verifyFile(path string, wait time.Duration) (dbMeta, error) {
	db, err := openDatabase(path, &bbolt.Options{Timeout: wait, ReadOnly: true}, checkNotEmpty)
	if err != nil {
		return dbMeta{}, err
	}
	defer db.Close()
	meta, err := readMeta(db.file)
	info, statErr := db.file.Stat()
	if err = errors.Join(err, statErr); err == nil {
		err = verify(db.file, info.Size(), meta)
	}
	if now, changed := readMeta(db.file); changed == nil && now != meta {
		return dbMeta{}, errChanged // see own
	}
	return meta, err
}

// removeTempFiles removes what a crash has left half made. Whoever has locked
// the file itself is the only one that makes any.
func removeTempFiles(path string) {
	made, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*.new-*"))
	for _, name := range made {
		if strings.HasPrefix(filepath.Base(name), filepath.Base(path)+".new-") {
			_ = os.Remove(name)
		}
	}
}

// statSameFile returns information about the file of a name. It fails if there is
// another file than is, or none.
func statSameFile(path string, is os.FileInfo) (os.FileInfo, error) {
	found, err := os.Stat(path)
	if err == nil && !os.SameFile(is, found) {
		err = errors.New("another file is in its place")
	}
	return found, err
}

// checkNotEmpty refuses a file that has lost all, which bbolt would take for a
// new one.
func checkNotEmpty(file *os.File) error {
	info, err := file.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errors.New("it is no file")
	case info.Size() < 2*4096:
		err = fmt.Errorf("%w: it has %d bytes", ErrDamaged, info.Size())
	}
	return err
}
