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
	g.lookLocked()
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
	g.lookLocked()
}

// Notify makes the streams of which [Source.Stop] is set end at once.
func (g *Group) Notify() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lookLocked()
}

func (g *Group) lookLocked() {
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

// share is the moment within the drain time at which one stream ends.
func (g *Group) share() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return share(g.drain)
}

// share is a random part of d; zero if d is not positive.
func share(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// end tells whether the group has been ended, and within what time.
func (g *Group) end() (ended bool, drain time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended, g.drain
}

// fate tells whether the group has been ended, whether its clients have somewhere
// to go at once, and whether the server goes away.
func (g *Group) fate() (ended, successor, exiting bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended, g.drain > 0, g.exiting
}
