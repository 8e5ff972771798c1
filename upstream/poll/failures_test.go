package poll_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// logged runs a test that observes the poller's log.
func logged(t *testing.T, c poll.Config, test func(e *env, log *observer.ObservedLogs)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		core, log := observer.New(zap.InfoLevel)
		e := newEnvWith(t, c, store.NewMemory(), zap.New(core), nil)
		defer e.end()
		test(e, log)
	})
}

func wantLines(t *testing.T, log *observer.ObservedLogs, want ...string) {
	t.Helper()
	var got []string
	for _, line := range log.TakeAll() {
		text := line.Level.String()
		for _, field := range []string{"host", "status", "views"} {
			if value, ok := line.ContextMap()[field]; ok {
				text += fmt.Sprint(" ", value)
			}
		}
		got = append(got, text)
	}
	if !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
}

func TestOutageLogsTwoLinesForAllViews(t *testing.T) {
	logged(t, poll.Config{Interval: 10 * second}, func(e *env, log *observer.ObservedLogs) {
		for i := range 1000 {
			e.start(newRequest(fmt.Sprint("/doc/", i)), new(caller), "")
		}
		synctest.Wait()
		e.set(status(http.StatusServiceUnavailable))
		advance(30 * time.Second)
		wantLines(t, log, "warn example.com 503")
		e.set(document("2"))
		advance(30 * time.Second)
		wantLines(t, log, "info example.com 503 1000")
	})
}

func TestEachFailureStatusHasItsOwnLogLines(t *testing.T) {
	logged(t, poll.Config{Interval: second}, func(e *env, log *observer.ObservedLogs) {
		e.set(status(http.StatusServiceUnavailable))
		e.subscribe(newRequest("/a"))
		e.setError(errRefused)
		e.subscribe(newRequest("/b"))
		e.subscribe(newRequest("http://other.example/b"))
		wantLines(t, log, "warn example.com 503", "warn example.com 502", "warn other.example 502")
		e.set(document("1"))
		advance(time.Minute)
		if n := log.FilterLevelExact(zap.InfoLevel).Len(); n != 3 {
			t.Errorf("%d outages have ended", n)
		}
	})
}

func TestAbandonedViewLogsNoRecovery(t *testing.T) {
	logged(t, poll.Config{Interval: second, Linger: -1}, func(e *env, log *observer.ObservedLogs) {
		e.set(status(http.StatusServiceUnavailable))
		e.subscribe(newRequest("/a")).leave()
		synctest.Wait()
		wantLines(t, log, "warn example.com 503")
		e.subscribe(newRequest("/a"))
		wantLines(t, log, "warn example.com 503") // it is another outage
	})
}

func TestRecoveryIsLoggedWhenLastFailingViewIsAbandoned(t *testing.T) {
	logged(t, poll.Config{Interval: second, Linger: -1}, func(e *env, log *observer.ObservedLogs) {
		e.set(status(http.StatusServiceUnavailable))
		e.subscribe(newRequest("/a"))
		b := e.subscribe(newRequest("/b"))
		e.set(document("1"))
		e.Invalidate("example.com", "/a")
		advance(100 * ms)
		b.leave()
		synctest.Wait()
		wantLines(t, log, "warn example.com 503", "info example.com 503 2")
	})
}

func TestRecoveryIsLoggedWhenResponseEndsView(t *testing.T) {
	for _, config := range []poll.Config{{Interval: second}, shared} {
		logged(t, config, func(e *env, log *observer.ObservedLogs) {
			e.set(status(http.StatusServiceUnavailable))
			e.subscribe(as("alice"))
			e.set(status(http.StatusForbidden))
			advance(time.Minute)
			wantLines(t, log, "warn example.com 503", "info example.com 503 1")
		})
	}
}

func TestLogOmitsQueryAndCredentials(t *testing.T) {
	logged(t, shared, func(e *env, log *observer.ObservedLogs) {
		e.setError(errRefused)
		e.subscribe(newRequest("/doc?token=secret", "Cookie", "secret", "Authorization", "secret"))
		e.set(document("1"))
		advance(time.Minute)
		for _, line := range log.TakeAll() {
			if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, "secret") {
				t.Error(text)
			}
		}
	})
}

// The end of a view aborts its poll, which is no failure of the backend.
func TestViewThatEndsDuringPollIsNoOutage(t *testing.T) {
	logged(t, poll.Config{Linger: -1}, func(e *env, log *observer.ObservedLogs) {
		v := e.subscribe(newRequest("/doc"))
		e.take(5 * time.Second)
		advance(3 * time.Second)
		v.leave()
		advance(time.Minute)
		wantLines(t, log)
	})
}
