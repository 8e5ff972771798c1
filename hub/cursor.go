package hub

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/caddy-sse/caddy-sse/store"
)

// ErrLost tells that events which a cursor had not read have left the history.
var ErrLost = errors.New("the history has moved past the cursor")

// Cursor is one reader's place in the log. Its methods are for one goroutine.
type Cursor struct {
	hub    *Hub
	topics []string
	ready  chan struct{}

	// unread is the first event on the cursor's topics since the reader last
	// took it, newest the last one. The hub sets them, in this order.
	unread, newest atomic.Uint64

	pos     uint64 // all up to here has been read
	drained bool   // nothing was unread at pos
}

// Follow returns a cursor behind the log's newest event: what is published from
// now on is what it reads.
func (h *Hub) Follow(topics []string) *Cursor {
	c := h.register(topics)
	_, c.pos = h.store.Range()
	c.drained = true
	return c
}

// FollowAfter returns a cursor that first reads what came after a place that
// [Hub.Resolve] has found.
func (h *Hub) FollowAfter(topics []string, seq uint64) *Cursor {
	c := h.register(topics)
	c.pos = seq
	c.ready <- struct{}{}
	return c
}

// register makes the hub wake the cursor. It comes before the look at the log's
// head, so that nothing can be published between the two and be missed.
func (h *Hub) register(topics []string) *Cursor {
	c := &Cursor{hub: h, topics: unique(topics), ready: make(chan struct{}, 1)}
	h.readersMu.Lock()
	defer h.readersMu.Unlock()
	for _, t := range c.topics {
		if h.readers[t] == nil {
			h.readers[t] = make(map[*Cursor]struct{})
		}
		h.readers[t][c] = struct{}{}
	}
	return c
}

// Close ends the cursor. It may be called more than once.
func (c *Cursor) Close() {
	h := c.hub
	h.readersMu.Lock()
	defer h.readersMu.Unlock()
	for _, t := range c.topics {
		delete(h.readers[t], c)
		if len(h.readers[t]) == 0 {
			delete(h.readers, t)
		}
	}
}

// wake is called in the order of the log, so the first call since the last
// read has the lowest position.
func (c *Cursor) wake(seq uint64) {
	c.unread.CompareAndSwap(0, seq)
	c.newest.Store(seq)
	select {
	case c.ready <- struct{}{}:
	default: // it has been told already
	}
}

// Ready receives when there may be something to read.
func (c *Cursor) Ready() <-chan struct{} { return c.ready }

// Next returns the events that have not been read, about maxBytes of them but
// at least one, and none when all have been. It appends them to buf. It fails
// with [ErrLost] when some have left the history before they were read, or with
// the store's error.
func (c *Cursor) Next(maxBytes int, buf []*store.Entry) ([]*store.Entry, error) {
	first := c.firstUnread()
	b, err := c.hub.store.Read(c.topics, c.pos, maxBytes, buf)
	if err != nil {
		return nil, fmt.Errorf("reading the log after %d: %w", c.pos, err)
	}
	if first != 0 && first < b.Tail {
		return nil, ErrLost
	}
	c.pos, c.drained = b.UpTo, !b.More
	return b.Entries, nil
}

// firstUnread is where the first event that has not been read is, or a place
// before it where that can't be told; zero when all have been. It must be asked
// before the log is read: what is published in between is read, and told again.
func (c *Cursor) firstUnread() uint64 {
	first := c.unread.Swap(0)
	switch newest := c.newest.Load(); {
	case !c.drained:
		return c.pos + 1
	case first > c.pos:
		return first
	case newest > c.pos: // told of one that was read already, and of more since
		return c.pos + 1
	default:
		return 0
	}
}

// Drained tells that the last read came to the log's head.
func (c *Cursor) Drained() bool { return c.drained }

// Skip moves the cursor forward to a place whose events the reader has by other
// means.
func (c *Cursor) Skip(seq uint64) {
	c.pos = max(c.pos, seq)
}

// Position is an id that resumes where the cursor is.
func (c *Cursor) Position() string { return c.hub.position(c.pos) }
