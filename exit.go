package caddysse

import (
	"net"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/stream"
)

// shutdown is called when the server begins to shut down, which it does on a
// reload and on exit.
func (h *Handler) shutdown() {
	if h.poller != nil {
		defer h.poller.Retire() // which sends viewers to where the group goes
	}
	switch successor := h.hub.other(h.app); {
	case goesAway():
		h.group.Exit()
		h.hub.endAll((*stream.Group).Exit)
		h.hub.exit.Do(h.hub.expelBlocked)
	case successor != nil:
		h.group.End(time.Duration(successor.Drain))
	default:
		h.group.End(0)
		h.hub.endAll(func(g *stream.Group) { g.End(0) })
	}
}

// goesAway tells that no configuration takes the place of the one that is shut
// down: the process ends, or the configuration was unloaded.
func goesAway() bool { return caddy.Exiting() || caddy.ActiveContext().Context == nil }

// Streams whose clients read have ended long before that; for those that are in
// the middle of a write Caddy would wait as long as the write may take.
const (
	breakOffAfter = 2 * time.Second
	hangUpAfter   = 3 * time.Second
)

// expelBlocked ends the streams that have not ended in time: first alone, then
// with their connections, on which not even a reset may get through.
func (s *sharedHub) expelBlocked() {
	time.AfterFunc(breakOffAfter, func() {
		for _, o := range s.open() {
			o.breakOff()
		}
	})
	time.AfterFunc(hangUpAfter, func() {
		for _, o := range s.open() {
			o.hangUp()
		}
	})
}

// innermost is the writer of the server below all that Caddy and handlers have
// wrapped around it. Of these only the stream's own goroutine may make use; on
// the server's, a deadline may be set meanwhile.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapped, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapped.Unwrap()
	}
}

// breakOff has the write fail that the stream is in the middle of.
func (o *openStream) breakOff() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.w != nil {
		_ = http.NewResponseController(o.w).SetWriteDeadline(time.Now().Add(-time.Second)) // or it has none
	}
}

// hangUp closes the stream's connection, if there is one of TCP.
func (o *openStream) hangUp() {
	if conn, ok := o.request.Context().Value(connKey{}).(net.Conn); ok {
		_ = bare(conn).Close() // without a farewell, which would have to wait as well
	}
}
