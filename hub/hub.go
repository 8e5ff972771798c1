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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

// Hub is one log and its readers. It is safe for concurrent use.
type Hub struct {
	store store.Store
	epoch func() string // what the positions begin with

	queueMu sync.Mutex
	queue   []*publication // what waits for the writer
	writing bool           // there is a writer

	writeMu sync.Mutex // held by the writer while it writes: the order of the log
	history store.History
	expiry  *time.Timer
	closed  bool

	failed atomic.Pointer[failure] // the newest append; nil: it has not failed

	readersMu sync.RWMutex
	readers   map[string]map[*Cursor]struct{} // by topic
}

// New returns a hub over a log, which it closes in the end. It does not touch
// the log: what is past the bounds already leaves it with the next event, or by
// [Hub.SetHistory].
func New(s store.Store, h store.History) *Hub {
	return &Hub{
		store:   s,
		epoch:   sync.OnceValue(func() string { return s.Epoch() + "-" }),
		history: h,
		readers: make(map[string]map[*Cursor]struct{}),
	}
}

// SetHistory changes the log's bounds in place, and applies them.
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

// LoggedTopics returns the topics that begin with a prefix and on which the log
// holds events, in any order.
func (h *Hub) LoggedTopics(prefix string) []string { return h.store.Topics(prefix) }

// position is the id of an event that its publisher gave none, and of the place
// behind it.
func (h *Hub) position(seq uint64) string {
	return h.epoch() + strconv.FormatUint(seq, 10)
}

// Position is an id that resumes behind a place in the log.
func (h *Hub) Position(seq uint64) string { return h.position(seq) }

// Resolve finds the place that an id stands for. It returns false if the log
// can't tell what came after it: the id was never in it, or has left it.
func (h *Hub) Resolve(id string) (uint64, bool) {
	if place, ok := strings.CutPrefix(id, h.epoch()); ok {
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
	return base64.RawURLEncoding.EncodeToString(h.digest(parts...)[:18])
}

func (h *Hub) digest(parts ...string) []byte {
	mac := hmac.New(sha256.New, h.store.Secret())
	var length [8]byte
	for _, p := range parts { // length first, or ("ab","c") would be ("a","bc")
		binary.BigEndian.PutUint64(length[:], uint64(len(p)))
		mac.Write(length[:])
		mac.Write([]byte(p))
	}
	return mac.Sum(nil)
}
