//go:build !linux

package caddysse

import "time"

// boundSocket does nothing: what other systems have is not portable.
func boundSocket(uintptr, time.Duration, int) {}
