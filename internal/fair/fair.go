// Package fair shares a number of slots among requests, so that requests that
// hang hold up only others like them: those of the same client, path or host.
//
// A request counts for several holders, and gets a slot only while each of them
// holds fewer slots than a multiple of the free ones:
//
//	holder                       holds fewer than   so at most
//	a client                     the free slots     1/2 of all, rounded up
//	a path of a host             2 times as many    2/3
//	a host's slow requests       3 times as many    3/4
//	a host's slow and new ones   9 times as many    9/10
//	a host's slow and fast ones  9 times as many    9/10
//	a host                       19 times as many   19/20
//
// The bound moves with the free slots, as in switches that share a buffer among
// their ports (Choudhury and Hahne, Dynamic Queue Length Thresholds for
// Shared-Memory Packet Switches, 1998). A fixed bound of a half would let two
// holders take everything; here the second gets half of what the first has left,
// and so on. A holder that holds nothing gets a slot as long as any is free.
//
// So one client can't use up its path, and a path can't use up what slow requests
// have. Slow requests leave slots to new and to fast ones; new ones leave slots to
// fast ones, and fast ones, which may begin to hang, to new ones; a host leaves
// slots to other hosts. The number of slots is never exceeded.
package fair

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// SlowAfter is how long a request holds its slot at most to be fast.
const SlowAfter = time.Second

// Request says for whom a slot counts. Requests with equal values share a queue.
type Request struct {
	// Client is the client that causes the request. Empty: several do.
	Client string
	// Host and Path are those of the URL. Without a host, the slot counts only
	// for the client.
	Host, Path string
	// Pace is the pace of the last request of this kind.
	Pace Pace
}

// Pace is how long a request holds its slot.
type Pace int

// The paces.
const (
	// New is unknown: it is the first request of its kind, which a stranger
	// may cause.
	New Pace = iota
	// Fast is up to [SlowAfter].
	Fast
	// Slow is longer.
	Slow
)

// Slots is a number of slots. It is safe for concurrent use.
type Slots struct {
	mu      sync.Mutex
	free    int
	clients map[string]*holder
	sites   map[string]*site // by host
	queues  map[Request]*queue
	awaited list.List // the holders that queues wait for, in turn
}

// NewSlots returns n slots.
func NewSlots(n int) *Slots {
	return &Slots{free: n, clients: make(map[string]*holder), sites: make(map[string]*site), queues: make(map[Request]*queue)}
}

// The kinds of holders. A kind is also the bound: a multiple of the free slots.
const (
	client = 1
	path   = 2
	slow   = 3
	others = 9 // all but those of one pace
	host   = 19
)

// site has the holders of one host. They are forgotten when its host's is, which
// each of its requests has.
type site struct {
	paths                      map[string]*holder
	slow, notFast, notNew, all holder
}

func (s *Slots) siteLocked(name string) *site {
	if known := s.sites[name]; known != nil {
		return known
	}
	of := &site{
		paths:   make(map[string]*holder),
		slow:    holder{kind: slow},
		notFast: holder{kind: others},
		notNew:  holder{kind: others},
		all:     holder{kind: host, name: name},
	}
	s.sites[name] = of
	return of
}

func (of *site) path(name string) *holder {
	h := of.paths[name]
	if h == nil {
		h = &holder{kind: path, name: name, site: of}
		of.paths[name] = h
	}
	return h
}

func (s *Slots) clientLocked(name string) *holder {
	h := s.clients[name]
	if h == nil {
		h = &holder{kind: client, name: name}
		s.clients[name] = h
	}
	return h
}

// holder is what slots count for.
type holder struct {
	kind   int
	name   string        // of a client, a path or a host
	site   *site         // of a path
	held   int           // slots
	users  int           // slots and queues that have the holder; without any it is forgotten
	queues list.List     // those that wait for this holder
	turns  int           // how many it still serves until it is another holder's turn
	place  *list.Element // in Slots.awaited, while queues wait
}

// holders are those of one request: the narrowest first, nil at the end.
type holders [6]*holder

// queue holds the waiting requests with equal values. It waits for one of its
// holders that can't get a slot, so a slot that becomes free costs no look at
// queues that must wait anyway.
type queue struct {
	request Request
	holders holders
	waiters list.List // of *Wait
	at      *holder
	place   *list.Element // in at.queues
}

// Wait is a request that waits for a slot.
type Wait struct {
	slots  *Slots
	queue  *queue
	place  *list.Element // in queue.waiters; nil when it waits no longer
	waiter Waiter
}

// Waiter is whoever waits for a slot without a goroutine.
type Waiter interface {
	// Granted is called once, with the slot, by a goroutine that has released
	// another one. It must return at once.
	Granted(*Slot)
}

// channel is the Waiter of [Slots.Acquire].
type channel chan *Slot

func (c channel) Granted(s *Slot) { c <- s }

// Slot is held by one request. Its holder calls Release, once.
type Slot struct {
	slots   *Slots
	holders holders
	since   time.Time
}

// Acquire waits for a slot. It returns the cause if the context ends before.
func (s *Slots) Acquire(ctx context.Context, r Request) (*Slot, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	got := make(channel, 1)
	slot, wait := s.Ask(r, got)
	if slot != nil {
		return slot, nil
	}
	select {
	case slot = <-got:
		return slot, nil
	case <-ctx.Done():
	}
	if !wait.Cancel() { // it was granted meanwhile
		(<-got).Release()
	}
	return nil, context.Cause(ctx)
}

// Ask returns a slot if there is one for the request now. Otherwise the waiter gets
// it later, unless it cancels the wait.
func (s *Slots) Ask(r Request, w Waiter) (*Slot, *Wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	hs := s.holdersLocked(r)
	if s.blockerLocked(&hs) == nil {
		return s.takeLocked(&hs), nil
	}
	return nil, s.waitLocked(r, hs, w)
}

