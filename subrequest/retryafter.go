package subrequest

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"
)

// RetryAfter returns how long a response asks its client to wait (RFC 9110
// §10.2.3), in seconds or until a date, but at most limit. It returns zero if
// the header is absent or invalid. A date is one of the backend's clock, which
// its Date tells; now counts for a response without Date.
func RetryAfter(h http.Header, now time.Time, limit time.Duration) time.Duration {
	value := h.Get("Retry-After")
	if value == "" {
		return 0
	}
	wait, ok := ParseDeltaSeconds(value)
	if at, err := http.ParseTime(value); !ok && err == nil {
		wait = max(at.Sub(backendTime(h, now)), 0)
	}
	return min(wait, limit)
}

// backendTime returns the time of the backend's clock when the response came:
// its Date and, if it comes from a cache, its Age (RFC 9111 §4.2.3). It returns
// now if the response has no Date.
func backendTime(h http.Header, now time.Time) time.Time {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return now
	}
	age, _ := ParseDeltaSeconds(h.Get("Age"))
	return date.Add(age)
}

// ParseDeltaSeconds parses a whole number of seconds (delta-seconds, RFC 9111
// §1.2.2). A negative number is zero, and one that is too large for a
// [time.Duration] is the largest whole number of seconds.
func ParseDeltaSeconds(value string) (d time.Duration, ok bool) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	const most = math.MaxInt64 / int64(time.Second)
	return time.Duration(min(max(n, 0), most)) * time.Second, true
}
