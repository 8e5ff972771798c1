package poll_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func TestNoCacheDocumentIsPolledDespiteMaxAge(t *testing.T) {
	for _, control := range []string{"no-cache, max-age=31536000", "no-store, max-age=31536000", "max-age=31536000, s-maxage=0"} {
		within(t, poll.Config{}, func(e *env) {
			e.set(document("1", "Cache-Control", control))
			v := e.subscribe(newRequest("/doc"))
			advance(time.Second)
			e.set(document("2", "Cache-Control", control))
			advance(2 * time.Second)
			v.want(t, "1", "2")
		})
	}
}

func TestLongDelayByResponseIsLoggedOnceAndListed(t *testing.T) {
	future := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for _, test := range []struct {
		name   string
		config poll.Config
		answer func() *subrequest.Response
		by     string
		logged bool
	}{
		{"max-age", poll.Config{}, func() *subrequest.Response { return document("1", "Cache-Control", "max-age=61") }, "Cache-Control", true},
		{"max-age up to a minute", poll.Config{}, func() *subrequest.Response { return document("1", "Cache-Control", "max-age=60") }, "Cache-Control", false},
		{"max-age beyond max", poll.Config{Max: 10 * second}, func() *subrequest.Response { return document("1", "Cache-Control", "max-age=30") }, "Cache-Control", true},
		{"max-age below the interval", poll.Config{Interval: 120 * second}, func() *subrequest.Response { return document("1", "Cache-Control", "max-age=90") }, "", false},
		{"max-age, ignored", poll.Config{IgnoreMaxAge: true}, func() *subrequest.Response { return document("1", "Cache-Control", "max-age=90") }, "", false},
		{"Retry-After", poll.Config{}, func() *subrequest.Response { return document("1", "Retry-After", "7200") }, "Retry-After", true},
		{"Retry-After of a failure", poll.Config{}, func() *subrequest.Response {
			return &subrequest.Response{Status: 503, Header: http.Header{"Retry-After": {"7200"}}}
		}, "Retry-After", true},
		{"a date of a clock ahead", poll.Config{}, func() *subrequest.Response {
			return document("1", "Retry-After", future(2*time.Hour+10*time.Second), "Date", future(2*time.Hour))
		}, "Retry-After", false},
		{"nothing", poll.Config{}, func() *subrequest.Response { return document("1") }, "", false},
	} {
		logged(t, test.config, func(e *env, log *observer.ObservedLogs) {
			e.set(test.answer())
			e.subscribe(newRequest("/doc"))
			e.subscribe(newRequest("/doc?of=another"))
			if by := e.List()[0].DelayedBy; by != test.by {
				t.Errorf("%s: delayed by %q, want %q", test.name, by, test.by)
			}
			advance(6 * time.Hour)
			lines := log.FilterMessageSnippet("delays the next poll").All()
			if want := map[bool]int{true: 1}[test.logged]; len(lines) != want {
				t.Errorf("%s: %d lines in the log, want %d", test.name, len(lines), want)
			} else if want == 1 && (lines[0].ContextMap()["header"] != test.by || !strings.Contains(lines[0].Message, "ignore_max_age")) {
				t.Errorf("%s: the log says %v", test.name, lines[0])
			}
		})
	}
}

func TestDelayIsLoggedAgainAfterItWasOver(t *testing.T) {
	logged(t, poll.Config{}, func(e *env, log *observer.ObservedLogs) {
		e.set(document("1", "Cache-Control", "max-age=600"))
		e.subscribe(newRequest("/doc"))
		e.set(document("1"))
		advance(11 * time.Minute)
		if by := e.List()[0].DelayedBy; by != "" {
			t.Errorf("delayed by %q", by)
		}
		e.set(document("1", "Cache-Control", "max-age=600"))
		advance(time.Minute)
		if n := log.FilterMessageSnippet("delays the next poll").Len(); n != 2 {
			t.Errorf("%d lines in the log", n)
		}
	})
}
