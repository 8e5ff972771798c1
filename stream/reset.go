package stream

import (
	"strings"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// resetFrame is a reset event without an id.
var resetFrame = func() event.Frame {
	frame, err := event.Event{Name: "reset", Data: []byte(`{"reason":"the position is not in the history"}`)}.Encode()
	if err != nil {
		panic(err)
	}
	return frame
}()

// Reset returns the event for a client whose position is not in the history. Its
// id is the cursor's position, from which the client resumes. The cursor must not
// have been read.
func Reset(c *hub.Cursor) *store.Entry {
	return &store.Entry{Frame: resetFrame.WithID(c.Position())}
}

// ResetWithoutPosition returns a reset event without an id, for a stream that goes
// on with a document. A client that disconnects before it has the document must
// keep its old position, so that it receives a reset again.
func ResetWithoutPosition() *store.Entry { return &store.Entry{Frame: resetFrame} }

// Subscribe returns a source of the events on topics. It resumes after
// lastEventID; if that is empty, it begins with the next event; if that is not in
// the history of the topics, or is the position of a [Multiplexed] stream without
// these topics, it begins with a reset event. The caller passes the source to [Serve]
// or closes its cursor.
func Subscribe(h *hub.Hub, topics []string, lastEventID string) Source {
	return SubscribeReplaying(h, topics, lastEventID, 0)
}

// SubscribeReplaying is [Subscribe], and a source that resumes nowhere begins with
// the newest n events on the topics, after the reset if there is one. A negative n
// means all that the history holds.
func SubscribeReplaying(h *hub.Hub, topics []string, lastEventID string, n int) Source {
	followed := topicsPrefix + strings.Join(topics, "\n")
	if seq, ok := h.Resolve(lastEventID, topics); ok && h.MayFollow(lastEventID, followed) {
		return Source{Cursor: h.SubscribeAfter(topics, seq), Start: Resumed, Followed: followed}
	}
	src := Source{Cursor: subscribeLast(h, topics, n), Followed: followed}
	if lastEventID != "" {
		src.Start = Lost
		src.Initial = []*store.Entry{Reset(src.Cursor)}
	}
	return src
}

// topicsPrefix begins the internal topics that stand for several others in
// [Source.Followed]. Nothing is published on them.
const topicsPrefix = "\x00topics/"

func subscribeLast(h *hub.Hub, topics []string, n int) *hub.Cursor {
	switch {
	case n < 0:
		return h.SubscribeAll(topics)
	case n == 0:
		return h.Subscribe(topics)
	default:
		return h.SubscribeLast(topics, n)
	}
}
