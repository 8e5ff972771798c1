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

// ErrNoTopic is returned when an event is published on no topic at all.
var ErrNoTopic = errors.New("an event needs a topic")

// publication is what one publisher hands over, on its way into the log, and
// what became of it.
type publication struct {
	items   []item
	receipt *store.IdempotencyRecord // none if nil

	// before is the publication of the same batch that came first with the
	// same receipt; answer is that of one that was there before the batch.
	before *publication
	answer string
	dup    bool
	err    error

	// turn receives true when p is to write, and false when it is written. It
	// is there if p has to wait.
	turn chan bool
}

// item is one event of a publication.
type item struct {
	topics []string
	id     string // the publisher's, or empty
	frame  event.Frame
	entry  *store.Entry
	dup    bool
}

// Publish appends an event to the log, as durably as its store makes it, and
// wakes the readers of its topics.
//
// The event's id, if it has one, is kept. If the log already holds an event
// with that id on the same topics then nothing is published, and the one from
// before is returned with duplicate true. An id that an event on other topics
// has taken, or that looks like a position of this log, is replaced: events
// from unrelated publishers must not hide each other. Who wants such an event
// to count once as well gives it a receipt, see [Hub.PublishAll].
//
// It fails if the event can't be encoded (see [event.Event.Encode]), if there
// is no topic, or if the store fails; then nothing was published.
func (h *Hub) Publish(topics []string, e event.Event) (entry *store.Entry, duplicate bool, err error) {
	i, err := newItem(topics, e)
	if err != nil {
		return nil, false, err
	}
	return h.publishItem(i)
}

// PublishFrame is [Hub.Publish] for an event that is encoded already, without
// an id.
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

func newItem(topics []string, e event.Event) (item, error) {
	if len(topics) == 0 {
		return item{}, ErrNoTopic
	}
	if e.ID != "" {
		if err := event.CheckID(e.ID); err != nil {
			return item{}, err
		}
	}
	frame, err := event.Event{Name: e.Name, Data: e.Data}.Encode()
	if err != nil {
		return item{}, err
	}
	return item{topics: unique(topics), id: e.ID, frame: frame}, nil
}

// unique drops what is named twice; it keeps its argument as it is.
func unique(topics []string) []string {
	if len(topics) == 1 {
		return []string{topics[0]}
	}
	sorted := slices.Sorted(slices.Values(topics))
	return slices.Compact(sorted)
}

// commit gets p into the log. One publisher at a time writes, and takes along
// all that has queued up, so that many publishers share one append (and, with a
// store on disk, one sync). Who comes meanwhile waits to be told that it is done,
// or that it is the next to write.
func (h *Hub) commit(p *publication) {
	h.queueMu.Lock()
	h.queue = append(h.queue, p)
	mustWait := h.writing
	if mustWait {
		p.turn = make(chan bool, 1)
	}
	h.writing = true
	h.queueMu.Unlock()
	if !mustWait || <-p.turn {
		h.write(p)
	}
}

// write appends what has queued up, p with it.
func (h *Hub) write(p *publication) {
	h.writeMu.Lock()
	h.queueMu.Lock()
	batch := h.queue
	h.queue = nil
	h.queueMu.Unlock()
	written := false
	defer func() {
		if !written { // a panic must not stop all others
			fail(batch, errors.New("writing broke off"))
		}
		h.writeMu.Unlock()
		h.handOver()
		for _, other := range batch {
			if other != p {
				other.turn <- false
			}
		}
	}()
	h.appendLocked(batch)
	written = true
}

// handOver makes the first who waits the next to write.
func (h *Hub) handOver() {
	h.queueMu.Lock()
	defer h.queueMu.Unlock()
	if h.writing = len(h.queue) > 0; h.writing {
		h.queue[0].turn <- true
	}
}

