package hub

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
)

// ErrNoTopic means that an event was published on no topic.
var ErrNoTopic = errors.New("an event needs a topic")

// publication holds one publisher's events, and the result of appending them.
type publication struct {
	items  []item
	record *store.IdempotencyRecord // nil without an idempotency key

	// original is the first publication in the same batch with the same
	// idempotency key. storedOutcome is the outcome of one from an earlier batch.
	original      *publication
	storedOutcome string
	dup           bool
	err           error

	// handoff receives true when p's publisher becomes the leader, and false
	// when another leader has committed p. It is nil if p need not wait.
	handoff chan bool
}

// item is one event of a publication.
type item struct {
	topics []string
	id     string // empty unless the publisher gave one
	frame  event.Frame
	entry  *store.Entry
	dup    bool
}

// Publish appends an event to the log, as durably as its store makes it, and
// wakes the subscribers of its topics.
//
// The event keeps its id. If the log already holds an event with that id on the
// same topics, Publish publishes nothing and returns the existing event with
// duplicate true. Publish replaces an id that an event on other topics uses, or
// that looks like a position of this log: events from unrelated publishers must
// not hide each other. To publish such an event only once, use an idempotency
// key; see [Hub.PublishAll].
//
// Publish fails if the event can't be encoded (see [event.Event.Encode]), with
// [ErrNoTopic] if there is no topic, with [ErrClosed], or with the store's
// error. Then it has published nothing.
func (h *Hub) Publish(topics []string, e event.Event) (entry *store.Entry, duplicate bool, err error) {
	i, err := newItem(topics, e, nil)
	if err != nil {
		return nil, false, err
	}
	return h.publishItem(i)
}

// PublishFrame publishes an encoded event that has no id. It fails as
// [Hub.Publish] does.
func (h *Hub) PublishFrame(topics []string, frame event.Frame) (*store.Entry, error) {
	if len(topics) == 0 {
		return nil, ErrNoTopic
	}
	entry, _, err := h.publishItem(item{topics: unique(topics), frame: frame})
	return entry, err
}

func (h *Hub) publishItem(i item) (*store.Entry, bool, error) {
	items := [1]item{i}
	p := &publication{items: items[:]}
	h.commit(p)
	if p.err != nil {
		return nil, false, p.err
	}
	return items[0].entry, items[0].dup, nil
}

// newItem encodes an event, unless its frame is given.
func newItem(topics []string, e event.Event, frame event.Frame) (item, error) {
	if len(topics) == 0 {
		return item{}, ErrNoTopic
	}
	if e.ID != "" {
		if err := event.CheckID(e.ID); err != nil {
			return item{}, err
		}
	}
	if frame == nil {
		var err error
		if frame, err = (event.Event{Name: e.Name, Data: e.Data}).Encode(); err != nil {
			return item{}, err
		}
	}
	return item{topics: unique(topics), id: e.ID, frame: frame}, nil
}

// unique returns the topics without duplicates. It doesn't change its argument.
func unique(topics []string) []string {
	if len(topics) == 1 {
		return []string{topics[0]}
	}
	sorted := slices.Sorted(slices.Values(topics))
	return slices.Compact(sorted)
}

// commit appends p to the log, by group commit. One publisher at a time is the
// leader: it appends every queued publication at once, so that many publishers
// share one append (and, with a store on disk, one sync). The others wait until
// the leader has committed them, or until one of them becomes the next leader.
func (h *Hub) commit(p *publication) {
	h.queueMu.Lock()
	h.queue = append(h.queue, p)
	mustWait := h.hasLeader
	if mustWait {
		p.handoff = make(chan bool, 1)
	}
	h.hasLeader = true
	h.queueMu.Unlock()
	if !mustWait || <-p.handoff {
		h.commitAsLeader(p)
	}
}

// maxWakesByPublisher limits how many subscribers a publisher wakes itself, before
// its event is acknowledged. A goroutine wakes larger numbers.
const maxWakesByPublisher = 100

// commitAsLeader appends every queued publication, including p.
func (h *Hub) commitAsLeader(p *publication) {
	h.writeMu.Lock()
	h.queueMu.Lock()
	batch := h.queue
	h.queue = nil
	h.queueMu.Unlock()
	var entries []*store.Entry
	written := false
	defer func() {
		if !written { // a panic must not block the other publishers
			fail(batch, errors.New("the append panicked"))
		}
		for _, other := range batch {
			if other != p {
				other.handoff <- false
			}
		}
		if h.countWakes(entries) > maxWakesByPublisher {
			go h.announceAndUnlock(entries)
		} else {
			h.announceAndUnlock(entries)
		}
	}()
	entries = h.appendLocked(batch)
	written = true
}

// announceAndUnlock wakes the subscribers of what appendLocked has returned, before
// the log may drop any of it. Then it lets the next publisher append.
func (h *Hub) announceAndUnlock(entries []*store.Entry) {
	defer h.handOffLeadership()
	defer h.writeMu.Unlock()
	if len(entries) > 0 {
		h.wake(entries)
	}
	if entries != nil {
		h.trimLocked()
	}
}

