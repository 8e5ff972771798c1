package hub

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/caddy-sse/caddy-sse/store"
)

// ErrLost means that the history has dropped events that a cursor had not read.
var ErrLost = errors.New("the history has moved past the cursor")

// Cursor is one subscriber's position in the log. One goroutine at a time may use
// it; methods that say so are safe for concurrent use.
type Cursor struct {
	hub    *Hub
	topics []string // other cursors may share it

	// unread is the position of the first event on the cursor's topics since
	// the last call of Next; zero if there is none. newest is the last position
	// of the newest batch with such an event. The hub sets newest first: if
	// unread is set, so is newest.
	unread, newest atomic.Uint64

	pos uint64 // the cursor has read every event up to here
	// catchUpFrom is the position from which the log may hold more events since
	// the last call of Next; zero if that read reached the log's head. Only the
	// cursor's goroutine sets it.
	catchUpFrom atomic.Uint64

	lost atomic.Bool // the log has begun another epoch

	ready chan struct{} // nil until Ready is called

	// Guarded by the hub's subscribersMu.
	waker  Waker // nil: nothing is woken
	places []int // of the cursor among the subscribers of each of its topics
	closed bool
}

// Subscribe returns a cursor after the log's newest event. It reads the events
// that are published from now on. The caller must close it.
func (h *Hub) Subscribe(topics []string) *Cursor {
	c := h.register(topics)
	_, c.pos = h.store.Range()
	return c
}

// SubscribeAfter returns a cursor that first reads the events after seq, a
// position that [Hub.Resolve] has returned. The caller must close it.
func (h *Hub) SubscribeAfter(topics []string, seq uint64) *Cursor {
	c := h.register(topics)
	c.startAfter(seq)
	return c
}

// SubscribeLast returns a cursor that first reads the newest n events on the
// topics, or all that the log holds if these are fewer. The caller must close it.
func (h *Hub) SubscribeLast(topics []string, n int) *Cursor {
	c := h.register(topics)
	c.startAfter(h.store.Before(c.topics, n))
	return c
}

// SubscribeAll returns a cursor that first reads every event in the log. As any
// cursor it returns [ErrLost] if the log drops events before it reads them. The
// caller must close it.
func (h *Hub) SubscribeAll(topics []string) *Cursor {
	c := h.register(topics)
	tail, _ := h.store.Range()
	c.startAfter(tail - 1)
	return c
}

// startAfter makes the cursor read the events after seq.
func (c *Cursor) startAfter(seq uint64) {
	c.pos = seq
	c.catchUpFrom.Store(seq + 1)
}

// register returns a cursor that the hub wakes. Callers read the log's head only
// afterwards, so that the cursor misses no event published between the two.
func (h *Hub) register(topics []string) *Cursor {
	h.shared()
	c := &Cursor{hub: h}
	h.subscribersMu.Lock()
	defer h.subscribersMu.Unlock()
	c.topics = h.sharedTopicsLocked(topics)
	c.places = make([]int, len(c.topics))
	for i, t := range c.topics {
		c.places[i] = len(h.subscribers[t])
		h.subscribers[t] = append(h.subscribers[t], c)
	}
	return c
}

// sharedTopicsLocked returns the topics, sorted and without duplicates. Cursors
// with one topic share the slice.
func (h *Hub) sharedTopicsLocked(topics []string) []string {
	if len(topics) == 1 {
		if others := h.subscribers[topics[0]]; len(others) > 0 && len(others[0].topics) == 1 {
			return others[0].topics
		}
	}
	return unique(topics)
}

// Close unsubscribes the cursor. Callers may call it more than once, from any
// goroutine.
func (c *Cursor) Close() {
	h := c.hub
	h.subscribersMu.Lock()
	defer h.subscribersMu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	for i, t := range c.topics {
		h.removeLocked(t, c.places[i])
	}
}

