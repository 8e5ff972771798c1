package poll_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func TestOnlyStrongLastModifiedIsSentBack(t *testing.T) {
	const modified, later, sameSecond = "Sat, 01 Jan 2000 00:00:00 GMT", "Sat, 01 Jan 2000 00:00:01 GMT", "Sat, 01 Jan 2000 00:00:00 GMT"
	for _, test := range []struct {
		header      []string
		etag, since string
	}{
		{[]string{"Last-Modified", modified, "Date", later}, "", modified},
		{[]string{"Last-Modified", modified, "Date", sameSecond}, "", ""},
		{[]string{"Last-Modified", later, "Date", modified}, "", ""},
		{[]string{"Last-Modified", modified}, "", ""},
		{[]string{"Last-Modified", "yesterday", "Date", later}, "", ""},
		{[]string{"Last-Modified", modified, "Date", "now"}, "", ""},
		{[]string{"Last-Modified", modified, "Date", later, "ETag", `W/"1"`}, `W/"1"`, ""},
		{nil, "", ""},
	} {
		within(t, poll.Config{}, func(e *env) {
			e.set(document("1", test.header...))
			e.subscribe(newRequest("/doc", "If-Modified-Since", "viewer's own", "If-None-Match", "viewer's own"))
			if h := e.last().Header; h.Get("If-None-Match")+h.Get("If-Modified-Since") != "" {
				t.Errorf("the first poll has %v", h)
			}
			advance(5 * time.Second)
			h := e.last().Header
			if h.Get("If-None-Match") != test.etag || h.Get("If-Modified-Since") != test.since {
				t.Errorf("%q: polled with %v", test.header, h)
			}
		})
	}
}

func TestNotModifiedSinceConfirmsDocument(t *testing.T) {
	within(t, poll.Config{Interval: second}, func(e *env) {
		answer := func(modified, body string) {
			e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
				if r.Header.Get("If-Modified-Since") == modified {
					return status(http.StatusNotModified), nil
				}
				return document(body, "Last-Modified", modified, "Date", "Sat, 01 Jan 2000 01:00:00 GMT"), nil
			})
		}
		answer("Sat, 01 Jan 2000 00:00:00 GMT", "1")
		v := e.subscribe(newRequest("/doc"))
		advance(3 * time.Second)
		v.want(t, "1")
		answer("Sat, 01 Jan 2000 00:30:00 GMT", "2")
		advance(3 * time.Second)
		v.want(t, "1", "2")
	})
}

// files is a backend with one document. whole counts its responses with a body.
type files struct {
	mu    sync.Mutex
	body  string
	etag  string
	whole int
}

// write changes the document. The ETag is made of the second of the change and
// the length, as nginx makes it.
func (f *files) write(body string) {
	f.keep(body, fmt.Sprintf(`"%x-%x"`, time.Now().Unix(), len(body)))
}

// keep changes the document, and gives it an ETag.
func (f *files) keep(body, etag string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.body, f.etag = body, etag
}

func (f *files) answer(r *http.Request) (*subrequest.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Header.Get("If-None-Match") == f.etag {
		return status(http.StatusNotModified), nil
	}
	f.whole++
	return asJSON(f.body, "ETag", f.etag), nil
}

func (f *files) wholes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.whole
}

func TestSecondChangeWithinTheSecondIsSeen(t *testing.T) {
	for _, interval := range []time.Duration{100 * ms, 300 * ms, 2 * time.Second} {
		within(t, poll.Config{Interval: caddy.Duration(interval)}, func(e *env) {
			f := new(files)
			f.write("1")
			e.setFunc(f.answer)
			v := e.subscribe(newRequest("/doc"))
			for i := range 20 {
				advance(7*time.Second - time.Duration(time.Now().Nanosecond())) // at the beginning of a second
				first, second := fmt.Sprint(10+i%10), fmt.Sprint(20+i%10)
				advance(50 * ms)
				f.write(first)
				e.Invalidate("example.com", "/doc") // the poll sees the first change only
				advance(350 * ms)
				f.write(second)
				advance(2 * time.Second)
				got := v.got()
				if len(got) < 2 || got[len(got)-2] != first || got[len(got)-1] != second {
					t.Fatalf("every %v: the viewer got %q, want %q and %q at the end", interval, got, first, second)
				}
			}
		})
	}
}

