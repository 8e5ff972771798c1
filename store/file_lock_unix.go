//go:build unix && !solaris && !aix

package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// unlock lets go of a file whose memory map can't be reached any more: the map
// would hold on to the lock when the file is closed.
func unlock(file *os.File) { _ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN) }

// renameNew renames a file unless there is one of the new name. Processes that
// do so at the same time take turns by a lock on a file of its own, which
// removeLeftovers removes.
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
