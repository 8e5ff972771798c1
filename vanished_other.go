//go:build !linux

package caddysse

import "time"

// setUserTimeout does nothing: what other systems have is not portable.
func setUserTimeout(uintptr, time.Duration) {}
