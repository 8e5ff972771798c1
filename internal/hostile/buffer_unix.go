//go:build unix

package hostile

import "syscall"

func setReceiveBuffer(fd uintptr, size int) {
	if size > 0 {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, size)
	}
}
