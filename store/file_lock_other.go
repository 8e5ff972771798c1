//go:build !unix || solaris || aix

package store

import (
	"errors"
	"os"
)

// unlock does nothing where locks end with the file that they were made with.
func unlock(*os.File) {}

// renameNew is for file systems without hard links, which these systems have.
func renameNew(string, string) error { return errors.ErrUnsupported }
