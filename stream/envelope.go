package stream

import (
	"slices"
	"sync"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
)

// Bounds of the cache of [Envelopes]. An event beyond them is encoded again.
const (
	maxEnvelopes     = 1000
	maxEnvelopeBytes = 16 << 20
)

// Envelopes wraps events of one hub in envelopes that name the event's topic, or its
// URL; see [event.Frame.Enveloped] and [event.Frame.EnvelopedForURL]. One value serves
// for one of both. It caches the newest ones, so that streams which send the same
// event share its frame. The zero value is ready to use. Envelopes is
// safe for concurrent use.
type Envelopes struct {
	mu      sync.RWMutex
	entries map[envelopeKey]*store.Entry
	order   []envelopeKey // the oldest first
	bytes   int
	removed uint64 // the greatest position of the entries that are no longer cached
}

type envelopeKey struct {
	seq  uint64
	name string // the topic or the URL
	// made is the event if the log's at the position may be another: a whole document
	// has the position of the last change, or of none.
	made *store.Entry
}

// ForTopics returns a [Source.Wrap] for a stream on topics. The envelope names the
// first of the entry's topics, which are sorted by their bytes, that is among
// topics. An entry on none of them stays as it is.
func (v *Envelopes) ForTopics(topics []string) func(*store.Entry) *store.Entry {
	return func(e *store.Entry) *store.Entry {
		for _, topic := range e.Topics {
			if slices.Contains(topics, topic) {
				return v.wrap(e, envelopeKey{seq: e.Seq, name: topic}, event.Frame.Enveloped)
			}
		}
		return e
	}
}

// forURL returns the envelope of an event of a URL: of the log's event at the position,
// or of another one, which made names. It depends on nothing else.
func (v *Envelopes) forURL(e *store.Entry, url string, made *store.Entry) *store.Entry {
	return v.wrap(e, envelopeKey{e.Seq, url, made}, event.Frame.EnvelopedForURL)
}

func (v *Envelopes) wrap(e *store.Entry, key envelopeKey, envelop func(event.Frame, string) event.Frame) *store.Entry {
	v.mu.RLock()
	wrapped := v.entries[key]
	v.mu.RUnlock()
	if wrapped != nil {
		return wrapped
	}
	wrapped = e.WithFrame(envelop(e.Frame, key.name))
	v.mu.Lock()
	defer v.mu.Unlock()
	if first := v.entries[key]; first != nil {
		return first
	}
	if e.Seq <= v.removed { // a client can ask for such entries again and again
		wrapped.LeaveUncompressed()
	}
	v.storeLocked(key, wrapped)
	return wrapped
}

func (v *Envelopes) storeLocked(key envelopeKey, wrapped *store.Entry) {
	if v.entries == nil {
		v.entries = make(map[envelopeKey]*store.Entry)
	}
	v.entries[key] = wrapped
	v.order = append(v.order, key)
	v.bytes += key.size() + len(wrapped.Frame)
	for len(v.order) > maxEnvelopes || v.bytes > maxEnvelopeBytes {
		oldest := v.order[0]
		v.order = v.order[1:]
		v.removed = max(v.removed, oldest.seq)
		v.bytes -= oldest.size() + len(v.entries[oldest].Frame)
		delete(v.entries, oldest)
	}
}

// size returns how many bytes the key keeps.
func (k envelopeKey) size() int {
	if k.made == nil {
		return len(k.name)
	}
	return len(k.name) + len(k.made.Frame)
}
