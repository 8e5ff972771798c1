package stream

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/store"
)

// Part is one URL of a multiplexed stream: exactly one of Source, Finished and
// Refused is set.
type Part struct {
	// URL names the part in the envelopes of its events.
	URL string
	// Source is what a stream of the URL alone would send, on the hub of all parts.
	Source *Source
	// Finished is the topic whose tag says that the client has all events of the
	// URL; see [hub.Hub.Followed].
	Finished string
	// Refused says why the client may not have the URL.
	Refused *Refusal
}

// Refusal is the data of the event that says that a URL is refused.
type Refusal struct {
	Status int    `json:"status"`
	Reason string `json:"reason"`
	// RetryAfter is when to open the URL again, if the refusal may pass. Default, if
	// zero: about 30 s.
	RetryAfter time.Duration `json:"-"`
}

// mayPass reports whether the same request may succeed later.
func (r *Refusal) mayPass() bool {
	switch r.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported, http.StatusLoopDetected:
		return false
	default:
		return r.Status >= 500
	}
}

// Limits of how long a refusal that may pass stands.
const (
	defaultReopen = 30 * time.Second
	minReopen     = 5 * time.Second
)

// reopenIn returns when to open the URL again: at random, so that clients do not come
// back all at once.
func (r *Refusal) reopenIn() time.Duration {
	if r.RetryAfter <= 0 {
		return jitterAround(defaultReopen)
	}
	d := max(r.RetryAfter, minReopen)
	return d + jitter(d/4)
}

// Multiplexed combines the streams of several URLs into one. Its events are
// envelopes; see [event.Frame.EnvelopedForURL]. One cursor reads the events of all
// URLs, so that a position is one of all of them. Its tags prove which of them the
// client has followed up to there: when the client reconnects with it, each URL is
// opened with the same Last-Event-ID.
//
// When a URL ends in such a way that a client of it alone would reconnect, nothing
// more of the URL is sent, and the whole stream ends so that its client reconnects. It
// also ends when a URL whose refusal may pass is to be opened again.
type Multiplexed struct {
	hub    *hub.Hub
	parts  []*part
	cursor *hub.Cursor
	source Source

	finished bool

	done  signal.Signal // no further events follow
	moved signal.Signal // a part must be opened again
	live  atomic.Int32  // parts of which events may follow, or that are to be opened again

	reopen *time.Timer // for parts whose refusal may pass; nil if there are none

	// Only the stream uses these.
	envelopes *Envelopes
	sent      []*store.Entry // see split
	aligned   uint64         // from this position on, the stream has all parts
	tags      string         // valid if it isn't empty, and the stream has all parts
}

// part is a [Part] of an open stream.
type part struct {
	Part
	stream *Multiplexed
	topics []string
	after  uint64        // the client gets the events after this position
	until  atomic.Uint64 // and no later ones
	topic  string        // the internal topic of the last event; see FollowedTopic
	tag    string        // of topic, or what else the client knows of the URL; empty for none

	waiting [3]signal.Waiting
}

// Multiplex returns the combined stream of the parts, for a client at a position;
// empty if it has none. It closes the cursors of the parts. The caller passes
// [Multiplexed.Source] to a stream, and calls [Multiplexed.Close] at its end.
func Multiplex(h *hub.Hub, parts []Part, lastEventID string, e *Envelopes) *Multiplexed {
	m := &Multiplexed{hub: h, envelopes: e, finished: lastEventID != ""}
	var topics []string
	start := uint64(math.MaxUint64)
	for _, p := range parts {
		added := m.add(p)
		if p.Source == nil {
			m.finished = m.finished && (p.Finished != "" || !p.Refused.mayPass() && hub.HasTag(lastEventID, added.tag))
			continue
		}
		m.finished = false
		topics = append(topics, added.topics...)
		start = min(start, added.after)
		m.aligned = max(m.aligned, added.after)
	}
	if len(topics) == 0 {
		m.cursor = h.Subscribe(nil)
	} else {
		m.cursor = h.SubscribeAfter(topics, start)
	}
	m.source = Source{
		Cursor: m.cursor, Done: &m.done, Moved: &m.moved, MovedAs: URLEnded, Split: m.split,
		Position: func() string { return m.position(m.cursor.Seq()) }, NoPosition: len(topics) > 0,
	}
	for _, p := range m.parts {
		if p.Source != nil {
			p.Source.Cursor.Close() // after the other has registered
			m.combine(p.Source)
		}
	}
	m.watch()
	m.source.Initial = m.initial(lastEventID)
	return m
}

