package caddysse

import (
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/stream"
)

// shutdown ends the streams of a rule's group when the rule's server begins to
// shut down. If another configuration has the hub, they move to it. Otherwise
// shutdown ends all streams of the hub.
func (s *sharedHub) shutdown(a *App, group *stream.Group) {
	switch next := s.otherOwner(a); {
	case isExiting():
		group.Exit()
		s.endAll((*stream.Group).Exit)
		s.expelOnce.Do(s.expelBlocked)
	case next != nil:
		group.End(time.Duration(next.Drain))
	default:
		group.End(0)
		s.endAll(func(g *stream.Group) { g.End(0) })
	}
}

// isExiting reports whether no configuration follows: the process exits, or an
// operator has unloaded the configuration.
func isExiting() bool { return caddy.Exiting() || caddy.ActiveContext().Context == nil }

// Streams whose clients read end long before these delays. For a stream that is
// blocked in a write, Caddy would wait as long as the write may take.
const (
	abortWriteAfter      = 2 * time.Second
	closeConnectionAfter = 3 * time.Second
)

// expelBlocked ends the streams that have not ended in time. It first aborts
// their writes. Then it closes their connections, on which not even a reset
// may get through.
func (s *sharedHub) expelBlocked() {
	time.AfterFunc(abortWriteAfter, func() {
		for _, o := range s.openStreams() {
			o.Abort()
		}
	})
	time.AfterFunc(closeConnectionAfter, func() {
		for _, o := range s.openStreams() {
			o.closeConnection()
		}
	})
}
