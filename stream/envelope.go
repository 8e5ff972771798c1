package stream

import (
	"slices"
	"sync"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
)

// Bounds of the cache of [Envelopes]. A frame beyond them is encoded again.
const (
	maxEnvelopes     = 1000
	maxEnvelopeBytes = 16 << 20
)

// Envelopes wraps events of one hub in envelopes that name the event's topic; see
// [event.Frame.Enveloped]. It caches the newest frames, so that streams which
// send the same event share one. The zero value is ready to use. Envelopes is
// safe for concurrent use.
type Envelopes struct {
	mu     sync.RWMutex
	frames map[envelopeKey]event.Frame
	order  []envelopeKey // the oldest first
	bytes  int
}

type envelopeKey struct {
	seq   uint64
	topic string
}

// ForTopics returns a [Source.Frame] for a stream on topics. The envelope names
// the first of the entry's topics, which are sorted by their bytes, that is among
// topics. An entry on none of them keeps its frame.
func (v *Envelopes) ForTopics(topics []string) func(*store.Entry) event.Frame {
	return func(e *store.Entry) event.Frame {
		for _, topic := range e.Topics {
			if slices.Contains(topics, topic) {
				return v.frame(e, topic)
			}
		}
		return e.Frame
	}
}

func (v *Envelopes) frame(e *store.Entry, topic string) event.Frame {
	key := envelopeKey{e.Seq, topic}
	v.mu.RLock()
	frame, ok := v.frames[key]
	v.mu.RUnlock()
	if ok {
		return frame
	}
	frame = e.Frame.Enveloped(topic)
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.frames[key]; !ok {
		v.storeLocked(key, frame)
	}
	return frame
}

func (v *Envelopes) storeLocked(key envelopeKey, frame event.Frame) {
	if v.frames == nil {
		v.frames = make(map[envelopeKey]event.Frame)
	}
	v.frames[key] = frame
	v.order = append(v.order, key)
	v.bytes += len(frame)
	for len(v.order) > maxEnvelopes || v.bytes > maxEnvelopeBytes {
		oldest := v.order[0]
		v.order = v.order[1:]
		v.bytes -= len(v.frames[oldest])
		delete(v.frames, oldest)
	}
}