// countWakes returns about how many subscribers wake wakes.
func (h *Hub) countWakes(entries []*store.Entry) (n int) {
	h.subscribersMu.RLock()
	defer h.subscribersMu.RUnlock()
	for _, e := range entries {
		for _, t := range e.Topics {
			n += len(h.subscribers[t])
		}
	}
	return n
}

// handOffLeadership makes the first waiting publisher the next leader.
func (h *Hub) handOffLeadership() {
	h.queueMu.Lock()
	defer h.queueMu.Unlock()
	if h.hasLeader = len(h.queue) > 0; h.hasLeader {
		h.queue[0].handoff <- true
	}
}

// appendLocked returns the entries that it has appended: nil if it has appended
// neither an entry nor an idempotency record.
func (h *Hub) appendLocked(batch []*publication) []*store.Entry {
	if h.closed {
		fail(batch, ErrClosed)
		return nil
	}
	if log := h.shared(); log != nil {
		h.publishShared(log, batch)
		return nil
	}
	a := h.newAppend(len(batch))
	for _, p := range batch {
		if !a.isDuplicate(p) {
			a.add(p)
		}
	}
	if len(a.entries) == 0 && len(a.records) == 0 {
		return nil
	}
	if err := h.store.Append(a.entries, a.records); err != nil {
		err = fmt.Errorf("storing %d events: %w", len(a.entries), err)
		h.failed.Store(&failure{err, a.now})
		fail(batch, err)
		return nil
	}
	h.failed.Store(nil)
	return a.entries
}

// pendingAppend is what a batch appends to the log.
type pendingAppend struct {
	hub     *Hub
	now     time.Time
	head    uint64 // before the batch
	entries []*store.Entry
	records []store.IdempotencyRecord

	byID  map[string]*store.Entry    // the batch's entries whose publishers gave ids
	byKey map[scopedKey]*publication // the batch's publications
}

// scopedKey identifies an idempotency record in the whole log.
type scopedKey struct {
	scope string
	key   store.HashedKey
}

func (h *Hub) newAppend(size int) *pendingAppend {
	_, head := h.store.Range()
	return &pendingAppend{
		hub:     h,
		now:     time.Now(),
		head:    head,
		entries: make([]*store.Entry, 0, size),
		byID:    make(map[string]*store.Entry),
	}
}

// isDuplicate reports whether an earlier publication, stored or in the same
// batch, has p's idempotency key. If so it makes p a duplicate of that one. If
// not it remembers p as the first with its key.
func (a *pendingAppend) isDuplicate(p *publication) bool {
	if p.record == nil {
		return false
	}
	name := scopedKey{p.record.Scope, p.record.Key}
	if p.original = a.byKey[name]; p.original != nil {
		p.dup = true
		return true
	}
	if p.storedOutcome, p.dup = a.hub.storedOutcome(p.record, a.now); p.dup {
		return true
	}
	a.remember(p)
	return false
}

// remember makes p the batch's publication with its key.
func (a *pendingAppend) remember(p *publication) {
	if a.byKey == nil {
		a.byKey = make(map[scopedKey]*publication)
	}
	a.byKey[scopedKey{p.record.Scope, p.record.Key}] = p
}

// add adds p's events and its idempotency record to the batch.
func (a *pendingAppend) add(p *publication) {
	first := a.nextSeq()
	for i := range p.items {
		a.addItem(&p.items[i], p.record != nil)
	}
	if p.record != nil {
		p.record.Time = a.now
		p.record.Outcome = encodeOutcome(first, entriesOf(p.items))
		a.records = append(a.records, *p.record)
	}
}

func (a *pendingAppend) nextSeq() uint64 { return a.head + 1 + uint64(len(a.entries)) }

// addItem makes an event's entry, or finds the entry that it duplicates. An event
// with an idempotency key is never a duplicate here: isDuplicate has decided that.
func (a *pendingAppend) addItem(i *item, keyed bool) {
	id, before := a.resolveID(i)
	if before != nil && !keyed && slices.Equal(before.Topics, i.topics) {
		i.entry, i.dup = before, true
		return
	}
	seq := a.nextSeq()
	e := &store.Entry{Seq: seq, Time: a.now, Topics: i.topics, ID: id, Given: id != ""}
	if id == "" {
		e.ID = a.hub.position(seq)
	} else {
		a.byID[id] = e
	}
	e.Frame = i.frame.WithID(e.ID)
	i.entry = e
	a.entries = append(a.entries, e)
}

// resolveID returns the id to publish an event under, empty for its position.
// It also returns the entry that uses the publisher's id already, or nil.
func (a *pendingAppend) resolveID(i *item) (string, *store.Entry) {
	if i.id == "" || strings.HasPrefix(i.id, a.hub.epoch()) {
		return "", nil
	}
	before := a.byID[i.id]
	if before == nil {
		before = a.hub.store.Lookup(i.id)
	}
	if before != nil {
		return "", before
	}
	return i.id, nil
}

// fail gives every publication of a batch an error. A duplicate within the batch
// fails like its original. A duplicate of an earlier batch doesn't fail.
func fail(batch []*publication, err error) {
	for _, p := range batch {
		if p.dup && p.original == nil {
			continue
		}
		p.dup, p.err = false, err
	}
}
