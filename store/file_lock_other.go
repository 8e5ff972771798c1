//go:build !unix || solaris || aix

package store

import (
	"errors"
	"os"
)

// unlock does nothing: on these systems, closing the file releases the lock.
func unlock(*os.File) {}

// renameNew is not needed: these systems have hard links.
func renameNew(string, string) error { return errors.ErrUnsupported }
