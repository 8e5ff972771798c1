package subrequest_test

import (
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

var epoch = time.Date(2026, 11, 21, 4, 0, 0, 0, time.UTC)

func TestRetryAfterReadsSecondsAndDates(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"7":                             7 * time.Second,
		"-7":                            0,
		"7.5":                           0,
		"soon":                          0,
		"3600":                          time.Hour,
		"3601":                          time.Hour,
		"99999999999999999999":          time.Hour,
		"-99999999999999999999":         0,
		"Sat, 21 Nov 2026 04:00:09 GMT": 9 * time.Second,
		"Sat, 21 Nov 2026 03:59:00 GMT": 0,
		"Sat, 21 Nov 2099 04:00:09 GMT": time.Hour,
	} {
		if got := subrequest.RetryAfter(http.Header{"Retry-After": {value}}, epoch, time.Hour); got != want {
			t.Errorf("%q asks for %v, want %v", value, got, want)
		}
	}
	if got := subrequest.RetryAfter(nil, epoch, time.Hour); got != 0 {
		t.Errorf("a response without headers asks for %v", got)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"", "7", "-1", "9223372037", "99999999999999999999", "Sat, 21 Nov 2026 04:00:09 GMT", "Saturday, 21-Nov-26 04:00:09 GMT", "Sat Nov 21 04:00:09 0001"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		h := http.Header{"Retry-After": {value}}
		for _, atMost := range []time.Duration{0, time.Minute, math.MaxInt64} {
			if wait := subrequest.RetryAfter(h, epoch, atMost); wait < 0 || wait > atMost {
				t.Errorf("%q asks for %v, which is to be at most %v", value, wait, atMost)
			}
		}
	})
}
