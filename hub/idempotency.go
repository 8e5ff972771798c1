package hub

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
)

// The default bounds of a [store.Window].
const (
	DefaultDedupeCount = 100_000
	DefaultDedupeAge   = 24 * time.Hour
)

// Message is an event and the topics to publish it on.
type Message struct {
	Topics []string
	Event  event.Event
	// Frame, if not nil, is what clients receive in place of the event's name and
	// data. It has no id.
	Frame event.Frame
}

// IdempotencyKey identifies a delivery, so that the hub publishes it once even if
// its sender repeats it. The log holds only digests of the key.
type IdempotencyKey struct {
	// Scope separates the ids of unrelated senders. It must be the same for
	// the same sender after a reload and a restart.
	Scope string
	// ID is the delivery's id, of any length and content. Empty means that
	// the delivery has no idempotency key.
	ID string
	// Window bounds the idempotency records of the scope from now on. Zero
	// fields mean [DefaultDedupeCount] and [DefaultDedupeAge].
	Window store.Window
}

// Outcome is the result of publishing a delivery.
type Outcome struct {
	// IDs are the ids of the events on the wire, in the order of the
	// messages. A duplicate has the ids of the original.
	IDs []string
	// Duplicate means that the delivery was published before, so that nothing
	// was published now.
	Duplicate bool
	// DuplicateIndexes are the indexes of the messages that were published
	// before under their own ids, in ascending order. With an idempotency key
	// there are none: see Duplicate.
	DuplicateIndexes []int
}

// PublishAll publishes all messages or, if it fails, none. Their events are
// adjacent in the log. The store keeps them and the idempotency record, if key
// has an ID, in one step.
//
// If an earlier delivery had the same key, PublishAll publishes nothing and
// returns that delivery's outcome, even while the hub is still storing it, and
// after its events have left the history. The window of a key begins with the
// first delivery. PublishAll records a key without messages, too: a sender may
// have acknowledged and dropped that delivery.
//
// With a key, the key alone decides what a duplicate is, and an event id that
// the log already holds is replaced. Without one, PublishAll checks each event
// as [Hub.Publish] does, and Duplicate means that all were published before.
//
// PublishAll fails as [Hub.Publish] does.
func (h *Hub) PublishAll(messages []Message, key IdempotencyKey) (Outcome, error) {
	p, err := newPublication(messages)
	if err != nil {
		return Outcome{}, err
	}
	if key.ID != "" {
		p.record = h.hashKey(key)
	}
	if len(messages) > 0 || p.record != nil {
		h.commit(p)
	}
	if p.err != nil {
		return Outcome{}, p.err
	}
	return h.outcome(p), nil
}

// PublishTogether publishes all messages or, if it fails, none, and returns their
// entries. The events must have no ids. It fails as [Hub.Publish] does.
func (h *Hub) PublishTogether(messages []Message) ([]*store.Entry, error) {
	p, err := newPublication(messages)
	if err != nil || len(messages) == 0 {
		return nil, err
	}
	if h.commit(p); p.err != nil {
		return nil, p.err
	}
	entries := make([]*store.Entry, len(p.items))
	for i := range p.items {
		entries[i] = p.items[i].entry
	}
	return entries, nil
}

func newPublication(messages []Message) (*publication, error) {
	p := &publication{items: make([]item, len(messages))}
	for i, m := range messages {
		var err error
		if p.items[i], err = newItem(m.Topics, m.Event, m.Frame); err != nil {
			return nil, fmt.Errorf("event %d of %d: %w", i+1, len(messages), err)
		}
	}
	return p, nil
}

// PublishedBefore returns the outcome of the delivery with this key, and false if
// there was none within the window. Callers use it to skip work that a duplicate
// makes needless. It reserves nothing: of two concurrent callers with the same
// key, both may get false.
func (h *Hub) PublishedBefore(key IdempotencyKey) (Outcome, bool) {
	if key.ID == "" {
		return Outcome{}, false
	}
	outcome, ok := h.storedOutcome(h.hashKey(key), time.Now())
	if !ok {
		return Outcome{}, false
	}
	return Outcome{IDs: h.decodeOutcome(outcome), Duplicate: true}, true
}

