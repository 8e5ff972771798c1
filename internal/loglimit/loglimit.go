// Package loglimit keeps what happens often from filling a log.
package loglimit

import (
	"sync"
	"time"
)

// Interval is how long after a line the next one of its kind may be written.
const Interval = time.Minute

// Limiter is one kind of line in a log. Its zero value is ready to use, and it is
// safe for concurrent use.
type Limiter struct {
	mu   sync.Mutex
	at   time.Time
	left int
}

// Allow tells whether what happens now has a line written, and how many times it
// has happened without one since the last.
func (l *Limiter) Allow(now time.Time) (left int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.at.IsZero() && now.Sub(l.at) < Interval {
		l.left++
		return 0, false
	}
	left = l.left
	l.at, l.left = now, 0
	return left, true
}
