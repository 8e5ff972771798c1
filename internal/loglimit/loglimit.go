// Package loglimit is rate-limited logging: it bounds how often one kind of line
// is written to a log.
package loglimit

import (
	"sync"
	"time"
)

// Interval is the shortest time between two lines of one kind.
const Interval = time.Minute

// Limiter limits one kind of line. Its zero value is ready to use. It is safe
// for concurrent use.
type Limiter struct {
	mu         sync.Mutex
	last       time.Time
	suppressed int
}

// Allow reports whether a line may be written now, and if so, how many were
// suppressed since the last one.
func (l *Limiter) Allow(now time.Time) (suppressed int, allowed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.last.IsZero() && now.Sub(l.last) < Interval {
		l.suppressed++
		return 0, false
	}
	suppressed = l.suppressed
	l.last, l.suppressed = now, 0
	return suppressed, true
}