func (h *Hub) appendLocked(batch []*publication) {
	if h.closed {
		fail(batch, ErrClosed)
		return
	}
	a := h.newAppend(len(batch))
	for _, p := range batch {
		if !a.known(p) {
			a.take(p)
		}
	}
	if len(a.entries) == 0 && len(a.receipts) == 0 {
		return
	}
	if err := h.store.Append(a.entries, a.receipts); err != nil {
		err = fmt.Errorf("storing %d events: %w", len(a.entries), err)
		h.failed.Store(&failure{err, a.now})
		fail(batch, err)
		return
	}
	h.failed.Store(nil)
	if len(a.entries) > 0 {
		h.wake(a.entries)
	}
	h.trimLocked()
}

// appending is what a batch comes to.
type appending struct {
	hub      *Hub
	now      time.Time
	head     uint64 // before the batch
	entries  []*store.Entry
	receipts []store.IdempotencyRecord

	given map[string]*store.Entry   // of the batch, by id
	first map[spaceKey]*publication // of the batch, by receipt
}

// spaceKey is what tells a receipt from all others.
type spaceKey struct {
	space string
	key   store.HashedKey
}

func (h *Hub) newAppend(size int) *appending {
	_, head := h.store.Range()
	return &appending{
		hub:     h,
		now:     time.Now(),
		head:    head,
		entries: make([]*store.Entry, 0, size),
		given:   make(map[string]*store.Entry),
	}
}

// known tells that p's receipt is there already, from before or from the same
// batch, and makes p a duplicate of what came with it. If not, p is the first.
func (a *appending) known(p *publication) bool {
	if p.receipt == nil {
		return false
	}
	name := spaceKey{p.receipt.Scope, p.receipt.Key}
	if p.before = a.first[name]; p.before != nil {
		p.dup = true
		return true
	}
	if p.answer, p.dup = a.hub.answer(p.receipt, a.now); p.dup {
		return true
	}
	if a.first == nil {
		a.first = make(map[spaceKey]*publication)
	}
	a.first[name] = p
	return false
}

// take gives all of p its place.
func (a *appending) take(p *publication) {
	first := a.nextSeq()
	for i := range p.items {
		a.place(&p.items[i], p.receipt != nil)
	}
	if p.receipt != nil {
		p.receipt.Time = a.now
		p.receipt.Answer = encodeAnswer(first, p.items)
		a.receipts = append(a.receipts, *p.receipt)
	}
}

func (a *appending) nextSeq() uint64 { return a.head + 1 + uint64(len(a.entries)) }

// place makes an event's entry, or finds the one that it is a duplicate of. An
// event with a receipt is none: the receipt has told.
func (a *appending) place(i *item, receipt bool) {
	id, before := a.idOf(i)
	if before != nil && !receipt && slices.Equal(before.Topics, i.topics) {
		i.entry, i.dup = before, true
		return
	}
	seq := a.nextSeq()
	e := &store.Entry{Seq: seq, Time: a.now, Topics: i.topics, ID: id, Given: id != ""}
	if id == "" {
		e.ID = a.hub.position(seq)
	} else {
		a.given[id] = e
	}
	e.Frame = i.frame.WithID(e.ID)
	i.entry = e
	a.entries = append(a.entries, e)
}

// idOf returns the id under which an event can be published, empty for its
// position, and the entry that has taken the one that its publisher gave.
func (a *appending) idOf(i *item) (string, *store.Entry) {
	if i.id == "" || strings.HasPrefix(i.id, a.hub.epoch()) {
		return "", nil
	}
	before := a.given[i.id]
	if before == nil {
		before = a.hub.store.Lookup(i.id)
	}
	if before != nil {
		return "", before
	}
	return i.id, nil
}

// fail tells all of a batch that nothing of it was stored: a duplicate within
// the batch is as lost as the first. One whose receipt was there before is not.
func fail(batch []*publication, err error) {
	for _, p := range batch {
		if p.dup && p.before == nil {
			continue
		}
		p.dup, p.err = false, err
	}
}
