//go:build unix && !solaris && !aix

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// unlock releases bbolt's lock. A memory map that is still in use would otherwise
// keep the lock when the file is closed.
func unlock(file *os.File) { _ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN) }

// renameNew renames a file, unless the new name exists. A lock on a file of its own
// serializes processes that do so at the same time. removeTempFiles removes that
// file.
func renameNew(from, to string) error {
	file, err := os.OpenFile(to+".new-lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	switch info, err := os.Lstat(to); {
	case errors.Is(err, fs.ErrNotExist):
		return os.Rename(from, to)
	case err == nil && info.Mode()&os.ModeSymlink != 0 && !exists(to):
		return fmt.Errorf("%s is a symbolic link whose target is missing", to)
	default:
		return err
	}
}
