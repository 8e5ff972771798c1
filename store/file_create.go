package store

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/bbolt"
)

// create creates the file of an empty log, unless the path exists. The file
// appears complete or not at all.
func create(path string) error {
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	db, err := newTempDB(path)
	switch {
	case err != nil && exists(path): // another store has created it, and removed the temporary file
		return nil
	case err != nil:
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

// linkOrRename gives the file made the name path, unless path exists. A hard link
// never replaces a file. On file systems without hard links, such as those of some
// container volumes, linkOrRename renames the file under a lock.
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

// newTempDB creates an empty database in a temporary file in the directory of path.
func newTempDB(path string) (*database, error) {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return nil, err
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	db, err := openDatabase(file.Name(), new(bbolt.Options), func(*os.File) error { return nil })
	if err != nil {
		return nil, errors.Join(err, os.Remove(file.Name()))
	}
	return db, nil
}

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
		meta.Put([]byte("checksum"), epochChecksum(epoch, secret)),
	)
}

// newEpoch returns the epoch and the secret of a new log.
func newEpoch() (epoch string, secret []byte) {
	secret = make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	return strings.ToLower(rand.Text()[:10]), secret
}