func (m *Multiplexed) add(p Part) *part {
	added := &part{Part: p, stream: m}
	switch {
	case p.Source != nil:
		added.topics, added.after = p.Source.Cursor.Topics(), p.Source.Cursor.Seq()
		added.setTopic(p.Source.Followed)
	case p.Refused != nil:
		notice, _ := json.Marshal(p.Refused) // it can't fail
		added.setTopic("\x00refused/" + p.URL + string(notice))
	default:
		added.setTopic(p.Finished)
	}
	added.until.Store(math.MaxUint64)
	m.parts = append(m.parts, added)
	return added
}

// combine adds what a part's source says about the whole stream.
func (m *Multiplexed) combine(s *Source) {
	m.source.Expires = earliest(m.source.Expires, s.Expires)
	m.source.NoPosition = m.source.NoPosition && s.NoPosition
	if s.Start == Lost || s.Start == Resumed && m.source.Start == New {
		m.source.Start = s.Start
	}
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Finished reports whether the client has all events of all URLs: it should not
// reconnect.
func (m *Multiplexed) Finished() bool { return m.finished }

// Source returns the source of the stream. One stream may use it.
func (m *Multiplexed) Source() Source { return m.source }

// Close releases what the stream holds. It may be called more than once.
func (m *Multiplexed) Close() {
	m.cursor.Close()
	if m.reopen != nil {
		m.reopen.Stop()
	}
	for _, p := range m.parts {
		for _, w := range p.waiting {
			w.Stop()
		}
	}
}

// initial returns the events with which the stream begins: those of the parts, the
// refusals that the client doesn't know yet, and the events that it has missed.
// The last one has the position up to which the client then has everything.
func (m *Multiplexed) initial(lastEventID string) []*store.Entry {
	var entries []*store.Entry
	hasPosition := false // without an event
	for _, p := range m.parts {
		switch {
		case p.Refused != nil && !hub.HasTag(lastEventID, p.tag):
			entries = append(entries, &store.Entry{Frame: p.refusal()})
		case p.Source == nil:
		case !p.Source.Revoked.IsSet():
			for _, e := range p.Source.Initial {
				if e.Frame.IsPosition() {
					hasPosition = true
				} else {
					entries = append(entries, p.envelope(e, true))
				}
				p.follow(e)
			}
			p.Source.Initial = nil
		case len(p.Source.Initial) > 0:
			p.setTopic("") // the client doesn't get them
		}
	}
	missed, err := m.cursor.Next(maxBatchBytes, nil)
	if err != nil {
		missed = nil // the stream reads again, and ends with the error
	}
	ofMissed := false
	for _, e := range missed {
		split := m.split(e)
		entries = append(entries, split...)
		ofMissed = ofMissed || len(split) > 0
	}
	switch n := len(entries); {
	case n == 0 && hasPosition:
		entries = append(entries, &store.Entry{Frame: event.Position(m.position(m.cursor.Seq()))})
	case n == 0:
	case ofMissed: // behind its own id
		entries[n-2] = m.idOf(m.cursor.Seq())
	default:
		entries = slices.Insert(entries, n-1, m.idOf(m.cursor.Seq()))
	}
	return entries
}

func (p *part) refusal() event.Frame {
	notice, _ := json.Marshal(p.Refused) // it can't fail
	frame, err := event.Event{Name: "refused", Data: notice}.Encode()
	if err != nil { // it can't: JSON is text
		panic(err)
	}
	return frame.EnvelopedForURL(p.URL)
}

// split returns the envelopes of an event: one for each part that receives it. The
// last one has the id, so that a client which is cut off in between gets all again.
func (m *Multiplexed) split(e *store.Entry) []*store.Entry {
	clear(m.sent)
	m.sent = m.sent[:0]
	for _, p := range m.parts {
		if p.receives(e) {
			m.sent = append(m.sent, p.envelope(e, false))
			p.follow(e)
		}
	}
	if n := len(m.sent); n > 0 {
		m.sent = slices.Insert(m.sent, n-1, m.idOf(e.Seq))
	}
	return m.sent
}

// idOf returns the field before an event after which the client has all up to seq. It
// is an entry of its own, since streams share the event.
func (m *Multiplexed) idOf(seq uint64) *store.Entry {
	return &store.Entry{Frame: fmt.Appendf(nil, "id: %s\n", m.position(seq))}
}

// receives reports whether a part's client gets an event. The client no longer follows
// the part if it doesn't get one that it should.
func (p *part) receives(e *store.Entry) bool {
	if e.Seq <= p.after || !slices.ContainsFunc(p.topics, e.On) {
		return false
	}
	isLater := e.Seq > p.until.Load()
	if !isLater && !p.Source.Revoked.IsSet() {
		return true
	}
	if !isLater || !p.isFinal() {
		p.setTopic("")
	}
	return false
}

// isFinal reports whether the part's last event tells the client that no more follow.
func (p *part) isFinal() bool { return p.Source.Final != nil && p.Source.Final.Load() }

// envelope returns the envelope of an event. Streams share it, unless the event has no
// position.
func (p *part) envelope(e *store.Entry, isInitial bool) *store.Entry {
	wraps := !isInitial && p.Source.Wrap != nil
	if wraps {
		e = p.Source.Wrap(e)
	}
	switch {
	case e.Seq == 0:
	case wraps || isInitial:
		return p.stream.envelopes.forURL(e, p.URL, e)
	default:
		return p.stream.envelopes.forURL(e, p.URL, nil)
	}
	alone := e.WithFrame(e.Frame.EnvelopedForURL(p.URL))
	alone.LeaveUncompressed()
	return alone
}

// position returns an id for a client that has the events up to seq.
func (m *Multiplexed) position(seq uint64) string {
	if seq >= m.aligned && m.tags != "" {
		return m.hub.TaggedPosition(seq, m.tags)
	}
	var tags []byte
	for _, p := range m.parts {
		if seq >= p.after {
			tags = append(tags, p.tag...)
		}
	}
	if seq >= m.aligned {
		m.tags = string(tags)
	}
	return m.hub.TaggedPosition(seq, string(tags))
}

// FollowedTopic returns the internal topic whose tag says that a client has an
// event: the document's, or what distinguishes the end of a view. It is empty for
// an event on topics that have names.
func FollowedTopic(e *store.Entry) string {
	for _, topic := range slices.Backward(e.Topics) {
		if hub.IsInternal(topic) {
			return topic
		}
	}
	return ""
}

// follow notes that the client gets an event.
func (p *part) follow(e *store.Entry) {
	if topic := FollowedTopic(e); topic != "" {
		p.setTopic(topic)
	}
}

func (p *part) setTopic(topic string) {
	if topic == p.topic {
		return
	}
	p.topic, p.tag, p.stream.tags = topic, "", ""
	if topic != "" {
		p.tag = p.stream.hub.Tag(topic)
	}
}

// watch makes the ends of the parts known to the stream.
func (m *Multiplexed) watch() {
	reopenIn := time.Duration(math.MaxInt64)
	for _, p := range m.parts {
		switch {
		case p.Source != nil:
			m.live.Add(1)
		case p.Refused != nil && p.Refused.mayPass():
			m.live.Add(1)
			reopenIn = min(reopenIn, p.Refused.reopenIn())
		}
	}
	if m.live.Load() == 0 {
		m.done.Set()
	}
	if reopenIn < math.MaxInt64 {
		m.reopen = time.AfterFunc(reopenIn, m.moved.Set)
	}
	for _, p := range m.parts {
		if p.Source != nil {
			p.waiting = [...]signal.Waiting{
				p.Source.Done.Wait((*partDone)(p)),
				p.Source.Moved.Wait((*partMoved)(p)),
				p.Source.Revoked.Wait((*partMoved)(p)),
			}
		}
	}
}

// partDone is woken when a part has published its last event. What is published
// later on its topics belongs to others.
type partDone part

// Wake implements [signal.Waker].
func (p *partDone) Wake() {
	p.until.Store(p.stream.hub.Head())
	switch {
	case !(*part)(p).isFinal():
		p.stream.moved.Set()
	case p.stream.live.Add(-1) == 0:
		p.stream.done.Set()
	}
}

// partMoved is woken when a part must be opened again.
type partMoved part

// Wake implements [signal.Waker].
func (p *partMoved) Wake() { p.stream.moved.Set() }
