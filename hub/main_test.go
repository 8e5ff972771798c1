package hub_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		os.Exit(publishUntilKilled(path, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// newHub returns a hub in memory. The test must close all its cursors.
func newHub(t testing.TB, h store.History) *hub.Hub {
	return newHubOn(t, store.NewMemory(), h)
}

// newHubOn returns a hub over a store. The test must close all its cursors.
func newHubOn(t testing.TB, s store.Store, history store.History) *hub.Hub {
	t.Helper()
	h := hub.New(s, history)
	t.Cleanup(func() {
		if open := h.SubscribersByTopic(); len(open) > 0 && !t.Failed() {
			t.Errorf("cursors were left open: %v", open)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func publish(t testing.TB, h *hub.Hub, data string, topics ...string) *store.Entry {
	t.Helper()
	e, dup, err := h.Publish(topics, event.Event{Data: []byte(data)})
	if err != nil || dup {
		t.Fatalf("%q on %q: %v (duplicate: %v)", data, topics, err, dup)
	}
	return e
}

func subscribe(t testing.TB, h *hub.Hub, topics ...string) *hub.Cursor {
	t.Helper()
	c := h.Subscribe(topics)
	t.Cleanup(c.Close)
	return c
}

func subscribeAfter(t testing.TB, h *hub.Hub, seq uint64, topics ...string) *hub.Cursor {
	t.Helper()
	c := h.SubscribeAfter(topics, seq)
	t.Cleanup(c.Close)
	return c
}

// woken reports whether the hub has woken the cursor.
func woken(c *hub.Cursor) bool {
	select {
	case <-c.Ready():
		return true
	default:
		return false
	}
}

// read reads up to the log's head.
func read(c *hub.Cursor) (entries []*store.Entry, err error) {
	for {
		if entries, err = c.Next(1<<20, entries); err != nil || c.CaughtUp() {
			return entries, err
		}
	}
}

func wantRead(t testing.TB, c *hub.Cursor, want ...string) {
	t.Helper()
	entries, err := read(c)
	if err != nil {
		t.Errorf("reading: %v, want %q", err, want)
	} else if got := dataOf(entries); !slices.Equal(got, want) {
		t.Errorf("read %q, want %q", got, want)
	}
}

// dataOf returns the data of entries that have one line of data each.
func dataOf(entries []*store.Entry) []string {
	var data []string
	for _, e := range entries {
		_, rest, _ := strings.Cut(string(e.Frame), "data: ")
		data = append(data, strings.TrimSuffix(rest, "\n\n"))
	}
	return data
}

// busy publishes n events on the topic "busy".
func busy(t testing.TB, h *hub.Hub, n int) {
	t.Helper()
	for i := range n {
		publish(t, h, fmt.Sprint(i), "busy")
	}
}
