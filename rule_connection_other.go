//go:build !linux

package caddysse

import "time"

// limitSocket has no effect: the options of other systems are not portable.
func limitSocket(uintptr, time.Duration, int) {}
