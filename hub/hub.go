// Package hub is a log of events with topics, and the cursors that read it.
//
// An event is encoded once and appended to the log. A reader has no queue of
// its own: it is a cursor, a place in the log, that is woken when something is
// published on one of its topics and then reads all that it has not seen. A
// slow reader costs no memory and delays nobody; when the history has moved
// past it, it is told so.
package hub

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
)

// ErrNoTopic is returned when an event is published on no topic at all.
var ErrNoTopic = errors.New("an event needs a topic")

// Hub is one log and its readers. It is safe for concurrent use.
type Hub struct {
	store store.Store
	epoch string

	queueMu sync.Mutex
	queue   []*publication // what waits for the writer

	writeMu sync.Mutex // held by the writer: the order of the log
	history store.History
	expiry  *time.Timer
	closed  bool

	readersMu sync.RWMutex
	readers   map[string]map[*Cursor]struct{} // by topic
}

// New returns a hub over a log, which it closes in the end.
func New(s store.Store, h store.History) *Hub {
	hub := &Hub{
		store:   s,
		epoch:   s.Epoch() + "-",
		history: h,
		readers: make(map[string]map[*Cursor]struct{}),
	}
	hub.writeMu.Lock()
	defer hub.writeMu.Unlock()
	hub.trimLocked()
	return hub
}

// SetHistory changes the log's bounds in place.
func (h *Hub) SetHistory(history store.History) {
	h.writeMu.Lock()
	defer h.writeMu.Unlock()
	h.history = history
	h.trimLocked()
}

// Close ends the hub. Cursors must not be read afterwards.
func (h *Hub) Close() error {
	h.writeMu.Lock()
	defer h.writeMu.Unlock()
	h.closed = true
	if h.expiry != nil {
		h.expiry.Stop()
	}
	return h.store.Close()
}

// ErrClosed is returned for an event that is published on a closed hub.
var ErrClosed = errors.New("the hub is closed")

// publication is one event on its way into the log, and what became of it.
type publication struct {
	topics []string
	id     string // the publisher's, or empty
	frame  event.Frame
	entry  *store.Entry
	dup    bool
	err    error
}

// Publish appends an event to the log, as durably as its store makes it, and
// wakes the readers of its topics.
//
// The event's id, if it has one, is kept. If the log already holds an event
// with that id on the same topics then nothing is published, and the one from
// before is returned with duplicate true. An id that an event on other topics
// has taken, or that looks like a position of this log, is replaced: events
// from unrelated publishers must not hide each other.
//
// It fails if the event can't be encoded (see [event.Event.Encode]), if there
// is no topic, or if the store fails; then nothing was published.
func (h *Hub) Publish(topics []string, e event.Event) (entry *store.Entry, duplicate bool, err error) {
	if len(topics) == 0 {
		return nil, false, ErrNoTopic
	}
	if e.ID != "" {
		if err := event.CheckID(e.ID); err != nil {
			return nil, false, err
		}
	}
	frame, err := event.Event{Name: e.Name, Data: e.Data}.Encode()
	if err != nil {
		return nil, false, err
	}
	p := &publication{topics: unique(topics), id: e.ID, frame: frame}
	h.commit(p)
	return p.entry, p.dup, p.err
}

// PublishFrame is [Hub.Publish] for an event that is encoded already, without
// an id.
func (h *Hub) PublishFrame(topics []string, frame event.Frame) (*store.Entry, error) {
	if len(topics) == 0 {
		return nil, ErrNoTopic
	}
	p := &publication{topics: unique(topics), frame: frame}
	h.commit(p)
	return p.entry, p.err
}

// unique drops what is named twice; it keeps its argument as it is.
func unique(topics []string) []string {
	if len(topics) == 1 {
		return []string{topics[0]}
	}
	sorted := slices.Sorted(slices.Values(topics))
	return slices.Compact(sorted)
}

// commit gets p into the log. Whoever becomes the writer takes along all that
// has queued up meanwhile, so that many publishers share one append (and, with
// a store on disk, one sync).
func (h *Hub) commit(p *publication) {
	h.queueMu.Lock()
	h.queue = append(h.queue, p)
	h.queueMu.Unlock()

	h.writeMu.Lock()
	defer h.writeMu.Unlock()
	h.queueMu.Lock()
	batch := h.queue
	h.queue = nil
	h.queueMu.Unlock()
	if len(batch) > 0 { // empty when an earlier writer took p along
		h.appendLocked(batch)
	}
}