// removeLocked removes a topic's subscriber at a place. The topic's last
// subscriber moves there.
func (h *Hub) removeLocked(topic string, place int) {
	cursors := h.subscribers[topic]
	last := len(cursors) - 1
	moved := cursors[last]
	i, _ := slices.BinarySearch(moved.topics, topic)
	cursors[place], moved.places[i] = moved, place
	cursors[last] = nil // so that the array keeps no pointer
	switch cursors = cursors[:last]; {
	case last == 0:
		delete(h.subscribers, topic)
	case cap(cursors) > 64 && last < cap(cursors)/4:
		h.subscribers[topic] = append(make([]*Cursor, 0, 2*last), cursors...)
	default:
		h.subscribers[topic] = cursors
	}
}

// Subscribers returns how many open cursors are on at least one of the topics.
func (h *Hub) Subscribers(topics []string) int {
	topics = unique(topics)
	if len(topics) == 1 {
		h.subscribersMu.RLock()
		defer h.subscribersMu.RUnlock()
		return len(h.subscribers[topics[0]])
	}
	found := make(map[*Cursor]struct{})
	for _, t := range topics {
		h.addSubscribers(found, t)
	}
	return len(found)
}

// addSubscribers holds the lock for one topic at a time: publishing waits for it.
func (h *Hub) addSubscribers(found map[*Cursor]struct{}, topic string) {
	h.subscribersMu.RLock()
	defer h.subscribersMu.RUnlock()
	for _, c := range h.subscribers[topic] {
		found[c] = struct{}{}
	}
}

// wake records a new event at first; further ones may follow up to last. The hub
// calls it in the order of the log, so the first call since the last read has the
// lowest position.
func (c *Cursor) wake(first, last uint64) {
	c.newest.Store(last)
	c.unread.CompareAndSwap(0, first)
	if c.waker != nil {
		c.waker.Wake()
	}
}

// Waker is woken when a cursor may have events to read. It must be safe for
// concurrent use, must not block, and must not call the hub.
type Waker interface{ Wake() }

// WakeBy makes the hub wake w, in place of an earlier waker and of the channel of
// [Cursor.Ready], whenever there may be events to read: also now, if there may be
// some already.
func (c *Cursor) WakeBy(w Waker) {
	c.hub.subscribersMu.Lock()
	defer c.hub.subscribersMu.Unlock()
	c.waker = w
	if c.HasUnread() {
		w.Wake()
	}
}

// Ready returns a channel that receives when there may be events to read.
func (c *Cursor) Ready() <-chan struct{} {
	if c.ready == nil {
		c.ready = make(chan struct{}, 1)
		c.WakeBy(channelWaker(c.ready))
	}
	return c.ready
}

type channelWaker chan struct{}

func (c channelWaker) Wake() {
	select {
	case c <- struct{}{}:
	default: // a notification is pending
	}
}

// Next reads unread events, appends them to buf and returns it. It reads about
// maxBytes of encoded events but at least one, and none if all have been read. It
// fails with [ErrLost] if the history has dropped unread events, or with the
// store's error.
func (c *Cursor) Next(maxBytes int, buf []*store.Entry) ([]*store.Entry, error) {
	b, err := c.next(maxBytes, buf)
	return b.Entries, err
}

func (c *Cursor) next(maxBytes int, buf []*store.Entry) (store.Batch, error) {
	if c.lost.Load() {
		return store.Batch{}, ErrLost
	}
	first := c.firstUnread(c.unread.Swap(0))
	b, err := c.hub.store.Read(c.topics, c.pos, maxBytes, buf)
	if err != nil {
		return store.Batch{}, fmt.Errorf("reading the log after %d: %w", c.pos, err)
	}
	if first == 0 {
		// The log may have received and dropped an event since: the hub wakes
		// cursors before it trims the log.
		first = c.firstUnread(c.unread.Load())
	}
	if first != 0 && first < b.Tail {
		return store.Batch{}, ErrLost
	}
	c.advance(&b)
	return b, nil
}

