package enginetest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/caddy-sse/caddy-sse/store/shared"
)

// Memory is an engine for tests: a log in memory that several connections share,
// and that can fail.
type Memory struct {
	mu       sync.Mutex
	messages [][]byte
	first    uint64 // the number of messages[0]
	changed  chan struct{}
	down     bool
	lose     int // how many answers are lost
}

// NewMemory returns an empty log.
func NewMemory() *Memory { return &Memory{first: 1, changed: make(chan struct{})} }

// Connect returns a connection to the log.
func (m *Memory) Connect() shared.Engine {
	ctx, cancel := context.WithCancel(context.Background())
	return &connection{m, ctx, cancel}
}

// SetDown makes every call fail, and ends every Read; or ends that.
func (m *Memory) SetDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
	m.notify()
}

// LoseAnswers makes the next n appends fail although the log has the messages.
func (m *Memory) LoseAnswers(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lose = n
}

// Forget removes the newest n messages, as a failover may.
func (m *Memory) Forget(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.messages = m.messages[:len(m.messages)-n]
	m.notify()
}

// Len returns how many messages the log holds.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.messages)
}

func (m *Memory) notify() {
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *Memory) head() uint64 { return m.first + uint64(len(m.messages)) - 1 }

type connection struct {
	*Memory
	ctx    context.Context
	cancel context.CancelFunc
}

var errDown = errors.New("the engine is down")

func (c *connection) Append(ctx context.Context, message []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return errDown
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c.messages = append(c.messages, slices.Clone(message))
	c.notify()
	if c.lose > 0 {
		c.lose--
		return errors.New("the answer is lost")
	}
	return nil
}

func (c *connection) Read(ctx context.Context, after uint64, f func(uint64, []byte) error) error {
	for {
		c.mu.Lock()
		var message []byte
		if c.first > after+1 {
			after = c.first - 1
		}
		found := !c.down && after < c.head()
		if found {
			message = c.messages[after+1-c.first]
		}
		down, changed := c.down, c.changed
		c.mu.Unlock()
		switch {
		case down:
			return errDown
		case found:
			after++
			if err := f(after, message); err != nil {
				return err
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.ctx.Done():
			return errors.New("closed")
		}
	}
}

func (c *connection) Head(context.Context) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return 0, errDown
	}
	return c.head(), nil
}

func (c *connection) Drop(_ context.Context, upTo uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if upTo >= c.first {
		n := min(upTo-c.first+1, uint64(len(c.messages)))
		c.messages = c.messages[n:]
		c.first += n
	}
	return nil
}

func (c *connection) MaxMessage() int { return 4 << 10 } // small, so that tests have blocks of several parts

func (c *connection) Close() error {
	c.cancel()
	return nil
}
