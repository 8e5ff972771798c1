package stream

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"
)

// Group ends the streams of one configuration together. The zero value is ready
// to use. A Group is safe for concurrent use.
type Group struct {
	schedule schedule
	version  atomic.Uint64 // changes with End and Exit

	mu      sync.Mutex
	streams list.List // of open ones
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
	g.version.Add(1)
	for e := g.streams.Front(); e != nil; e = e.Next() {
		e.Value.(*Stream).Wake()
	}
}

// add adds an open stream.
func (g *Group) add(s *Stream) *list.Element {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.streams.PushBack(s)
}

func (g *Group) remove(e *list.Element) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.streams.Remove(e)
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
