package store

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// database is a bbolt database and the file that it has open.
type database struct {
	*bbolt.DB
	file *os.File
	mark ownerMark
	meta dbMeta // as the store left it
}

// growthBytes is by how many bytes a file grows that has become larger than that.
const growthBytes = 4 << 20

// openDatabase opens the database in a file that exists, if check allows it. The
// file is locked for this process alone, or, with options.ReadOnly, against
// processes that write.
func openDatabase(path string, options *bbolt.Options, check func(*os.File) error) (*database, error) {
	var db database
	_, _ = rand.Read(db.mark[:]) // never fails
	options.FreelistType = bbolt.FreelistMapType
	options.OpenFile = func(name string, flag int, mode os.FileMode) (file *os.File, err error) {
		// Not a new one: bbolt would make a log out of nothing.
		file, err = os.OpenFile(name, flag&^os.O_CREATE, mode)
		if err == nil {
			err = check(file)
		}
		db.file = file
		return file, err
	}
	err := catchDamage(func() (err error) {
		db.DB, err = bbolt.Open(path, 0o600, options)
		return err
	})
	switch {
	case err == nil:
		return &db, nil
	case errors.Is(err, berrors.ErrTimeout):
		err = fmt.Errorf("another process has had it open for the last %v: each needs a directory of its own", options.Timeout)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if db.file != nil {
		unlock(db.file) // bbolt leaves it open when it panics
		_ = db.file.Close()
	}
	return nil, err
}

// ownerMark names the store that writes to a file. It is random, and zero for
// none.
//
// bbolt locks the file, but on some file systems locks have no effect. So the end
// of both meta pages, which bbolt doesn't use and fills with zeros when it writes
// the page, has two marks: of the store that opened the file last, its owner,
// and of a store that is writing. Two stores lose no acknowledged event:
//
//   - To write, a store marks itself as writing, then checks that it is the
//     owner. It checks that again before it acknowledges what it wrote.
//   - To open, a store loads the log, marks itself as the owner, then waits until
//     no store is writing. If the file has changed since it was loaded, the
//     store starts again.
//
// So a store that is no longer the owner either finds that out and writes
// nothing, or has written before the new owner has opened the file. A store whose
// file was written by a program that leaves no marks notices the transaction.
type ownerMark [16]byte

const marksSize = int64(2 * len(ownerMark{}))

// marks are those of one meta page.
type marks struct{ writer, owner ownerMark }

func (d *database) marksAt(page int64) int64 { return (page+1)*d.meta.pageSize - marksSize }

func (d *database) readMarks(page int64) (m marks, err error) {
	var b [marksSize]byte
	_, err = d.file.ReadAt(b[:], d.marksAt(page))
	copy(m.writer[:], b[:])
	copy(m.owner[:], b[len(m.writer):])
	return m, err
}

// writeOwner makes the store the owner. The marks need not be on the disk: they
// are for processes that run at the same time.
func (d *database) writeOwner() error {
	_, err0 := d.file.WriteAt(d.mark[:], d.marksAt(0)+int64(len(d.mark)))
	_, err1 := d.file.WriteAt(d.mark[:], d.marksAt(1)+int64(len(d.mark)))
	return errors.Join(err0, err1)
}

// writeWriter sets the mark of the store that is writing, which may be none, on
// the meta page of a transaction. The next transaction overwrites the other.
func (d *database) writeWriter(m ownerMark, transaction uint64) error {
	_, err := d.file.WriteAt(m[:], d.marksAt(int64(transaction%2)))
	return err
}

// writerWait is how long a store that opens a file waits for a store that is
// writing to it. The mark also stays if a process crashes while it writes.
const writerWait = time.Second

// waitForWriter waits until no store is writing.
func (d *database) waitForWriter() error {
	for deadline := time.Now().Add(writerWait); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		first, err0 := d.readMarks(0)
		second, err1 := d.readMarks(1)
		if first.writer == (ownerMark{}) && second.writer == (ownerMark{}) || err0 != nil || err1 != nil {
			return errors.Join(err0, err1)
		}
	}
	return errors.Join(d.writeWriter(ownerMark{}, 0), d.writeWriter(ownerMark{}, 1))
}

// readOwn returns the newest meta page. It fails with errChanged if another
// store has opened the file.
func (d *database) readOwn() (dbMeta, error) {
	for page := range int64(2) {
		m, err := d.readMarks(page)
		if err != nil {
			return dbMeta{}, err
		}
		if m.owner != d.mark && m.owner != (ownerMark{}) {
			return dbMeta{}, errChanged
		}
	}
	return readMeta(d.file)
}

// checkOwner fails, and the store with it, if another store has opened the file,
// or if the newest transaction is none of those.
func (f *File) checkOwner(transactions ...uint64) error {
	m, err := f.db.readOwn()
	if err != nil && !errors.Is(err, errChanged) {
		err = f.explain(err)
	}
	if err == nil && (!slices.Contains(transactions, m.tx) || m.tx == f.db.meta.tx && m != f.db.meta) {
		err = errChanged
	}
	if err != nil {
		return f.failure.fail(err)
	}
	f.db.meta = m
	return nil
}
