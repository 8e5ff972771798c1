package poll

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func scheduleOf(t *testing.T, c Config) *schedule {
	t.Helper()
	if err := c.Provision(); err != nil {
		t.Fatal(err)
	}
	s := newSchedule(&c)
	return &s
}

func every(d time.Duration) Config { return Config{Interval: caddy.Duration(d)} }

// headers returns headers from names and values in turn.
func headers(header ...string) http.Header {
	h := make(http.Header)
	for pair := range slices.Chunk(header, 2) {
		h.Add(pair[0], pair[1])
	}
	return h
}

// after returns the pause after a poll without change that took no time.
func (s *schedule) after(o outcome, header ...string) time.Duration {
	return s.next(o, 0, headers(header...), epoch)
}

func TestPauseGrowsWhileUnchanged(t *testing.T) {
	const c, u = changed, unchanged
	for name, test := range map[string]struct {
		interval, max time.Duration
		came          []outcome
		want          []float64 // seconds
	}{
		"never without max":         {2 * time.Second, 0, []outcome{c, u, u, u, c}, []float64{2, 2, 2, 2, 2}},
		"by half up to max":         {2 * time.Second, 10 * time.Second, []outcome{c, u, u, u, u, u, u}, []float64{2, 3, 4.5, 6.75, 10, 10, 10}},
		"until something changes":   {2 * time.Second, 10 * time.Second, []outcome{c, u, u, c, c, u, c}, []float64{2, 3, 4.5, 2, 2, 3, 2}},
		"to a max just above it":    {2 * time.Second, 2500 * time.Millisecond, []outcome{c, u, u}, []float64{2, 2.5, 2.5}},
		"from a document as it was": {2 * time.Second, 10 * time.Second, []outcome{u, u}, []float64{3, 4.5}},
	} {
		s := scheduleOf(t, Config{Interval: caddy.Duration(test.interval), Max: caddy.Duration(test.max)})
		var got []float64
		for _, o := range test.came {
			got = append(got, s.after(o).Seconds())
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

func TestFailureKeepsGrownPause(t *testing.T) {
	s := scheduleOf(t, Config{Interval: caddy.Duration(2 * time.Second), Max: caddy.Duration(30 * time.Second)})
	s.after(changed)
	s.after(unchanged)
	for range 10 {
		s.after(failed)
	}
	if got := s.after(unchanged); got != 4500*time.Millisecond {
		t.Errorf("%v after the same document", got)
	}
	s.after(failed)
	if got := s.after(changed); got != 2*time.Second {
		t.Errorf("%v after another document", got)
	}
}

func TestBackoffGrowsToBoundAndRestartsAfterSuccess(t *testing.T) {
	for interval, test := range map[time.Duration]struct{ first, last time.Duration }{
		100 * time.Millisecond: {100 * time.Millisecond, maxBackoff},
		2 * time.Second:        {2 * time.Second, maxBackoff},
		10 * time.Second:       {minBackoff, maxBackoff},
		time.Minute:            {minBackoff, time.Minute},
	} {
		for range 100 {
			s := scheduleOf(t, every(interval))
			for round := range 2 {
				middle := test.first
				for range 20 {
					if got := s.after(failed); got < middle/2 || got > middle*3/2+1 {
						t.Fatalf("every %v, round %d: %v is not about %v", interval, round, got, middle)
					}
					middle = min(2*middle, test.last)
				}
				s.after(unchanged)
			}
		}
	}
}

func TestRetryAfterAcceptsSecondsAndDate(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"1":                             time.Second,
		"120":                           2 * time.Minute,
		"-1":                            0,
		"1.5":                           0,
		"soon":                          0,
		"5s":                            0,
		"86400":                         24 * time.Hour,
		"86401":                         24 * time.Hour,
		"9223372036854775807":           24 * time.Hour,
		"99999999999999999999999999999": 24 * time.Hour, // RFC 9111 §1.2.2
		"-9999999999999999999999999999": 0,
		epoch.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		epoch.Add(90 * time.Second).Format(time.RFC850):     90 * time.Second,
		epoch.Add(90 * time.Second).Format(time.ANSIC):      90 * time.Second,
		epoch.Add(-time.Hour).Format(http.TimeFormat):       0,
		"Fri, 31 Dec 9999 23:59:59 GMT":                     24 * time.Hour,
		"Thu, 01 Jan 1970 00:00:00 GMT":                     0,
		"Fri, 32 Dec 2026 23:59:59 GMT":                     0,
	} {
		if got := retryAfter(headers("Retry-After", value), epoch); got != want {
			t.Errorf("%q: %v, want %v", value, got, want)
		}
	}
}

func TestRetryAfterDelaysPollAfterFailureAndSuccess(t *testing.T) {
	for name, o := range map[string]outcome{"failure": failed, "success": changed, "no change": unchanged} {
		s := scheduleOf(t, every(2*time.Second))
		if got := s.after(o, "Retry-After", "600"); got != 10*time.Minute {
			t.Errorf("after %s: %v", name, got)
		}
		if got := s.after(o, "Retry-After", "0"); got <= 0 || got > 10*time.Second {
			t.Errorf("after %s: %v for 0", name, got)
		}
	}
}

func TestFreshDocumentIsNotPolled(t *testing.T) {
	const interval = 2 * time.Second
	for _, test := range []struct {
		header []string
		want   time.Duration
	}{
		{nil, interval},
		{[]string{"Cache-Control", "max-age=60"}, time.Minute},
		{[]string{"Cache-Control", "private, Max-Age=60, must-revalidate"}, time.Minute},
		{[]string{"Cache-Control", "private", "Cache-Control", "max-age=60"}, time.Minute},
		{[]string{"Cache-Control", `max-age="60"`}, time.Minute},
		{[]string{"Cache-Control", "max-age=60", "Age", "40"}, 20 * time.Second},
		{[]string{"Cache-Control", "max-age=60", "Age", "60"}, interval},
		{[]string{"Cache-Control", "max-age=60", "Age", "1000"}, interval},
		{[]string{"Cache-Control", "max-age=60", "Age", "-1000"}, time.Minute},
		{[]string{"Cache-Control", "max-age=60", "Age", "old"}, time.Minute},
		{[]string{"Cache-Control", "max-age=60", "Age", "99999999999999999999"}, interval},
		{[]string{"Cache-Control", "max-age=1"}, interval},
		{[]string{"Cache-Control", "max-age=0"}, interval},
		{[]string{"Cache-Control", "max-age"}, interval},
		{[]string{"Cache-Control", "max-age="}, interval},
		{[]string{"Cache-Control", "max-age=soon"}, interval},
		{[]string{"Cache-Control", "max-age=-60"}, interval},
		{[]string{"Cache-Control", "max-age=-9223372036854775808", "Age", "1"}, interval},
		{[]string{"Cache-Control", "x-max-age=60, x-s-maxage=60"}, interval},
		{[]string{"Cache-Control", "no-cache, max-age=31536000"}, interval},
		{[]string{"Cache-Control", "max-age=31536000, No-Cache"}, interval},
		{[]string{"Cache-Control", "max-age=31536000", "Cache-Control", "no-store"}, interval},
		{[]string{"Cache-Control", "no-store, s-maxage=60, max-age=31536000"}, interval},
		{[]string{"Cache-Control", "max-age=31536000, s-maxage=0"}, interval},
		{[]string{"Cache-Control", "s-maxage=60, max-age=0"}, time.Minute},
		{[]string{"Cache-Control", `S-MaxAge = "60"`}, time.Minute},
		{[]string{"Cache-Control", "max-age=31536000, s-maxage=soon"}, interval},
		{[]string{"Cache-Control", "max-age=31536000, max-age=60"}, time.Minute}, // RFC 9111 §4.2.1
		{[]string{"Cache-Control", `no-cache="Set-Cookie", max-age=60`}, time.Minute},
		{[]string{"Cache-Control", `no-cache=Set-Cookie, max-age=60`}, time.Minute},
		{[]string{"Cache-Control", `max-age=60, no-cache="Set-Cookie, no-store, max-age=1"`}, time.Minute},
		{[]string{"Cache-Control", `no-cache="Set-Cookie, max-age=60"`}, interval},
		{[]string{"Cache-Control", `x="\", max-age=1", max-age=60`}, time.Minute},
		{[]string{"Cache-Control", `x=", no-store, max-age=60`}, interval}, // the quote isn't closed
		{[]string{"Cache-Control", "private, no-cache=\"set-cookie\"", "Cache-Control", "max-age=60"}, time.Minute},
		{[]string{"Cache-Control", "max-age=9223372036854775807"}, 24 * time.Hour},
		{[]string{"Cache-Control", "max-age=99999999999999999999"}, 24 * time.Hour}, // RFC 9111 §1.2.2
		{[]string{"Cache-Control", "max-age=60", "Retry-After", "90"}, 90 * time.Second},
		{[]string{"Cache-Control", "max-age=60", "Retry-After", "30"}, time.Minute},
	} {
		if got := scheduleOf(t, every(interval)).after(changed, test.header...); got != test.want {
			t.Errorf("%q: %v, want %v", test.header, got, test.want)
		}
		if test.header == nil || slices.Contains(test.header, "Retry-After") {
			continue
		}
		c := every(interval)
		c.IgnoreMaxAge = true
		if got := scheduleOf(t, c).after(changed, test.header...); got != interval {
			t.Errorf("%q, ignored: %v", test.header, got)
		}
	}
}

func TestRetryAfterDateCountsFromDateOfResponse(t *testing.T) {
	at := func(d time.Duration) string { return epoch.Add(d).Format(http.TimeFormat) }
	for _, test := range []struct {
		header []string
		want   time.Duration
	}{
		{[]string{"Retry-After", at(2*time.Hour + 10*time.Second), "Date", at(2 * time.Hour)}, 10 * time.Second}, // the clock is ahead
		{[]string{"Retry-After", at(-time.Hour + 10*time.Second), "Date", at(-time.Hour)}, 10 * time.Second},     // and behind
		{[]string{"Retry-After", at(90 * time.Second)}, 90 * time.Second},
		{[]string{"Retry-After", at(90 * time.Second), "Date", "today"}, 90 * time.Second},
		{[]string{"Retry-After", at(90 * time.Second), "Date", at(-time.Minute), "Age", "60"}, 90 * time.Second}, // from a cache
		{[]string{"Retry-After", at(0), "Date", at(time.Hour)}, 0},
		{[]string{"Retry-After", "90", "Date", at(time.Hour)}, 90 * time.Second},
		{[]string{"Retry-After", at(0), "Date", "Thu, 01 Jan 1970 00:00:00 GMT"}, 24 * time.Hour},
	} {
		if got := retryAfter(headers(test.header...), epoch); got != test.want {
			t.Errorf("%q: %v, want %v", test.header, got, test.want)
		}
	}
}

func TestFreshnessCountsFromPollStart(t *testing.T) {
	s := scheduleOf(t, every(2*time.Second))
	if got := s.next(changed, 3*time.Second, headers("Cache-Control", "max-age=60"), epoch); got != 57*time.Second {
		t.Error(got)
	}
}

func TestFailureHasNoFreshness(t *testing.T) {
	s := scheduleOf(t, every(2*time.Second))
	if got := s.after(failed, "Cache-Control", "max-age=3600"); got > 10*time.Second {
		t.Error(got)
	}
}

func TestPauseCountsFromStartToStart(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{
		0:                       2 * time.Second,
		500 * time.Millisecond:  1500 * time.Millisecond,
		2*time.Second - 1:       1,
		2 * time.Second:         2 * time.Second, // it took longer than the pause: a whole one follows
		time.Minute:             2 * time.Second,
		1999 * time.Millisecond: time.Millisecond,
	} {
		if got := scheduleOf(t, every(2*time.Second)).next(changed, took, nil, epoch); got != want {
			t.Errorf("took %v: %v, want %v", took, got, want)
		}
	}
}

// restoreJitter restores the jitter that Steady has removed.
func restoreJitter(t *testing.T) {
	steady := defaultJitter
	defaultJitter = originalJitter
	t.Cleanup(func() { defaultJitter = steady })
}

// extremes returns the shortest and the longest of many pauses.
func extremes(draw func() time.Duration) (shortest, longest time.Duration) {
	shortest = 1 << 62
	for range 10000 {
		d := draw()
		shortest, longest = min(shortest, d), max(longest, d)
	}
	return shortest, longest
}

func TestJitterIsTwoPercentUpOrDown(t *testing.T) {
	restoreJitter(t)
	s := scheduleOf(t, every(10*time.Second))
	s.after(changed)
	shortest, longest := extremes(func() time.Duration { return s.after(changed) })
	if shortest < 9800*time.Millisecond || shortest > 9810*time.Millisecond || longest < 10190*time.Millisecond || longest > 10200*time.Millisecond {
		t.Errorf("%v to %v", shortest, longest)
	}
}

func TestJitterNeverShortensBackendsDelay(t *testing.T) {
	restoreJitter(t)
	for _, header := range [][]string{{"Cache-Control", "max-age=10"}, {"Retry-After", "10"}} {
		shortest, longest := extremes(func() time.Duration { return scheduleOf(t, every(10*time.Second)).after(changed, header...) })
		if shortest < 10*time.Second || longest > 11*time.Second {
			t.Errorf("%q: %v to %v", header, shortest, longest)
		}
	}
}

func TestJitterDoesNotAccumulate(t *testing.T) {
	restoreJitter(t)
	s := scheduleOf(t, Config{Interval: caddy.Duration(time.Second), Max: caddy.Duration(10 * time.Second)})
	for range 20 {
		s.after(unchanged)
	}
	shortest, longest := extremes(func() time.Duration { return s.after(unchanged) })
	if shortest < 9*time.Second || longest > 11*time.Second {
		t.Errorf("%v to %v", shortest, longest)
	}
}

func TestPollsOfSeveralViewsBeginTogether(t *testing.T) {
	restoreJitter(t)
	for interval, want := range map[time.Duration]bool{time.Second: true, 10 * time.Second: true, 100 * time.Millisecond: false} {
		s, aligned := scheduleOf(t, every(interval)), true
		s.after(changed) // the first pause may be short
		for range 1000 {
			now := epoch.Add(rand.N(time.Hour))
			at := now.Add(s.next(changed, 3*time.Millisecond, nil, now))
			aligned = aligned && at.Equal(at.Truncate(together))
			if d := at.Sub(now); d > interval+interval/50+together {
				t.Fatalf("a pause of %v takes %v", interval, d)
			}
		}
		if aligned != want {
			t.Errorf("polls every %v begin together: %v", interval, aligned)
		}
	}
}

func TestFirstPauseIsRandomWithinInterval(t *testing.T) {
	restoreJitter(t)
	var sum time.Duration
	shortest, longest := extremes(func() time.Duration {
		d := scheduleOf(t, every(10*time.Second)).after(changed)
		sum += d
		return d
	})
	if shortest < 0 || shortest > 100*time.Millisecond || longest < 9500*time.Millisecond || longest > 11*time.Second {
		t.Errorf("%v to %v", shortest, longest)
	}
	if mean := sum / 10000; mean < 4800*time.Millisecond || mean > 5200*time.Millisecond {
		t.Errorf("%v on average", mean)
	}
}

func TestFirstPauseAfterFailuresIsRandom(t *testing.T) {
	restoreJitter(t)
	shortest, _ := extremes(func() time.Duration {
		s := scheduleOf(t, every(10*time.Second))
		s.after(failed)
		return s.after(changed)
	})
	if shortest > 100*time.Millisecond {
		t.Errorf("%v at least: views that a backend's return wakes stay together", shortest)
	}
}

func TestBackoffIsJittered(t *testing.T) {
	shortest, longest := extremes(func() time.Duration { return scheduleOf(t, every(2*time.Second)).after(failed) })
	if shortest < time.Second || shortest > 1100*time.Millisecond || longest < 2900*time.Millisecond || longest > 3*time.Second+1 {
		t.Errorf("%v to %v", shortest, longest)
	}
}
