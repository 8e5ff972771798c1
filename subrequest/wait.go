package subrequest

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"
)

// RetryAfter is how long an answer asks to wait (RFC 9110 §10.2.3): for a number
// of seconds or until a date, but no longer than atMost. It is zero if the
// answer doesn't ask, or in a way that can't be read.
func RetryAfter(h http.Header, now time.Time, atMost time.Duration) time.Duration {
	value := h.Get("Retry-After")
	wait, ok := ParseDeltaSeconds(value)
	if at, err := http.ParseTime(value); !ok && err == nil {
		wait = max(at.Sub(now), 0)
	}
	return min(wait, atMost)
}

// ParseDeltaSeconds reads a whole number of seconds that a stranger has written; less than
// nothing is nothing. One too large to be read is as large as can be (RFC 9111
// §1.2.2).
func ParseDeltaSeconds(value string) (d time.Duration, ok bool) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	const most = math.MaxInt64 / int64(time.Second)
	return time.Duration(min(max(n, 0), most)) * time.Second, true
}