// hashKey returns the idempotency record of a key, without an outcome. It holds
// digests only, no text of a sender. "space" and "receipt" are part of the
// digests in existing logs: they must not change.
func (h *Hub) hashKey(k IdempotencyKey) *store.IdempotencyRecord {
	return &store.IdempotencyRecord{
		Scope: h.Digest("space", k.Scope),
		Key:   store.HashedKey(h.digest("receipt", k.Scope, k.ID)[:16]),
		Window: store.Window{
			MaxCount: cmp.Or(k.Window.MaxCount, DefaultDedupeCount),
			MaxAge:   cmp.Or(k.Window.MaxAge, DefaultDedupeAge),
		},
	}
}

// storedOutcome returns the encoded outcome that the log holds for a record's
// key, and false if there is none or it is older than the window.
func (h *Hub) storedOutcome(r *store.IdempotencyRecord, now time.Time) (string, bool) {
	at, outcome, ok := h.store.IdempotencyRecord(r.Scope, r.Key)
	return outcome, ok && now.Sub(at) < r.Window.MaxAge
}

func (h *Hub) outcome(p *publication) Outcome {
	switch {
	case p.original != nil:
		return Outcome{IDs: idsOf(p.original.items), Duplicate: true}
	case p.dup:
		return Outcome{IDs: h.decodeOutcome(p.storedOutcome), Duplicate: true}
	}
	o := Outcome{IDs: idsOf(p.items)}
	for i := range p.items {
		if p.items[i].dup {
			o.DuplicateIndexes = append(o.DuplicateIndexes, i)
		}
	}
	o.Duplicate = len(p.items) > 0 && len(o.DuplicateIndexes) == len(p.items)
	return o
}

func entriesOf(items []item) []*store.Entry {
	entries := make([]*store.Entry, len(items))
	for i := range items {
		entries[i] = items[i].entry
	}
	return entries
}

func idsOf(items []item) []string {
	ids := make([]string, len(items))
	for i := range items {
		ids[i] = items[i].entry.ID
	}
	return ids
}

// maxOutcomeBytes bounds an encoded outcome. The hub looks up ids beyond it in the
// log while the log holds their events; afterwards it returns the events' positions.
const maxOutcomeBytes = 256

// encodeOutcome encodes the ids of adjacent events: the position of the first,
// their number, and each id that a publisher gave, with its index.
func encodeOutcome(first uint64, entries []*store.Entry) string {
	b := binary.AppendUvarint(make([]byte, 0, 48), first)
	b = binary.AppendUvarint(b, uint64(len(entries)))
	for i, e := range entries {
		if !e.Given || len(b)+len(e.ID) > maxOutcomeBytes {
			continue
		}
		b = binary.AppendUvarint(b, uint64(i))
		b = append(append(b, byte(len(e.ID))), e.ID...)
	}
	return string(b)
}

func (h *Hub) decodeOutcome(outcome string) []string {
	b := []byte(outcome)
	number := func() uint64 {
		n, size := binary.Uvarint(b)
		b = b[max(size, 0):]
		return n
	}
	first, count := number(), number()
	ids := make([]string, 0, count)
	given := make(map[uint64]string)
	for len(b) > 2 {
		i, size := number(), int(b[0])
		given[i] = string(b[1 : 1+size])
		b = b[1+size:]
	}
	for i := range count {
		ids = append(ids, cmp.Or(given[i], h.idAt(first+i)))
	}
	return ids
}

// idAt returns the id of the event at seq, or its position if the log has dropped
// it.
func (h *Hub) idAt(seq uint64) string {
	if e := h.store.Entry(seq); e != nil {
		return e.ID
	}
	return h.position(seq)
}
