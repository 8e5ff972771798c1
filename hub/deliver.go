package hub

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
)

// The window of receipts for which none is configured.
const (
	DefaultDedupeCount = 100_000
	DefaultDedupeAge   = 24 * time.Hour
)

// Message is an event and the topics that it is published on.
type Message struct {
	Topics []string
	Event  event.Event
}

// IdempotencyKey names a delivery, so that it counts once however often it is sent.
// Nothing of it is kept in clear.
type IdempotencyKey struct {
	// Scope sets the ids of unrelated senders apart. It must be the same
	// for the same sender after a reload and a restart.
	Scope string
	// ID is the delivery's, of any length and content. An empty one is no
	// receipt.
	ID string
	// Window bounds the receipts of the space, from now on. A zero in it
	// means the default: [DefaultDedupeCount] and [DefaultDedupeAge].
	Window store.Window
}

// Outcome is what a delivery has come to.
type Outcome struct {
	// IDs are those of the events on the wire, in the order of the messages.
	// A duplicate's are those of the first time.
	IDs []string
	// Duplicate tells that nothing was published now, because it had been
	// before.
	Duplicate bool
	// Repeated are the places among the messages of those that were published
	// before under their own ids, in order. A receipt has none: see Duplicate.
	Repeated []int
}

// PublishAll publishes several events as one: all of them or, if it fails, none.
// They follow each other in the log, and are stored in one step with the
// receipt, if there is one.
//
// If the receipt is there already, nothing is published, and what comes back
// is what the first time came to, also while that is still being stored, and
// after the events have left the history. A receipt lasts for its window,
// which begins with the first delivery. One without messages is kept, too: of
// a delivery that was acknowledged and dropped.
//
// With a receipt only the receipt tells duplicates: an event's id that is taken
// is replaced, by whatever it is taken. Without one each event is looked at as
// by [Hub.Publish], and Duplicate tells that all of them were published before.
//
// It fails as [Hub.Publish] does.
func (h *Hub) PublishAll(messages []Message, receipt IdempotencyKey) (Outcome, error) {
	p := &publication{items: make([]item, len(messages))}
	for i, m := range messages {
		var err error
		if p.items[i], err = newItem(m.Topics, m.Event); err != nil {
			return Outcome{}, fmt.Errorf("event %d of %d: %w", i+1, len(messages), err)
		}
	}
	if receipt.ID != "" {
		p.receipt = h.seal(receipt)
	}
	if len(messages) > 0 || p.receipt != nil {
		h.commit(p)
	}
	if p.err != nil {
		return Outcome{}, p.err
	}
	return h.outcome(p), nil
}

// PublishedBefore returns what a delivery with this receipt has come to, and false if
// there was none within the window. It is a look before work that would be in
// vain: two that look at the same moment may both be told that there was none.
func (h *Hub) PublishedBefore(receipt IdempotencyKey) (Outcome, bool) {
	if receipt.ID == "" {
		return Outcome{}, false
	}
	answer, ok := h.answer(h.seal(receipt), time.Now())
	if !ok {
		return Outcome{}, false
	}
	return Outcome{IDs: h.decodeAnswer(answer), Duplicate: true}, true
}

// seal makes of a receipt what the store keeps: nothing that a stranger wrote.
func (h *Hub) seal(r IdempotencyKey) *store.IdempotencyRecord {
	return &store.IdempotencyRecord{
		Scope: h.Digest("space", r.Scope),
		Key:   store.HashedKey(h.digest("receipt", r.Scope, r.ID)[:16]),
		Window: store.Window{
			MaxCount: cmp.Or(r.Window.MaxCount, DefaultDedupeCount),
			MaxAge:   cmp.Or(r.Window.MaxAge, DefaultDedupeAge),
		},
	}
}

// answer returns what the receipt that is there holds, and false if there is
// none or it is older than the window.
func (h *Hub) answer(r *store.IdempotencyRecord, now time.Time) (string, bool) {
	at, answer, ok := h.store.IdempotencyRecord(r.Scope, r.Key)
	return answer, ok && now.Sub(at) < r.Window.MaxAge
}

func (h *Hub) outcome(p *publication) Outcome {
	switch {
	case p.before != nil:
		return Outcome{IDs: idsOf(p.before.items), Duplicate: true}
	case p.dup:
		return Outcome{IDs: h.decodeAnswer(p.answer), Duplicate: true}
	}
	o := Outcome{IDs: idsOf(p.items)}
	for i := range p.items {
		if p.items[i].dup {
			o.Repeated = append(o.Repeated, i)
		}
	}
	o.Duplicate = len(p.items) > 0 && len(o.Repeated) == len(p.items)
	return o
}

func idsOf(items []item) []string {
	ids := make([]string, len(items))
	for i := range items {
		ids[i] = items[i].entry.ID
	}
	return ids
}

// maxAnswer is how many bytes of ids that senders gave a receipt keeps. Those
// that it has no room for are looked up as long as their events are there, and
// told as their positions afterwards.
const maxAnswer = 256

// encodeAnswer writes down the ids of events that follow each other: where the
// first is, how many there are, and the ids that aren't their positions, each
// with its place.
func encodeAnswer(first uint64, items []item) string {
	b := binary.AppendUvarint(make([]byte, 0, 48), first)
	b = binary.AppendUvarint(b, uint64(len(items)))
	for i := range items {
		e := items[i].entry
		if !e.Given || len(b)+len(e.ID) > maxAnswer {
			continue
		}
		b = binary.AppendUvarint(b, uint64(i))
		b = append(append(b, byte(len(e.ID))), e.ID...)
	}
	return string(b)
}

func (h *Hub) decodeAnswer(answer string) []string {
	b := []byte(answer)
	number := func() uint64 {
		n, size := binary.Uvarint(b)
		b = b[max(size, 0):]
		return n
	}
	first, count := number(), number()
	ids := make([]string, 0, count)
	kept := make(map[uint64]string)
	for len(b) > 2 {
		i, size := number(), int(b[0])
		kept[i] = string(b[1 : 1+size])
		b = b[1+size:]
	}
	for i := range count {
		ids = append(ids, cmp.Or(kept[i], h.idAt(first+i)))
	}
	return ids
}

// idAt is the id of the event at a place, as long as it is in the log.
func (h *Hub) idAt(seq uint64) string {
	if e := h.store.Entry(seq); e != nil {
		return e.ID
	}
	return h.position(seq)
}
