package loglimit_test

import (
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/loglimit"
)

func TestLineIsAllowedOncePerIntervalWithSuppressedCount(t *testing.T) {
	var limiter loglimit.Limiter
	start := time.Now()
	for _, c := range []struct {
		after      time.Duration
		suppressed int
		allowed    bool
	}{
		{0, 0, true}, {time.Second, 0, false}, {59 * time.Second, 0, false},
		{time.Minute, 2, true}, {90 * time.Second, 0, false}, {time.Hour, 1, true},
	} {
		if suppressed, allowed := limiter.Allow(start.Add(c.after)); suppressed != c.suppressed || allowed != c.allowed {
			t.Errorf("after %v: %d, %t, want %d, %t", c.after, suppressed, allowed, c.suppressed, c.allowed)
		}
	}
}
