package stream

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Group ends the streams of one configuration together. The zero value is ready
// to use. A Group is safe for concurrent use.
type Group struct {
	mu      sync.Mutex
	changed chan struct{} // closed by End, Exit and Notify; nil if no stream waits for it
	ended   bool
	exiting bool
	drain   time.Duration
}

// End makes each stream of the group end at a random moment within drain. Streams
// that open later end within drain of their beginning. A second call has an effect
// only if its drain is shorter.
//
// A drain above zero says that the next configuration serves the clients: the
// streams tell them to reconnect soon. With a drain of zero, the streams end at
// once with [ShutDown].
func (g *Group) End(drain time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended && drain >= g.drain {
		return
	}
	g.ended, g.drain = true, drain
	g.notifyLocked()
}

// Exit makes each stream of the group end at once because the server exits, even
// after a call of [Group.End]. With [Options.ShutdownEvent], the streams send a
// shutdown event first.
func (g *Group) Exit() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.exiting {
		return
	}
	g.ended, g.exiting, g.drain = true, true, 0
	g.notifyLocked()
}

// Notify makes each stream of the group check its [Source.Stop], and end if it is
// set.
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

// changes returns a channel that the next End, Exit or Notify closes, and whether
// the group has ended.
func (g *Group) changes() (changed <-chan struct{}, ended bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.changed == nil {
		g.changed = make(chan struct{})
	}
	return g.changed, g.ended
}

// jitter returns the random part of the drain time after which one stream ends.
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

// drainTime returns whether the group has ended, and its drain time.
func (g *Group) drainTime() (ended bool, drain time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended, g.drain
}

// state returns whether the group has ended, whether the next configuration serves
// its clients, and whether the server exits.
func (g *Group) state() (ended, successor, exiting bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended, g.drain > 0, g.exiting
}