// Cancel ends the wait. It returns false if there is a slot already: the waiter gets
// it, or has got it.
func (w *Wait) Cancel() bool {
	w.slots.mu.Lock()
	defer w.slots.mu.Unlock()
	if w.place == nil {
		return false
	}
	w.slots.removeLocked(w)
	return true
}

// Release gives the slot back. It returns the request's pace.
func (s *Slot) Release() Pace {
	for _, g := range s.slots.release(&s.holders) {
		g.wait.waiter.Granted(g.slot)
	}
	if time.Since(s.since) > SlowAfter {
		return Slow
	}
	return Fast
}

// holdersLocked returns a request's holders.
func (s *Slots) holdersLocked(r Request) (hs holders) {
	at := 0
	add := func(h *holder) {
		hs[at] = h
		at++
	}
	if r.Client != "" || r.Host == "" {
		add(s.clientLocked(r.Client))
	}
	if r.Host == "" {
		return hs
	}
	of := s.siteLocked(r.Host)
	add(of.path(r.Path))
	if r.Pace == Slow {
		add(&of.slow)
	}
	if r.Pace != Fast {
		add(&of.notFast)
	}
	if r.Pace != New {
		add(&of.notNew)
	}
	add(&of.all)
	return hs
}

// blockerLocked returns the first of the holders that may not have another slot
// now, or nil.
func (s *Slots) blockerLocked(hs *holders) *holder {
	for _, h := range hs {
		if h != nil && s.isBlockedLocked(h) {
			return h
		}
	}
	return nil
}

func (s *Slots) isBlockedLocked(h *holder) bool { return h.held >= h.kind*s.free }

func (s *Slots) takeLocked(hs *holders) *Slot {
	s.free--
	for _, h := range hs {
		if h != nil {
			h.held++
			h.users++
		}
	}
	return &Slot{s, *hs, time.Now()}
}

// grant is a slot for a request that has waited.
type grant struct {
	wait *Wait
	slot *Slot
}

// release takes a slot back. It returns those that others have now, who waited.
func (s *Slots) release(hs *holders) (grants []grant) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	for _, h := range hs {
		if h != nil {
			h.held--
		}
	}
	for q := s.nextLocked(); q != nil; q = s.nextLocked() {
		wait := q.waiters.Front().Value.(*Wait)
		grants = append(grants, grant{wait, s.takeLocked(&q.holders)})
		s.removeLocked(wait)
	}
	s.forgetLocked(hs)
	return grants
}

// nextLocked returns the queue whose turn it is, or nil if none may have a slot.
// It looks at each holder that is blocked, which has a slot, and moves each
// queue that it finds blocked by another holder to that one. So its cost grows
// with the number of slots, not with the number of those that wait.
func (s *Slots) nextLocked() *queue {
	if s.free == 0 {
		return nil
	}
	for place := s.awaited.Front(); place != nil; {
		h := place.Value.(*holder)
		place = place.Next() // since moveLocked may remove h
		for h.queues.Len() > 0 && !s.isBlockedLocked(h) {
			q := h.queues.Front().Value.(*queue)
			blocker := s.blockerLocked(&q.holders)
			if blocker == nil {
				s.endTurnLocked(q)
				return q
			}
			s.moveLocked(q, blocker)
		}
	}
	return nil
}

// endTurnLocked puts a queue behind the others of its holder, and the holder
// behind other holders: a client after each turn, and one of several clients
// after a turn for each queue, so that a client with many requests gets no more
// turns than others.
func (s *Slots) endTurnLocked(q *queue) {
	h := q.at
	h.queues.MoveToBack(q.place)
	if h.turns == 0 && h.kind != client {
		h.turns = h.queues.Len()
	}
	if h.turns = max(h.turns-1, 0); h.turns == 0 {
		s.awaited.MoveToBack(h.place)
	}
}

// waitLocked adds a waiting request to the queue of its equals.
func (s *Slots) waitLocked(r Request, hs holders, waiter Waiter) *Wait {
	q := s.queues[r]
	if q == nil {
		q = &queue{request: r, holders: hs}
		s.queues[r] = q
		for _, h := range hs {
			if h != nil {
				h.users++
			}
		}
		s.moveLocked(q, s.blockerLocked(&hs))
	}
	w := &Wait{slots: s, queue: q, waiter: waiter}
	w.place = q.waiters.PushBack(w)
	return w
}

// removeLocked removes a request from its queue, which ends with its last one.
func (s *Slots) removeLocked(w *Wait) {
	q := w.queue
	q.waiters.Remove(w.place)
	w.place = nil
	if q.waiters.Len() > 0 {
		return
	}
	delete(s.queues, q.request)
	s.moveLocked(q, nil)
	s.forgetLocked(&q.holders)
}

// moveLocked makes a queue wait for another holder; nil: for none.
func (s *Slots) moveLocked(q *queue, to *holder) {
	if from := q.at; from != nil {
		if from.queues.Remove(q.place); from.queues.Len() == 0 {
			s.awaited.Remove(from.place)
			from.place = nil
		}
	}
	if q.at = to; to == nil {
		return
	}
	if q.place = to.queues.PushBack(q); to.place == nil {
		to.place = s.awaited.PushBack(to)
	}
}

// forgetLocked ends one use of the holders.
func (s *Slots) forgetLocked(hs *holders) {
	for _, h := range hs {
		if h == nil {
			continue
		}
		if h.users--; h.users > 0 {
			continue
		}
		switch h.kind {
		case client:
			delete(s.clients, h.name)
		case path:
			delete(h.site.paths, h.name)
		case host:
			delete(s.sites, h.name)
		}
	}
}
