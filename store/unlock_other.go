//go:build !unix || solaris || aix

package store

import "os"

// unlock does nothing where locks end with the file that they were made with.
func unlock(*os.File) {}
