//go:build unix && !solaris && !aix

package store

import (
	"os"
	"syscall"
)

// unlock lets go of a file whose memory map can't be reached any more: the map
// would hold on to the lock when the file is closed.
func unlock(file *os.File) { _ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN) }
