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

// newHub returns a hub in memory whose cursors must have been closed when the
// test ends.
func newHub(t testing.TB, h store.History) *hub.Hub {
	return over(t, store.NewMemory(), h)
}

func over(t testing.TB, s store.Store, history store.History) *hub.Hub {
	t.Helper()
	h := hub.New(s, history)
	t.Cleanup(func() {
		if readers := h.SubscribersByTopic(); len(readers) > 0 && !t.Failed() {
			t.Errorf("cursors were left open: %v", readers)
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

func follow(t testing.TB, h *hub.Hub, topics ...string) *hub.Cursor {
	t.Helper()
	c := h.Subscribe(topics)
	t.Cleanup(c.Close)
	return c
}

func followAfter(t testing.TB, h *hub.Hub, seq uint64, topics ...string) *hub.Cursor {
	t.Helper()
	c := h.SubscribeAfter(topics, seq)
	t.Cleanup(c.Close)
	return c
}

// woken tells whether the cursor's reader has been told to read.
func woken(c *hub.Cursor) bool {
	select {
	case <-c.Ready():
		return true
	default:
		return false
	}
}

// read is what the cursor gives, up to the log's head.
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

// dataOf is the data of entries of one line.
func dataOf(entries []*store.Entry) []string {
	var data []string
	for _, e := range entries {
		_, rest, _ := strings.Cut(string(e.Frame), "data: ")
		data = append(data, strings.TrimSuffix(rest, "\n\n"))
	}
	return data
}

// busy publishes n events that are of no interest.
func busy(t testing.TB, h *hub.Hub, n int) {
	t.Helper()
	for i := range n {
		publish(t, h, fmt.Sprint(i), "busy")
	}
}
