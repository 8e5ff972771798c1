package stream

import (
	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// resetFrame tells a client that the log can't say what it has missed.
var resetFrame = func() event.Frame {
	frame, err := event.Event{Name: "reset", Data: []byte(`{"reason":"the position is not in the history"}`)}.Encode()
	if err != nil {
		panic(err)
	}
	return frame
}()

// Reset is the event for a client whose position is not in the history. It
// resumes where the cursor is, which must not have been read from.
func Reset(c *hub.Cursor) *store.Entry {
	return &store.Entry{Frame: resetFrame.WithID(c.Position())}
}

// ResetWithoutPosition is a reset without a position, for a client that is to get more
// than a cursor gives. If it loses the connection before it has that, then its
// position must still be the one that it came with.
func ResetWithoutPosition() *store.Entry { return &store.Entry{Frame: resetFrame} }

// Subscribe is a source of what is published on topics, from the position that
// the client has on; from now on if it has none.
func Subscribe(h *hub.Hub, topics []string, lastEventID string) Source {
	if seq, ok := h.Resolve(lastEventID); ok {
		return Source{Cursor: h.SubscribeAfter(topics, seq), Start: Resumed}
	}
	src := Source{Cursor: h.Subscribe(topics)}
	if lastEventID != "" {
		src.Start = Lost
		src.Initial = []*store.Entry{Reset(src.Cursor)}
	}
	return src
}
