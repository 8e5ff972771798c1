package hub

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

// lazy is a store that opens another.
type lazy interface{ Shared() store.Shared }

// openShared returns the hub's log if several processes append to it, and nil
// otherwise. The first call waits until this process has read the log.
func (h *Hub) openShared() store.Shared {
	shared, _ := h.store.(store.Shared)
	if l, ok := h.store.(lazy); ok {
		shared = l.Shared()
	}
	if shared != nil {
		shared.Attach(store.Hooks{Outcome: encodeOutcome, Appended: h.wake, Replaced: h.replaced})
	}
	return shared
}

// replaced wakes the cursors after the process's copy of the log was replaced. If
// it has another epoch, they return [ErrLost].
func (h *Hub) replaced(lost bool) {
	tail, head := h.store.Range()
	h.subscribersMu.RLock()
	defer h.subscribersMu.RUnlock()
	for _, cursors := range h.subscribers {
		for _, c := range cursors {
			if lost {
				c.lost.Store(true)
			}
			c.wake(max(1, tail-1), head)
		}
	}
}

// publishShared publishes a batch on a shared log, which wakes the subscribers.
func (h *Hub) publishShared(log store.Shared, batch []*publication) {
	s := &sharedBatch{hub: h, batch: batch, proposals: make(map[*publication]*proposal)}
	if err := log.Publish(s.propose); err != nil {
		if !s.compared { // a duplicate of what this process knows doesn't fail
			s.propose()
		}
		err = fmt.Errorf("storing %d publications: %w", len(batch), err)
		h.failed.Store(&failure{err, time.Now()})
		fail(s.undecided(), err)
	} else {
		h.failed.Store(nil)
	}
	s.finish()
}

// sharedBatch is a batch of publications on their way into a shared log.
type sharedBatch struct {
	hub       *Hub
	batch     []*publication
	proposals map[*publication]*proposal
	compared  bool // propose was called
}

// proposal is what a publication proposes: the items that aren't duplicates.
type proposal struct {
	store.Proposal
	items []*item
}

// propose compares the undecided publications with the log, and returns those that
// are no duplicates.
func (s *sharedBatch) propose() []*store.Proposal {
	s.compared = true
	a := s.hub.newAppend(0)
	var proposals []*store.Proposal
	for _, p := range s.batch {
		if before := s.proposals[p]; before != nil && before.Decided {
			if p.record != nil {
				a.remember(p)
			}
			continue
		}
		delete(s.proposals, p)
		if a.isDuplicate(p) {
			continue
		}
		if next := s.newProposal(a, p); len(next.Events) > 0 || p.record != nil {
			s.proposals[p] = next
			proposals = append(proposals, &next.Proposal)
		}
	}
	return proposals
}

func (s *sharedBatch) newProposal(a *pendingAppend, p *publication) *proposal {
	next := &proposal{Proposal: store.Proposal{Record: p.record}}
	for i := range p.items {
		item := &p.items[i]
		id, before := a.resolveID(item)
		if before != nil && p.record == nil && slices.Equal(before.Topics, item.topics) {
			item.entry, item.dup = before, true
			continue
		}
		next.items = append(next.items, item)
		next.Events = append(next.Events, store.ProposedEvent{Topics: item.topics, ID: id, Frame: item.frame})
	}
	return next
}

// undecided returns the publications that the log has not decided.
func (s *sharedBatch) undecided() []*publication {
	return slices.DeleteFunc(slices.Clone(s.batch), func(p *publication) bool {
		next := s.proposals[p]
		return next != nil && next.Decided || next == nil && p.original == nil && p.isKnown()
	})
}

// isKnown reports whether the log held all of the publication before.
func (p *publication) isKnown() bool {
	return p.dup || !slices.ContainsFunc(p.items, func(i item) bool { return !i.dup })
}

// finish sets the results of the publications that the log has decided.
func (s *sharedBatch) finish() {
	for p, next := range s.proposals {
		if !next.Decided {
			continue
		}
		if next.Duplicate {
			p.dup, p.storedOutcome = true, next.Outcome
			continue
		}
		for i, e := range next.Events {
			next.items[i].entry, next.items[i].dup = e.Entry, e.Duplicate
		}
	}
	for _, p := range s.batch {
		if first := p.original; first != nil && first.dup {
			p.original, p.storedOutcome = nil, first.storedOutcome
		}
	}
}

// Process returns a name that distinguishes this process from the others that share
// the hub's log. It is empty if none does.
func (h *Hub) Process() string {
	if h.shared() == nil {
		return ""
	}
	return h.process
}

// syncTimeout limits how long a client's position is waited for.
const syncTimeout = 10 * time.Second

// sync waits until this process has read everything that any process had published
// before, and returns false if it can't, or if this process publishes alone.
func (h *Hub) sync() bool {
	log := h.shared()
	if log == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), syncTimeout)
	defer cancel()
	return log.Sync(ctx) == nil
}
