package caddysse

import (
	"time"

	"golang.org/x/sys/unix"
)

// boundSocket sets how long sent data may stay unacknowledged, and how many
// bytes may wait to be sent; zero is the system's own. See tcp(7) and the kernel's ip-sysctl.
func boundSocket(fd uintptr, unacknowledged time.Duration, unsent int) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
}
