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
	// took it, newest the end of the batch that the last one came in. The hub
	// sets them, newest first: whoever finds unread set finds newest set too.
	unread, newest atomic.Uint64

	pos uint64 // all up to here has been read
	// behind is the place from which on there may be more, as the last read
	// has left it; zero: nothing was unread. Only the reader sets it.
	behind atomic.Uint64
}

// Subscribe returns a cursor behind the log's newest event: what is published from
// now on is what it reads.
func (h *Hub) Subscribe(topics []string) *Cursor {
	c := h.register(topics)
	_, c.pos = h.store.Range()
	return c
}

// SubscribeAfter returns a cursor that first reads what came after a place that
// [Hub.Resolve] has found.
func (h *Hub) SubscribeAfter(topics []string, seq uint64) *Cursor {
	c := h.register(topics)
	c.begin(seq)
	return c
}

// SubscribeAll returns a cursor that first reads all that the log holds. What
// leaves the log before it is read is [ErrLost], as for any cursor.
func (h *Hub) SubscribeAll(topics []string) *Cursor {
	c := h.register(topics)
	tail, _ := h.store.Range()
	c.begin(tail - 1)
	return c
}

// begin has the cursor read what came after a place.
func (c *Cursor) begin(seq uint64) {
	c.pos = seq
	c.behind.Store(seq + 1)
	c.notify()
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

// Subscribers returns how many cursors are on any of the topics now.
func (h *Hub) Subscribers(topics []string) int {
	topics = unique(topics)
	if len(topics) == 1 {
		h.readersMu.RLock()
		defer h.readersMu.RUnlock()
		return len(h.readers[topics[0]])
	}
	found := make(map[*Cursor]struct{})
	for _, t := range topics {
		h.addSubscribers(found, t)
	}
	return len(found)
}

// addSubscribers holds the lock for one topic at a time: publishing waits for it.
func (h *Hub) addSubscribers(found map[*Cursor]struct{}, topic string) {
	h.readersMu.RLock()
	defer h.readersMu.RUnlock()
	for c := range h.readers[topic] {
		found[c] = struct{}{}
	}
}

// wake is called in the order of the log, so the first call since the last
// read has the lowest position. Behind first there may be more on the same
// topic, up to last.
func (c *Cursor) wake(first, last uint64) {
	c.newest.Store(last)
	c.unread.CompareAndSwap(0, first)
	c.notify()
}

func (c *Cursor) notify() {
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
	first := c.firstUnread(c.unread.Swap(0))
	b, err := c.hub.store.Read(c.topics, c.pos, maxBytes, buf)
	if err != nil {
		return nil, fmt.Errorf("reading the log after %d: %w", c.pos, err)
	}
	if first == 0 {
		// An event may have come and gone since: the hub wakes before it trims.
		first = c.firstUnread(c.unread.Load())
	}
	if first != 0 && first < b.Tail {
		return nil, ErrLost
	}
	c.pos = b.UpTo
	if b.More {
		c.behind.Store(b.UpTo + 1)
	} else {
		c.behind.Store(0)
	}
	return b.Entries, nil
}

// firstUnread is where the first event that has not been read is, or a place
// before it where that can't be told; zero when all have been. What the hub has
// told must be taken before the log is read: what is published in between is
// read, and told again.
func (c *Cursor) firstUnread(told uint64) uint64 {
	switch {
	case !c.Drained():
		return c.pos + 1
	case told == 0:
		return 0
	case told > c.pos:
		return told
	case c.newest.Load() > c.pos: // told of one that was read already, and of more since
		return c.pos + 1
	default:
		return 0
	}
}

// Drained tells that the last read came to the log's head.
func (c *Cursor) Drained() bool { return c.behind.Load() == 0 }

// Lag is how far the reader is behind: how many events were published since the
// first that it has not read, of its topics or not; zero when it has all. Any
// goroutine may ask.
func (c *Cursor) Lag() uint64 {
	_, head := c.hub.store.Range()
	return c.lag(head)
}

func (c *Cursor) lag(head uint64) uint64 {
	first := c.behind.Load()
	if first == 0 {
		first = c.unread.Load()
	}
	if first == 0 || first > head {
		return 0
	}
	return head + 1 - first
}

// Topics are what the cursor is on. They must not be changed. Any goroutine may
// ask.
func (c *Cursor) Topics() []string { return c.topics }

// Skip moves the cursor forward to a place whose events the reader has by other
// means.
func (c *Cursor) Skip(seq uint64) {
	c.pos = max(c.pos, seq)
}

// Position is an id that resumes where the cursor is.
func (c *Cursor) Position() string { return c.hub.position(c.pos) }
