package poll_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func TestFormatSuffixRelatesPaths(t *testing.T) {
	for _, test := range []struct {
		written string
		related []string
	}{
		{"/items/1.json", []string{"/items", "/items.json", "/items.xml", "/items/1", "/items/1.json", "/items/1/parts.json"}},
		{"/items/1", []string{"/items", "/items.json", "/items.xml", "/items/1", "/items/1.json", "/items/1/parts.json"}},
		{"/items.json", []string{"/items", "/items.json", "/items.xml", "/items/1", "/items/1.json", "/items/1/parts.json", "/items/2.json"}},
		{"/items.JSON", []string{"/items", "/items.json", "/items.xml", "/items/1", "/items/1.json", "/items/1/parts.json", "/items/2.json"}},
		{"/itemsjson", nil},
		{"/item", nil},
		{"/api.php", []string{"/api.php"}},
		{"/.json", []string{"/.json"}},
		{"/v1.2/x", []string{"/v1.2", "/v1.2/x.json"}},
	} {
		paths := []string{"/items", "/items.json", "/items.xml", "/items/1", "/items/1.json", "/items/1/parts.json", "/items/2.json", "/api.php", "/api", "/.json", "/v1.2", "/v1.2/x.json"}
		got := poll.Related(paths, test.written)
		slices.Sort(got)
		slices.Sort(test.related)
		if !slices.Equal(got, test.related) {
			t.Errorf("a write to %s concerns %q, want %q", test.written, got, test.related)
		}
	}
	within(t, poll.Config{Interval: 60 * second, Refresh: []string{"/stock"}}, func(e *env) {
		e.keepChanging()
		e.subscribe(newRequest("/doc"))
		advance(time.Second)
		e.Invalidate("example.com", "/stock/7.json")
		advance(time.Second)
		e.Invalidate("example.com", "/stock.json")
		advance(time.Second)
		e.wantPolls(0, time.Second, 2*time.Second)
	})
}

// advice takes from the log the writes that it has named, and the lines to add.
func advice(log *observer.ObservedLogs) (lines []string) {
	for _, line := range log.TakeAll() {
		if line.ContextMap()["add"] == nil {
			continue
		}
		lines = append(lines, fmt.Sprint(line.ContextMap()["path"], " ", line.ContextMap()["write"], ": ", line.ContextMap()["add"]))
	}
	return lines
}

func TestWriteToUnrelatedPathIsNamedOnce(t *testing.T) {
	logged(t, poll.Config{Interval: 10 * second}, func(e *env, log *observer.ObservedLogs) {
		e.subscribe(newRequest("/doc?q=secret"))
		n := 1
		change := func(paths ...string) {
			advance(2 * time.Second)
			for _, path := range paths {
				e.Invalidate("example.com", path)
				advance(time.Second)
			}
			n++
			e.set(document(fmt.Sprint(n)))
			advance(28*time.Second - time.Duration(len(paths))*time.Second)
		}
		for _, test := range []struct {
			writes []string
			want   []string
		}{
			{nil, nil},
			{[]string{"/v1/orders/17/cancel"}, []string{"/doc /v1/orders/17/cancel: refresh /v1/orders"}},
			{[]string{"/v1/orders/18"}, nil}, // it was named
			{[]string{"/db/doc"}, []string{"/doc /db/doc: refresh /db/doc"}},
			{[]string{"/a", "/b"}, nil}, // it may be either
			{[]string{"/a", "/doc/7"}, nil},
			{[]string{"/doc"}, nil},
			{[]string{"/items/6f1c.json"}, []string{"/doc /items/6f1c.json: refresh /items"}},
			{[]string{"/" + strings.Repeat("x", 300)}, nil},
		} {
			change(test.writes...)
			if got := advice(log); !slices.Equal(got, test.want) {
				t.Errorf("after writes to %q, the log says %q, want %q", test.writes, got, test.want)
			}
		}
		e.Invalidate("example.com", "/c") // and nothing changes
		advance(30 * time.Second)
		e.Invalidate("other.example.com", "/c")
		e.set(document("0"))
		advance(20 * time.Second)
		if got := advice(log); got != nil {
			t.Errorf("the log says %q", got)
		}
	})
}

func TestAdviceAboutWritesIsBounded(t *testing.T) {
	logged(t, poll.Config{Interval: 10 * second}, func(e *env, log *observer.ObservedLogs) {
		e.keepChanging()
		e.subscribe(newRequest("/doc"))
		for i := range 100 {
			advance(2 * time.Second)
			e.Invalidate("example.com", "/"+strings.Repeat("x", i+1))
			advance(18 * time.Second)
		}
		if got := len(advice(log)); got != 10 {
			t.Errorf("%d lines", got)
		}
	})
}

func TestRefreshOffGetsNoAdvice(t *testing.T) {
	logged(t, poll.Config{Interval: 10 * second, RefreshOff: true}, func(e *env, log *observer.ObservedLogs) {
		e.keepChanging()
		e.subscribe(newRequest("/doc"))
		advance(2 * time.Second)
		e.Invalidate("example.com", "/orders")
		advance(18 * time.Second)
		if got := advice(log); got != nil {
			t.Errorf("the log says %q", got)
		}
	})
}
