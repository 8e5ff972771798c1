package loglimit_test

import (
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/loglimit"
)

func TestALineIsWrittenOnceAMinuteAndSaysHowManyWereLeftOut(t *testing.T) {
	var line loglimit.Limiter
	begun := time.Now()
	for _, c := range []struct {
		after time.Duration
		left  int
		due   bool
	}{
		{0, 0, true}, {time.Second, 0, false}, {59 * time.Second, 0, false},
		{time.Minute, 2, true}, {90 * time.Second, 0, false}, {time.Hour, 1, true},
	} {
		if left, due := line.Allow(begun.Add(c.after)); left != c.left || due != c.due {
			t.Errorf("after %v: %d, %t, want %d, %t", c.after, left, due, c.left, c.due)
		}
	}
}
