package stream

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Group is streams that end together: those of one configuration. Its zero
// value is ready to use, and it is safe for concurrent use.
type Group struct {
	mu      sync.Mutex
	changed chan struct{} // closed when the group's end is decided or comes closer, or one of its streams is stopped
	ended   bool
	exiting bool
	drain   time.Duration
}

// End makes each of the group's streams end at a random moment within drain:
// all at once for zero. Streams that are opened later end like the others. A
// second call can only hasten the end.
//
// A drain above zero says that something is there to take the clients, which
// are told to come back soon.
func (g *Group) End(drain time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended && drain >= g.drain {
		return
	}
	g.ended, g.drain = true, drain
	g.notifyLocked()
}

// Exit makes each of the group's streams end at once, whatever [Group.End] has
// said, since the server goes away: clients are told so, if they want to be.
func (g *Group) Exit() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.exiting {
		return
	}
	g.ended, g.exiting, g.drain = true, true, 0
	g.notifyLocked()
}

// Notify makes the streams of which [Source.Stop] is set end at once.
func (g *Group) Notify() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.notifyLocked()
}

func (g *Group) notifyLocked() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// watch returns a channel that is closed at the next change, and whether the
// group has been ended.
func (g *Group) watch() (changed <-chan struct{}, ended bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.changed, g.ended
}

// jitter returns a random part of the drain time, after which one stream ends.
func (g *Group) jitter() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return jitter(g.drain)
}

// jitter returns a random duration below d, or zero if d isn't positive.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// drainTime tells whether the group has been ended, and within what time.
func (g *Group) drainTime() (ended bool, drain time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended, g.drain
}

// state returns whether the group has ended, whether a next configuration takes its
// clients, and whether the server exits.
func (g *Group) state() (ended, successor, exiting bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended, g.drain > 0, g.exiting
}
