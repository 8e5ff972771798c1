package poll

import (
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// schedule decides when a view is polled next.
type schedule struct {
	interval time.Duration
	max      time.Duration // limit of the pause while the document doesn't change

	pause   time.Duration // current pause, from start to start
	failing *backoff.ExponentialBackOff
	jitter  jitter

	aftermath  aftermath  // of the newest write
	writePolls writePolls // of all writes

	ignoreMaxAge bool
	first        bool
	isFollowUp   bool // the next poll is earlier than without the write

	// delayedBy names the header of the last response that makes the next poll
	// wait longer than it would without; empty if none does.
	delayedBy string
}

// outcome is the result of a poll, for the schedule.
type outcome int

const (
	changed outcome = iota
	unchanged
	notModified // the backend answered 304
	failed
	missing // the document, for now
	ended   // there is no next poll
)

const (
	// slowdown multiplies the pause after each poll without a change.
	slowdown = 1.5
	// minBackoff limits the first pause after a failure. maxBackoff limits the
	// pause after repeated failures, unless the interval is longer.
	minBackoff = 5 * time.Second
	maxBackoff = 15 * time.Second
	// defaultMaxSilence is the delay that the log names, without max.
	defaultMaxSilence = time.Minute
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

func newSchedule(c *Config) schedule {
	interval := time.Duration(c.Interval)
	return schedule{interval: interval, max: time.Duration(c.Max), ignoreMaxAge: c.IgnoreMaxAge, pause: interval, first: true, jitter: defaultJitter}
}

// pollForWrite begins a poll that a write causes.
func (s *schedule) pollForWrite(now time.Time) {
	s.writePolls.spend(now)
	s.aftermath.begin()
	s.pause = s.interval
}

// pollInTime begins a poll at the time that next has returned.
func (s *schedule) pollInTime(now time.Time) {
	if s.isFollowUp {
		s.writePolls.spend(now)
	}
}

// next returns how long to wait for the next poll, given the outcome and the
// duration of the last one, and the headers of its response, if there was one.
func (s *schedule) next(o outcome, took time.Duration, h http.Header, now time.Time) time.Duration {
	s.delayedBy, s.isFollowUp = "", false
	if o == failed {
		return s.delay(s.backOff(), retryAfter(h, now), "Retry-After")
	}
	s.failing = nil
	switch {
	case o == changed:
		s.pause, s.aftermath = s.interval, aftermath{}
	case s.aftermath.looking: // it says nothing about how quiet the document is
		s.aftermath.polled(now.Add(-took), now, s.jitter.fraction)
	default:
		s.pause = min(time.Duration(float64(s.pause)*slowdown), s.max)
	}
	wait := remainingPause(withJitter(s.pause, s.jitter.fraction), took)
	if s.first {
		s.first = false
		wait = time.Duration(s.jitter.firstPause() * float64(wait))
	}
	wait = withOthers(now, wait)
	if !s.ignoreMaxAge {
		wait = s.delay(wait, freshness(h)-took, "Cache-Control")
	}
	if s.aftermath.looking {
		if again := max(s.aftermath.due.Sub(now), s.writePolls.wait(now)); again < wait {
			wait, s.delayedBy, s.isFollowUp = again, "", true
		}
	}
	return s.delay(wait, retryAfter(h, now), "Retry-After")
}

// delay returns the longer of two pauses. The second one is what a header of the
// response demands.
func (s *schedule) delay(wait, demanded time.Duration, header string) time.Duration {
	if demanded <= wait {
		return wait
	}
	s.delayedBy = header
	return demanded
}

// maxSilence returns how long a response may delay the next poll without a line
// in the log: max, or a minute if the rule doesn't set it.
func (s *schedule) maxSilence() time.Duration {
	if s.max > s.interval {
		return s.max
	}
	return max(s.interval, defaultMaxSilence)
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

// together is a time of which the times of most polls are multiples. So the polls
// of several views begin at once, and an idle process wakes up less often.
const together = 10 * time.Millisecond

// withOthers returns a pause that ends together with those of other views, if it is
// so long that the difference doesn't matter.
func withOthers(now time.Time, pause time.Duration) time.Duration {
	if pause < 50*together {
		return pause
	}
	return now.Add(pause).Round(together).Sub(now)
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

// seconds reads a number of seconds, up to maxWait.
func seconds(value string) time.Duration {
	d, _ := subrequest.ParseDeltaSeconds(value)
	return min(d, maxWait)
}
