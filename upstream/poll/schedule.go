package poll

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// schedule decides when a view is polled next.
type schedule struct {
	interval     time.Duration
	max          time.Duration // limit of the pause while the document doesn't change
	ignoreMaxAge bool

	pause   time.Duration // current pause, from start to start
	failing *backoff.ExponentialBackOff
	first   bool
	jitter  jitter
}

// outcome is the result of a poll, for the schedule.
type outcome int

const (
	changed outcome = iota
	unchanged
	notModified // the backend answered 304
	failed
	ended // there is no next poll
)

const (
	// slowdown multiplies the pause after each poll without a change.
	slowdown = 1.5
	// minBackoff limits the first pause after a failure. maxBackoff limits the
	// pause after repeated failures, unless the interval is longer.
	minBackoff = 5 * time.Second
	maxBackoff = 15 * time.Second
	// maxWait limits the delay that a response's headers may demand.
	maxWait = 24 * time.Hour
)

// defaultJitter is the jitter of new schedules. Tests remove it.
var defaultJitter = jitter{0.02, rand.Float64}

// jitter spreads the polls of views that start together, after a restart for
// example.
type jitter struct {
	fraction   float64        // added to or taken from each pause
	firstPause func() float64 // returns the part of the first pause to wait, from 0 to 1
}

func newSchedule(c *Config) *schedule {
	interval := time.Duration(c.Interval)
	return &schedule{interval: interval, max: time.Duration(c.Max), ignoreMaxAge: c.IgnoreMaxAge, pause: interval, first: true, jitter: defaultJitter}
}

// next returns how long to wait for the next poll, given the outcome and the
// duration of the last one, and the headers of its response, if there was one.
func (s *schedule) next(o outcome, took time.Duration, h http.Header, now time.Time) time.Duration {
	if o == failed {
		return max(s.backOff(), retryAfter(h, now))
	}
	s.failing = nil
	switch o {
	case changed:
		s.pause = s.interval
	case unchanged, notModified:
		s.pause = min(time.Duration(float64(s.pause)*slowdown), s.max)
	}
	wait := remainingPause(withJitter(s.pause, s.jitter.fraction), took)
	if s.first {
		s.first = false
		wait = time.Duration(s.jitter.firstPause() * float64(wait))
	}
	if !s.ignoreMaxAge {
		wait = max(wait, freshness(h)-took)
	}
	return max(wait, retryAfter(h, now))
}

// remainingPause returns how long to wait so that polls start a pause apart.
// After a poll that took longer, it is the whole pause.
func remainingPause(pause, took time.Duration) time.Duration {
	if took < pause {
		return pause - took
	}
	return pause
}

// withJitter returns d, longer or shorter by up to a fraction of it.
func withJitter(d time.Duration, part float64) time.Duration {
	return d + time.Duration((rand.Float64()*2-1)*part*float64(d))
}

// backOff returns a pause that grows with each failure in a row.
func (s *schedule) backOff() time.Duration {
	if s.failing == nil {
		s.failing = backoff.NewExponentialBackOff()
		s.failing.InitialInterval = min(s.interval, minBackoff)
		s.failing.Multiplier = 2
		s.failing.MaxInterval = max(maxBackoff, s.interval)
		s.failing.Reset()
	}
	return s.failing.NextBackOff()
}

// retryAfter returns how long a response asks to wait.
func retryAfter(h http.Header, now time.Time) time.Duration {
	return subrequest.RetryAfter(h, now, maxWait)
}

// freshness returns how long a response stays fresh (RFC 9111 §4.2), less its
// age.
func freshness(h http.Header) time.Duration {
	lasts, _ := maxAge(h)
	return max(lasts-seconds(h.Get("Age")), 0)
}

// maxAge returns the max-age of Cache-Control, and false if there is none.
func maxAge(h http.Header) (time.Duration, bool) {
	for directive := range listMembers(h, "Cache-Control") {
		name, value, _ := strings.Cut(directive, "=")
		if strings.EqualFold(name, "max-age") {
			return seconds(strings.Trim(value, `"`)), true
		}
	}
	return 0, false
}

// seconds reads a number of seconds, up to maxWait.
func seconds(value string) time.Duration {
	d, _ := subrequest.ParseDeltaSeconds(value)
	return min(d, maxWait)
}