func (c *Cursor) advance(b *store.Batch) {
	c.pos = b.UpTo
	if b.More {
		c.catchUpFrom.Store(b.UpTo + 1)
	} else {
		c.catchUpFrom.Store(0)
	}
}

// Reading is the result of one read, which cursors on the same topics and at the
// same position can share. Callers must not change its entries.
type Reading struct {
	hub    *Hub
	topics []string
	after  uint64
	batch  store.Batch
}

// Entries returns the entries that the reading holds, which may be none.
func (r *Reading) Entries() []*store.Entry { return r.batch.Entries }

// Read is like [Cursor.Next] and returns a result that other cursors can share.
func (c *Cursor) Read(maxBytes int) (*Reading, error) {
	r := &Reading{hub: c.hub, topics: c.topics, after: c.pos}
	var err error
	if r.batch, err = c.next(maxBytes, nil); err != nil {
		return nil, err
	}
	return r, nil
}

// Share moves the cursor to the end of a reading and returns true if the reading
// holds all that the cursor would read now. Otherwise it does nothing.
func (c *Cursor) Share(r *Reading) bool {
	if r.hub != c.hub || c.lost.Load() || r.after != c.pos || c.newest.Load() > r.batch.UpTo || !sameTopics(r.topics, c.topics) {
		return false
	}
	c.unread.Store(0)
	c.advance(&r.batch)
	if c.newest.Load() > r.batch.UpTo {
		// A batch came in between, and unread may have lost its first event.
		c.catchUpFrom.Store(r.batch.UpTo + 1)
	}
	return true
}

// firstUnread returns the position of the first unread event, or a lower one if
// the cursor doesn't know it exactly; zero if it has read all. reported is the
// value of unread. The caller must load it before it reads the log: the cursor
// reads an event published in between, and unread reports it once more.
func (c *Cursor) firstUnread(reported uint64) uint64 {
	switch {
	case !c.CaughtUp():
		return c.pos + 1
	case reported == 0:
		return 0
	case reported > c.pos:
		return reported
	case c.newest.Load() > c.pos: // the cursor has read the reported event, and there are newer ones
		return c.pos + 1
	default:
		return 0
	}
}

// HasUnread reports whether there may be events to read. It is safe for concurrent
// use.
func (c *Cursor) HasUnread() bool { return c.unread.Load() != 0 || !c.CaughtUp() }

// sameTopics is [slices.Equal], and faster for the same slice.
func sameTopics(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// CaughtUp reports whether the last read reached the log's head. It is safe for
// concurrent use.
func (c *Cursor) CaughtUp() bool { return c.catchUpFrom.Load() == 0 }

// Lag returns how many events, on any topic, the log received since the first one
// that the cursor has not read; zero if it has read all. It is safe for
// concurrent use.
func (c *Cursor) Lag() uint64 {
	_, head := c.hub.store.Range()
	return c.lag(head)
}

func (c *Cursor) lag(head uint64) uint64 {
	first := c.catchUpFrom.Load()
	if first == 0 {
		first = c.unread.Load()
	}
	if first == 0 || first > head {
		return 0
	}
	return head + 1 - first
}

// Topics returns the cursor's topics, sorted and without duplicates. Callers must
// not change them. It is safe for concurrent use.
func (c *Cursor) Topics() []string { return c.topics }

// Skip moves the cursor forward to seq, because the subscriber doesn't need the
// events up to there. It never moves the cursor back.
func (c *Cursor) Skip(seq uint64) {
	c.pos = max(c.pos, seq)
}

// Seq returns the position up to which the cursor has read.
func (c *Cursor) Seq() uint64 { return c.pos }

// Position returns an id that resumes at the cursor's position.
func (c *Cursor) Position() string { return c.hub.position(c.pos) }
