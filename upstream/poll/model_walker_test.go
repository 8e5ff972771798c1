package poll_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// The model tests share these parts: a backend with faults, and clients that
// reconnect.

// step is one random step.
type step struct {
	Kind, Doc string
	N         int
}

// faults is how the backend fails. Their mutex guards the backend, too.
type faults struct {
	mu      sync.Mutex
	failing bool
	slow    time.Duration
}

func (m *faults) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

// setFaults applies a step that changes the faults.
func (m *faults) setFaults(s step) {
	switch s.Kind {
	case "fail":
		m.change(func() { m.failing = true })
	case "recover":
		m.recover()
	case "slow":
		m.change(func() { m.slow = time.Duration(s.N) * 50 * ms })
	}
}

func (m *faults) recover() { m.change(func() { m.failing, m.slow = false, 0 }) }

// delay waits as long as the backend takes for a request.
func (m *faults) delay(r *http.Request) error {
	m.mu.Lock()
	slow := m.slow
	m.mu.Unlock()
	if slow == 0 {
		return nil
	}
	select {
	case <-time.After(slow):
		return nil
	case <-r.Context().Done():
		return context.Cause(r.Context())
	}
}

// walker is a client that reconnects until it leaves for good.
type walker struct {
	request *http.Request
	join    func(*http.Request) (*poll.Subscription, *subrequest.Response, error)
	receive func(event.Event)
	refused func(*subrequest.Response, error) // if not nil
	revoked func()                            // if not nil

	close   context.CancelFunc
	gone    chan struct{}
	dropped chan struct{}

	lastID string

	mu              sync.Mutex
	open, streaming bool
	wrong           []string
}

// start connects for the first time.
func (c *walker) start() {
	ctx, cancel := context.WithCancel(context.Background())
	c.request, c.close = c.request.WithContext(ctx), cancel
	c.gone, c.dropped, c.open = make(chan struct{}), make(chan struct{}, 1), true
	go func() {
		defer close(c.gone)
		for ctx.Err() == nil {
			c.connect()
			select {
			case <-time.After(rand.N(time.Second)):
			case <-ctx.Done():
			}
		}
	}()
}

// connect holds a stream until it ends.
func (c *walker) connect() {
	viewing, refused, err := c.join(c.request)
	if err != nil || refused != nil {
		if c.refused != nil && c.request.Context().Err() == nil {
			c.refused(refused, err)
		}
		return
	}
	defer viewing.Close()
	src := viewing.Source(c.lastID)
	defer src.Cursor.Close()
	c.setStreaming(true)
	defer c.setStreaming(false)
	if src.Revoked.IsSet() || !c.take(src.Initial) {
		return
	}
	for over := false; !over; {
		select {
		case <-src.Cursor.Ready():
		case <-src.Revoked.Done():
		case <-src.Moved.Done():
			return
		case <-src.Done.Done():
			over = true
		case <-c.dropped:
			return
		case <-c.request.Context().Done():
			return
		}
		for more := true; more; more = !src.Cursor.CaughtUp() {
			entries, err := src.Cursor.Next(100, nil)
			if src.Revoked.IsSet() {
				c.revoked()
				return
			}
			if err != nil || !c.take(entries) {
				return // err: it fell out of the history
			}
		}
	}
}

func (c *walker) setStreaming(streaming bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streaming = streaming
}

// take returns false if the connection breaks in between: a client may be
// dropped after any event.
func (c *walker) take(entries []*store.Entry) bool {
	for i, e := range (&viewer{entries: entries}).events() {
		if e.ID != "" {
			c.lastID = e.ID
		}
		c.receive(e)
		if i+1 < len(entries) {
			select {
			case <-c.dropped:
				return false
			default:
			}
		}
	}
	return true
}

func (c *walker) complain(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

// leave ends the client for good; drop only cuts its connection.
func (c *walker) leave() {
	c.close()
	<-c.gone
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = false
}

func (c *walker) drop() {
	select {
	case c.dropped <- struct{}{}:
	default:
	}
}