func (h *Hub) appendLocked(batch []*publication) {
	if h.closed {
		fail(batch, ErrClosed)
		return
	}
	_, head := h.store.Range()
	now := time.Now()
	entries := make([]*store.Entry, 0, len(batch))
	given := make(map[string]*store.Entry)
	for _, p := range batch {
		id, before := h.idLocked(p, given)
		if before != nil {
			p.entry, p.dup = before, true
			continue
		}
		seq := head + 1 + uint64(len(entries))
		p.entry = &store.Entry{Seq: seq, Time: now, Topics: p.topics, ID: id, Given: id != ""}
		if id == "" {
			p.entry.ID = h.position(seq)
		} else {
			given[id] = p.entry
		}
		p.entry.Frame = p.frame.WithID(p.entry.ID)
		entries = append(entries, p.entry)
	}
	if len(entries) == 0 {
		return
	}
	if err := h.store.Append(entries); err != nil {
		fail(batch, fmt.Errorf("storing %d events: %w", len(entries), err))
		return
	}
	h.wake(entries)
	h.trimLocked()
}

// idLocked returns the id under which p is published, empty for its position,
// or the entry that it is a duplicate of. given holds those of the same batch.
func (h *Hub) idLocked(p *publication, given map[string]*store.Entry) (string, *store.Entry) {
	if p.id == "" || strings.HasPrefix(p.id, h.epoch) {
		return "", nil
	}
	before := given[p.id]
	if before == nil {
		before = h.store.Lookup(p.id)
	}
	switch {
	case before == nil:
		return p.id, nil
	case slices.Equal(before.Topics, p.topics):
		return "", before
	default:
		return "", nil
	}
}

// fail tells all of a batch that nothing of it was stored: a duplicate of an
// entry in the same batch is as lost as the entry is.
func fail(batch []*publication, err error) {
	for _, p := range batch {
		p.entry, p.dup, p.err = nil, false, err
	}
}

// wake tells the readers of each topic where the first event that they have
// not seen is. It runs in the order of the log.
func (h *Hub) wake(entries []*store.Entry) {
	h.readersMu.RLock()
	defer h.readersMu.RUnlock()
	last := entries[len(entries)-1].Seq
	if len(entries) == 1 {
		h.wakeLocked(entries[0], last, nil)
		return
	}
	woken := make(map[string]struct{}) // a topic's first event is what counts
	for _, e := range entries {
		h.wakeLocked(e, last, woken)
	}
}

func (h *Hub) wakeLocked(e *store.Entry, last uint64, woken map[string]struct{}) {
	for _, t := range e.Topics {
		if _, done := woken[t]; done {
			continue
		}
		if woken != nil {
			woken[t] = struct{}{}
		}
		for c := range h.readers[t] {
			c.wake(e.Seq, last)
		}
	}
}

// trimLocked applies the bounds and sees to it that age is applied on time when
// nothing is published.
func (h *Hub) trimLocked() {
	if h.closed {
		return
	}
	now, pause := time.Now(), time.Millisecond
	if err := h.store.Trim(h.history, now); err != nil {
		pause = time.Second // what could not be dropped now is dropped later
	}
	oldest, ok := h.store.Oldest()
	if !ok || h.history.MaxAge <= 0 {
		return
	}
	wait := max(oldest.Add(h.history.MaxAge).Sub(now), pause)
	if h.expiry == nil {
		h.expiry = time.AfterFunc(wait, h.expire)
	} else {
		h.expiry.Reset(wait)
	}
}

func (h *Hub) expire() {
	h.writeMu.Lock()
	defer h.writeMu.Unlock()
	h.trimLocked()
}

// Entry returns the event at a position, or nil if the log doesn't hold it.
func (h *Hub) Entry(seq uint64) *store.Entry { return h.store.Entry(seq) }

// Last returns the newest event on a topic, or nil if the log holds none.
func (h *Hub) Last(topic string) *store.Entry { return h.store.Last(topic) }

// position is the id of an event that its publisher gave none, and of the place
// behind it.
func (h *Hub) position(seq uint64) string {
	return h.epoch + strconv.FormatUint(seq, 10)
}

// Position is an id that resumes behind a place in the log.
func (h *Hub) Position(seq uint64) string { return h.position(seq) }

// Resolve finds the place that an id stands for. It returns false if the log
// can't tell what came after it: the id was never in it, or has left it.
func (h *Hub) Resolve(id string) (uint64, bool) {
	if place, ok := strings.CutPrefix(id, h.epoch); ok {
		seq, err := strconv.ParseUint(place, 10, 64)
		tail, head := h.store.Range()
		// One before the oldest is fine: all that came after it is there.
		return seq, err == nil && seq <= head && seq+1 >= tail
	}
	if e := h.store.Lookup(id); e != nil {
		return e.Seq, true
	}
	return 0, false
}

// Digest returns a keyed hash of the parts, the same for the life of the log,
// from which nobody can learn them.
func (h *Hub) Digest(parts ...string) string {
	mac := hmac.New(sha256.New, h.store.Secret())
	var length [8]byte
	for _, p := range parts { // length first, or ("ab","c") would be ("a","bc")
		binary.BigEndian.PutUint64(length[:], uint64(len(p)))
		mac.Write(length[:])
		mac.Write([]byte(p))
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:18])
}
