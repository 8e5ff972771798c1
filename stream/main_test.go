package stream_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/event/eventtest"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var options = stream.Options{Heartbeat: 15 * time.Second, Retry: 3 * time.Second}

func newHub(t testing.TB, history store.History) *hub.Hub {
	t.Helper()
	h := hub.New(store.NewMemory(), history)
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func publish(t testing.TB, h *hub.Hub, data string, topics ...string) *store.Entry {
	t.Helper()
	e, _, err := h.Publish(topics, event.Event{Data: []byte(data)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func eventOf(data string) event.Event { return event.Event{Data: []byte(data)} }

// write is one call of Write.
type write struct {
	at      time.Duration
	data    string
	flushes int
}

// client is a response writer that records each write with its time.
type client struct {
	began   time.Time
	header  http.Header
	onWrite func() error // if not nil, delays each write or fails it

	mu        sync.Mutex
	status    int
	writes    []write
	deadlines []time.Time
}

func newClient() *client {
	return &client{began: time.Now(), header: make(http.Header)}
}

func (c *client) Header() http.Header { return c.header }

func (c *client) WriteHeader(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

func (c *client) Write(p []byte) (int, error) {
	c.mu.Lock()
	c.writes = append(c.writes, write{at: time.Since(c.began), data: string(p)})
	c.mu.Unlock()
	if c.onWrite != nil {
		if err := c.onWrite(); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (c *client) FlushError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.writes); n > 0 {
		c.writes[n-1].flushes++
	}
	return nil
}

func (c *client) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadlines = append(c.deadlines, t)
	return nil
}

// deadline returns the last deadline; zero if there was none.
func (c *client) deadline() (last time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.deadlines); n > 0 {
		last = c.deadlines[n-1]
	}
	return last
}

func (c *client) all() []write {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.writes)
}

// since returns the bytes after the first n writes.
func (c *client) since(n int) string {
	var b strings.Builder
	for _, w := range c.all()[n:] {
		b.WriteString(w.data)
	}
	return b.String()
}

func (c *client) events(t testing.TB) (events []event.Event) {
	t.Helper()
	d := eventtest.NewDecoder(strings.NewReader(c.since(0)), 0)
	for {
		e, err := d.Next()
		if err == io.EOF {
			return events
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
}

func (c *client) data(t testing.TB) (data []string) {
	t.Helper()
	for _, e := range c.events(t) {
		data = append(data, string(e.Data))
	}
	return data
}

// session is one call of Serve and its result.
type session struct {
	*client
	disconnect context.CancelFunc
	ended      chan struct{}
	at         time.Duration // when it ended
	summary    stream.Summary
}

// serve opens a stream, which the test must end.
func serve(src stream.Source, r *http.Request, group *stream.Group, o stream.Options, c *client) *session {
	ctx, cancel := context.WithCancel(r.Context())
	s := &session{client: c, disconnect: cancel, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		defer cancel()
		s.summary = stream.Serve(c, r.WithContext(ctx), src, group, &o)
		s.at = time.Since(c.began)
	}()
	return s
}

func get(target string) *http.Request { return httptest.NewRequest(http.MethodGet, target, nil) }

// open opens a stream of the topic "a" and waits until it is idle.
func open(h *hub.Hub, group *stream.Group, o stream.Options) *session {
	s := serve(stream.Subscribe(h, []string{"a"}, ""), get("/"), group, o, newClient())
	synctest.Wait()
	return s
}

func (s *session) wantEnd(t testing.TB, reason stream.Reason) {
	t.Helper()
	<-s.ended
	if s.summary.Reason != reason {
		t.Errorf("the stream ended for %q (%v), want %q", s.summary.Reason, s.summary.Err, reason)
	}
}

var retryLine = regexp.MustCompile(`^retry: (\d+)\n`)

// cutRetry removes the retry line and returns its time and the rest.
func cutRetry(t testing.TB, s string) (time.Duration, string) {
	t.Helper()
	m := retryLine.FindStringSubmatch(s)
	if m == nil {
		t.Fatalf("%q doesn't begin with a retry line", s)
	}
	ms, _ := strconv.Atoi(m[1])
	return time.Duration(ms) * time.Millisecond, s[len(m[0]):]
}

func between(d, low, high time.Duration) bool { return low <= d && d < high }

// large returns event data of n bytes.
func large(n int) string { return string(bytes.Repeat([]byte("x"), n)) }
