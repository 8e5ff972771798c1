package poll_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// asksAgain returns what a client gets that asks at a position, and how many
// requests the backend has had for it.
func (e *env) asksAgain(r *http.Request, position string) (finished bool, requests int) {
	e.t.Helper()
	before := e.polls()
	r.Header.Set("Last-Event-ID", position)
	viewing, _, err := e.Subscribe(r, &caller{backend: e.backend})
	if err != nil && !errors.As(err, new(*poll.FinishedError)) {
		e.t.Fatal(err)
	}
	if err == nil {
		finished = viewing.Finished(position)
		viewing.Close()
	}
	return finished || err != nil, e.polls() - before
}

// finishes returns the position of a client of a finished document that has had a
// 204.
func (e *env) finishes(r func() *http.Request) string {
	e.t.Helper()
	e.set(document(shipped))
	position := e.subscribe(r()).lastID()
	if finished, _ := e.asksAgain(r(), position); !finished {
		e.t.Fatal("the viewer of the finished document gets no 204")
	}
	return position
}

func TestRequestAfter204CostsBackendNothing(t *testing.T) {
	for _, share := range []string{"", "checked"} {
		within(t, poll.Config{Until: `.status == "shipped"`, Share: share}, func(e *env) {
			doc := func() *http.Request { return newRequest("/doc", "Cookie", "alice") }
			position := e.finishes(doc)
			for range 100 {
				if finished, requests := e.asksAgain(doc(), position); !finished || requests != 0 {
					t.Fatalf("finished: %v, after %d requests", finished, requests)
				}
				advance(3 * time.Second)
			}
			if e.Views() != 0 {
				t.Errorf("%d views", e.Views())
			}
		})
	}
}

// A 204 says nothing about another client, document, user or position.
func TestOthersThanThe204sClientAreAskedFor(t *testing.T) {
	within(t, poll.Config{Until: `.status == "shipped"`}, func(e *env) {
		position := e.finishes(func() *http.Request { return newRequest("/doc", "Cookie", "alice") })
		elsewhere := newRequest("/doc", "Cookie", "alice")
		elsewhere.RemoteAddr = "198.51.100.7:1"
		for name, r := range map[string]*http.Request{
			"another address":  elsewhere,
			"another user":     newRequest("/doc", "Cookie", "bob"),
			"nobody":           newRequest("/doc"),
			"another document": newRequest("/other", "Cookie", "alice"),
			"another language": newRequest("/doc", "Cookie", "alice", "Accept-Language", "fr"),
		} {
			if _, requests := e.asksAgain(r, position); requests == 0 {
				t.Errorf("%s is answered without the backend", name)
			}
		}
		if _, requests := e.asksAgain(newRequest("/doc", "Cookie", "alice"), "unknown"); requests == 0 {
			t.Error("another position is answered without the backend")
		}
	})
}

func TestWriteOrTimeMakes204Forgotten(t *testing.T) {
	doc := func() *http.Request { return newRequest("/doc/1") }
	for name, c := range map[string]struct {
		happens func(e *env)
		asks    bool
	}{
		"a write to it":                {func(e *env) { e.Invalidate("example.com", "/doc/1") }, true},
		"a write to its parent":        {func(e *env) { e.Invalidate("example.com", "/doc") }, true},
		"a write to its child":         {func(e *env) { e.Invalidate("example.com", "/doc/1/lines") }, true},
		"a write that refresh names":   {func(e *env) { e.Invalidate("example.com", "/checkout") }, true},
		"ten minutes":                  {func(*env) { advance(10*time.Minute + time.Second) }, true},
		"a write to another document":  {func(e *env) { e.Invalidate("example.com", "/doc/2", "/doc/10", "/") }, false},
		"a write to another host":      {func(e *env) { e.Invalidate("other.example", "/doc/1") }, false},
		"nine minutes":                 {func(*env) { advance(9 * time.Minute) }, false},
		"nothing, and it is the first": {func(*env) {}, false},
	} {
		within(t, poll.Config{Until: `.status == "shipped"`, Refresh: []string{"/checkout"}}, func(e *env) {
			position := e.finishes(doc)
			c.happens(e)
			if c.asks {
				e.set(document(open))
			}
			finished, requests := e.asksAgain(doc(), position)
			if finished == c.asks || (requests > 0) != c.asks {
				t.Errorf("%s: finished: %v, after %d requests", name, finished, requests)
			}
		})
	}
}
