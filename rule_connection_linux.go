package caddysse

import (
	"time"

	"golang.org/x/sys/unix"
)

// limitSocket limits how long sent data may stay unacknowledged, and how many
// bytes may wait to be sent; zero restores the system's default. See tcp(7) and
// the kernel's ip-sysctl.
func limitSocket(fd uintptr, unacknowledged time.Duration, unsent int) {
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent)
}