func TestConditionalPollsAreLostForOnePollPerChange(t *testing.T) {
	within(t, poll.Config{Interval: 2 * second}, func(e *env) {
		f := new(files)
		f.write("1")
		e.setFunc(f.answer)
		e.subscribe(newRequest("/doc"))
		advance(60 * time.Second)
		if whole := f.wholes(); whole != 2 {
			t.Errorf("%d whole responses for the first document", whole)
		}
		f.write("22")
		advance(60 * time.Second)
		if whole := f.wholes(); whole != 4 {
			t.Errorf("%d whole responses for two documents", whole)
		}
	})
}

func TestPollsThatWriteCausesAreUnconditional(t *testing.T) {
	for _, off := range []bool{false, true} {
		c := absorbing
		c.RefreshOff = off
		within(t, c, func(e *env) {
			f := new(files) // it knows nothing of the list's items
			f.keep("1", `"list"`)
			e.setFunc(f.answer)
			v := e.subscribe(newRequest("/doc"))
			advance(25 * time.Second)
			if e.last().Header.Get("If-None-Match") == "" {
				t.Error("polls are unconditional without a write")
			}
			f.keep("2", `"list"`)
			e.Invalidate("example.com", "/doc/7")
			advance(100 * ms)
			if off {
				e.wantNotAbsorbed()
			} else {
				v.want(t, "1", "2")
			}
			advance(10 * time.Second)
			v.want(t, "1", "2")
			e.wantAbsorbed(http.StatusOK, "2")
		})
	}
}

func TestAbsorbLeavesRequestsToBackendWhileWriteMayStillHaveEffect(t *testing.T) {
	within(t, absorbing, func(e *env) {
		e.set(asJSON("1"))
		e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.Invalidate("example.com", "/doc")
		for range 29 {
			advance(100 * ms)
			e.wantNotAbsorbed()
		}
		advance(200 * ms)
		e.wantAbsorbed(http.StatusOK, "1")
		e.Invalidate("example.com", "/doc")
		advance(500 * ms)
		e.set(asJSON("2"))
		advance(500 * ms)
		e.wantAbsorbed(http.StatusOK, "2")
	})
}

// A list whose ETag stays while its items change is polled unconditionally once
// that was noticed. So changes that pass by Caddy are seen, too.
func TestValidatorsThatStayWhileDocumentChangesCountNoMore(t *testing.T) {
	logged(t, poll.Config{}, func(e *env, log *observer.ObservedLogs) {
		f := new(files) // it knows nothing of the list's items
		f.keep("1", `"list"`)
		e.setFunc(f.answer)
		v := e.subscribe(newRequest("/doc"))
		advance(10 * time.Second)
		f.keep("2", `"list"`)
		e.Invalidate("example.com", "/doc/7")
		advance(10 * time.Second)
		f.keep("3", `"list"`)
		advance(10 * time.Second)
		f.keep("4", `"list"`)
		advance(10 * time.Second)
		v.want(t, "1", "2", "3", "4")
		if n := log.FilterMessageSnippet("no longer conditional").Len(); n != 1 {
			t.Errorf("%d lines in the log", n)
		}
	})
}

// A page may hold a token that differs in each response, while its ETag says that
// it means the same.
func TestDocumentThatDiffersInEachResponseIsStillPolledConditionally(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if r.Header.Get("If-None-Match") == `W/"5"` {
				return status(http.StatusNotModified), nil
			}
			return document(fmt.Sprintf("token %d", e.polls()), "ETag", `W/"5"`), nil
		})
		v := e.subscribe(newRequest("/doc"))
		advance(time.Minute)
		if got := len(v.got()); got != 2 {
			t.Errorf("%d events", got)
		}
		e.Invalidate("example.com", "/doc")
		advance(time.Minute)
		if got := len(v.got()); got != 4 {
			t.Errorf("%d events", got)
		}
	})
}
