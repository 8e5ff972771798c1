package store

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
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
	db, is, err := lockFile(path, cmp.Or(o.Wait, 3*time.Second))
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	removeTempFiles(path)
	db.AllocSize = growthBytes
	f := &File{path: path, info: is, db: db, index: newIndex()}
	f.dedup.onDrop = func(number uint64) { f.droppedRecords = append(f.droppedRecords, number) }
	if err := catchDamage(f.load); err != nil {
		_ = catchDamage(db.Close)
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	_ = f.shrinkTo(1, 2) // a file that stays large works as well
	return f, nil
}

// catchDamage turns what bbolt does about a file that makes no sense, and the
// system's faults where a file is shorter than it says, into errors.
func catchDamage(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, r)
		}
	}()
	return do()
}

// create makes the file of an empty log, unless there is a file. It appears
// whole or not at all.
func create(path string) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := newTempDB(path)
	if err != nil {
		return err
	}
	made := db.Path()
	defer os.Remove(made)
	if err := errors.Join(db.Update(initialize), db.Close()); err != nil {
		return err
	}
	if err := linkOrRename(made, path); err != nil {
		return err
	}
	return syncDir(path)
}

// link is [os.Link]. Tests replace it.
var link = os.Link

// linkOrRename gives a new file its name, unless another process has made a file of
// that name. A hard link never replaces a file. File systems without hard links,
// such as some container volumes have, get a rename under a lock.
func linkOrRename(made, path string) error {
	err := link(made, path)
	if err == nil || exists(path) {
		return nil
	}
	if errors.Is(err, fs.ErrExist) { // a link whose target is missing
		return err
	}
	if renamed := renameNew(made, path); renamed != nil {
		return errors.Join(err, renamed)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// newTempDB makes an empty file beside another.
func newTempDB(path string) (*bbolt.DB, error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(file.Name(), 0o600, boltOptions(0))
	if err != nil {
		return nil, errors.Join(err, os.Remove(file.Name()))
	}
	return db, nil
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

func boltOptions(wait time.Duration) *bbolt.Options {
	return &bbolt.Options{Timeout: wait, FreelistType: bbolt.FreelistMapType}
}

// growthBytes is by how many bytes a file grows that has become larger than that.
const growthBytes = 4 << 20

func initialize(tx *bbolt.Tx) error {
	meta, err := tx.CreateBucket(metaBucket)
	if err != nil {
		return err
	}
	for _, name := range [][]byte{logBucket, recordBucket} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	epoch, secret := newEpoch()
	return errors.Join(
		meta.Put([]byte("format"), []byte{formatVersion}),
		meta.Put([]byte("epoch"), []byte(epoch)),
		meta.Put([]byte("secret"), secret),
	)
}

// newEpoch returns what tells a new log from all others, and its secret.
func newEpoch() (epoch string, secret []byte) {
	secret = make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	return strings.ToLower(rand.Text()[:10]), secret
}

// lockFile opens the file for this process alone.
func lockFile(path string, wait time.Duration) (*bbolt.DB, os.FileInfo, error) {
	for {
		db, file, err := openBolt(path, wait)
		if err != nil {
			return nil, nil, err
		}
		is, err := file.Stat()
		if err == nil && checkSameFile(path, is) == nil {
			return db, is, nil
		}
		// Whoever had it has put a smaller one in its place.
		if err := errors.Join(err, db.Close()); err != nil {
			return nil, nil, err
		}
	}
}

// checkSameFile fails if another file is found under the name, or none.
func checkSameFile(path string, is os.FileInfo) error {
	found, err := os.Stat(path)
	if err == nil && !os.SameFile(is, found) {
		err = errors.New("another file is in its place")
	}
	return err
}

func openBolt(path string, wait time.Duration) (db *bbolt.DB, file *os.File, err error) {
	options := boltOptions(wait)
	options.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		// Not a new one: bbolt would make a log out of nothing.
		file, err = os.OpenFile(name, flag&^os.O_CREATE, mode)
		if err == nil {
			err = checkNotEmpty(file)
		}
		return file, err
	}
	err = catchDamage(func() (err error) {
		db, err = bbolt.Open(path, 0o600, options)
		return err
	})
	switch {
	case err == nil:
		return db, file, nil
	case errors.Is(err, berrors.ErrTimeout):
		err = fmt.Errorf("another process has had it open for the last %v: each needs a directory of its own", wait)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if file != nil {
		unlock(file) // bbolt leaves it open when it panics
		_ = file.Close()
	}
	return nil, nil, err
}

// checkNotEmpty refuses a file that has lost all, which bbolt would take for a
// new one.
func checkNotEmpty(file *os.File) error {
	info, err := file.Stat()
	if err == nil && info.Size() < 2*4096 {
		err = fmt.Errorf("%w: it has %d bytes", ErrDamaged, info.Size())
	}
	return err
}

// load reads all but the frames.
func (f *File) load() error {
	return f.db.View(func(tx *bbolt.Tx) error {
		if err := f.checkLength(tx); err != nil {
			return err
		}
		if err := f.loadMeta(tx); err != nil {
			return err
		}
		if err := f.loadLog(tx); err != nil {
			return err
		}
		return f.loadRecords(tx)
	})
}

func (f *File) checkLength(tx *bbolt.Tx) error {
	info, err := os.Stat(f.path)
	if err == nil && info.Size() < tx.Size() {
		err = fmt.Errorf("%w: it has %d bytes of %d", ErrDamaged, info.Size(), tx.Size())
	}
	return err
}

func (f *File) loadMeta(tx *bbolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil || tx.Bucket(logBucket) == nil || tx.Bucket(recordBucket) == nil {
		return fmt.Errorf("%w: it is no log", ErrDamaged)
	}
	if v := meta.Get([]byte("format")); len(v) != 1 || v[0] != formatVersion {
		return fmt.Errorf("it is of format %v, and this version reads %d: it was made by another version", v, formatVersion)
	}
	f.epoch = string(meta.Get([]byte("epoch")))
	f.secret = append([]byte(nil), meta.Get([]byte("secret"))...)
	if f.epoch == "" || len(f.secret) == 0 {
		return fmt.Errorf("%w: its epoch or its secret is missing", ErrDamaged)
	}
	return nil
}

func (f *File) loadLog(tx *bbolt.Tx) error {
	log := tx.Bucket(logBucket)
	err := log.ForEach(func(key, value []byte) error {
		seq, err := parseNumber(key)
		if err != nil {
			return err
		}
		if f.index.len() > 0 && seq != f.index.head+1 {
			return fmt.Errorf("%w: there is nothing between %d and %d", ErrDamaged, f.index.head, seq)
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
	head := log.Sequence()
	if f.index.len() > 0 && f.index.head != head {
		return fmt.Errorf("%w: it ends at %d instead of %d", ErrDamaged, f.index.head, head)
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
		r, err := parseIdempotencyRecord(value)
		if err != nil {
			return fmt.Errorf("record %d: %w", n, err)
		}
		f.dedup.addNumbered(n, r)
		return nil
	})
}

func parseNumber(key []byte) (uint64, error) {
	if len(key) != 8 {
		return 0, fmt.Errorf("%w: %x is no number", ErrDamaged, key)
	}
	return binary.BigEndian.Uint64(key), nil
}
