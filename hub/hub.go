// Package hub publishes events on topics to a log, and reads them with cursors.
//
// A hub encodes an event once and appends it to the log. A subscriber has no
// queue of its own: its [Cursor] is a position in the log. Publishing wakes the
// cursors on the event's topics, and each reads the events after its position.
// A slow subscriber costs no memory and delays no other. If the history drops
// events that a cursor has not read, the cursor returns [ErrLost].
package hub

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

// Hub is one log and its subscribers. It is safe for concurrent use.
type Hub struct {
	store   store.Store
	shared  func() store.Shared    // see openShared
	process string                 // see Process
	prefix  atomic.Pointer[string] // of every position: see epoch

	queueMu   sync.Mutex
	queue     []*publication // publications that wait for the leader
	hasLeader bool           // a publisher is committing the queue

	writeMu sync.Mutex // the leader holds it while it appends
	history store.History
	expiry  *time.Timer
	closed  bool

	failed atomic.Pointer[failure] // the newest append's failure; nil if it succeeded

	subscribersMu sync.RWMutex
	subscribers   map[string][]*Cursor // by topic, in any order
}

// New returns a hub over a log. [Hub.Close] closes the log. New doesn't change
// the log: the next publish, or [Hub.SetHistory], drops events that exceed the
// bounds already.
func New(s store.Store, h store.History) *Hub {
	hub := &Hub{store: s, process: "/" + rand.Text(), history: h, subscribers: make(map[string][]*Cursor)}
	hub.shared = sync.OnceValue(hub.openShared)
	return hub
}

// epoch returns the prefix of every position.
func (h *Hub) epoch() string {
	e := h.store.Epoch()
	if p := h.prefix.Load(); p != nil && (*p)[:len(*p)-1] == e {
		return *p
	}
	prefix := e + "-"
	h.prefix.Store(&prefix)
	return prefix
}

// SetHistory replaces the log's bounds and applies them at once.
func (h *Hub) SetHistory(history store.History) {
	h.shared()
	h.writeMu.Lock()
	defer h.writeMu.Unlock()
	h.history = history
	h.trimLocked()
}

// Close closes the hub and its log. Afterwards publishing fails with
// [ErrClosed], and cursors must not be read.
func (h *Hub) Close() error {
	h.writeMu.Lock()
	defer h.writeMu.Unlock()
	h.closed = true
	if h.expiry != nil {
		h.expiry.Stop()
	}
	return h.store.Close()
}

// ErrClosed means that an event was published on a closed hub.
var ErrClosed = errors.New("the hub is closed")

// wake wakes the cursors on each topic with the position of their first new event.
// Calls follow the order of the log.
func (h *Hub) wake(entries []*store.Entry) {
	h.subscribersMu.RLock()
	defer h.subscribersMu.RUnlock()
	last := entries[len(entries)-1].Seq
	if len(entries) == 1 {
		h.wakeLocked(entries[0], last, nil)
		return
	}
	woken := make(map[string]struct{}) // only a topic's first event counts
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
		for _, c := range h.subscribers[t] {
			c.wake(e.Seq, last)
		}
	}
}

// trimLocked applies the bounds, and sets a timer that applies the maximum age
// when nothing is published.
func (h *Hub) trimLocked() {
	if h.closed {
		return
	}
	now, pause := time.Now(), time.Millisecond
	if err := h.store.Trim(h.history, now); err != nil {
		pause = time.Second // retry later
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

// position returns the id that resumes after the event at seq. It is also the
// id of that event if its publisher gave none.
func (h *Hub) position(seq uint64) string {
	return h.epoch() + strconv.FormatUint(seq, 10)
}

// Position returns an id that resumes after the event at seq.
func (h *Hub) Position(seq uint64) string { return h.position(seq) }

// Resolve returns the position of an id, for a reader of the topics. It returns
// false if the log doesn't know which events follow the id: it never held the id,
// or has dropped it. It also returns false for an id that a publisher gave to an
// event on other topics, so that a client learns nothing of topics that it may not
// read. A position of the log is valid for all topics, with tags or without.
//
// If several processes publish on the log, another may know the id already: Resolve
// waits until this process has read as much.
func (h *Hub) Resolve(id string, topics []string) (uint64, bool) {
	seq, ok := h.resolve(id, topics)
	if !ok && id != "" && h.sync() {
		return h.resolve(id, topics)
	}
	return seq, ok
}

func (h *Hub) resolve(id string, topics []string) (uint64, bool) {
	if digits, ok := strings.CutPrefix(id, h.epoch()); ok {
		digits, _, _ = strings.Cut(digits, beforeTags)
		seq, err := strconv.ParseUint(digits, 10, 64)
		tail, head := h.store.Range()
		// The position before the oldest event is valid: the log still holds
		// every event after it.
		return seq, err == nil && seq <= head && seq+1 >= tail
	}
	if e := h.store.Lookup(id); e != nil && slices.ContainsFunc(topics, e.On) {
		return e.Seq, true
	}
	return 0, false
}

// Digest returns a keyed hash of the parts, in URL-safe Base64. It stays the
// same for the life of the log, and does not reveal the parts.
func (h *Hub) Digest(parts ...string) string {
	return base64.RawURLEncoding.EncodeToString(h.digest(parts...)[:18])
}

func (h *Hub) digest(parts ...string) []byte {
	mac := hmac.New(sha256.New, h.store.Secret())
	var length [8]byte
	for _, p := range parts { // the length first, so that ("ab","c") differs from ("a","bc")
		binary.BigEndian.PutUint64(length[:], uint64(len(p)))
		mac.Write(length[:])
		mac.Write([]byte(p))
	}
	return mac.Sum(nil)
}
