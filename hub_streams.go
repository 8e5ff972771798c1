package caddysse

import (
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/stream"
)

// openStream is an open stream, as the operator sees it. Apart from two counts
// and a flag it holds only what the stream holds anyway.
type openStream struct {
	rule         *ruleStreams
	request      *http.Request // only what no handler changes is read
	cursor       *hub.Cursor
	client, user string
	since        int64 // in nanoseconds since 1970

	events, bytes atomic.Int64
	stopped       atomic.Bool

	mu sync.Mutex
	w  http.ResponseWriter // the server's own; nil once the stream has ended
}

// newOpenStream returns a stream that is about to begin.
func newOpenStream(rule *ruleStreams, w http.ResponseWriter, r *http.Request, c *hub.Cursor) *openStream {
	s := &openStream{rule: rule, w: innermost(w), request: r, cursor: c, since: time.Now().UnixNano()}
	s.client = clientIP(r)
	s.user, _ = replacer(r).GetString("http.auth.user.id")
	return s
}

// Sent implements [stream.Observer].
func (o *openStream) Sent(events int, bytes int64) {
	o.events.Add(int64(events))
	o.bytes.Add(bytes)
	o.rule.metrics.sent(events, bytes)
}

// abortWrite makes the stream's pending write fail.
func (o *openStream) abortWrite() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.w != nil {
		_ = http.NewResponseController(o.w).SetWriteDeadline(time.Now().Add(-time.Second)) // or it has no deadline
	}
}

// closeConnection closes the stream's connection if it is a TCP connection.
func (o *openStream) closeConnection() {
	if conn, ok := o.request.Context().Value(connKey{}).(net.Conn); ok {
		_ = bareConn(conn).Close() // without a TLS alert, which would block as well
	}
}

// innermost returns the server's own writer, without the wrappers of Caddy and
// other handlers. Only the stream's goroutine may use those; on the server's
// writer, another goroutine may set a deadline.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapped, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapped.Unwrap()
	}
}

// addStream adds an open stream, so that an operator can see and end it
// whatever becomes of its configuration. The caller calls remove when the
// stream has ended.
func (s *sharedHub) addStream(o *openStream) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[o] = struct{}{}
	return func() {
		s.mu.Lock()
		delete(s.streams, o)
		s.mu.Unlock()
		o.mu.Lock()
		defer o.mu.Unlock()
		o.w = nil // the server may reuse it
	}
}

// openStreams returns the streams that are open.
func (s *sharedHub) openStreams() []*openStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.AppendSeq(make([]*openStream, 0, len(s.streams)), maps.Keys(s.streams))
}

// eachStream calls f for the open streams of all hubs.
func eachStream(f func(*openStream)) {
	eachHub(func(_ string, s *sharedHub) {
		for _, o := range s.openStreams() {
			f(o)
		}
	})
}

// endAll ends the streams of every configuration, including those that are
// still moving from an earlier one.
func (s *sharedHub) endAll(end func(*stream.Group)) {
	groups := make(map[*stream.Group]struct{})
	for _, o := range s.openStreams() {
		groups[o.rule.group] = struct{}{}
	}
	for g := range groups {
		end(g)
	}
}

// addStreamRule adds a rule to those that have, or had, streams.
func (s *sharedHub) addStreamRule(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streamRules[name] = struct{}{}
}

// eachStreamRule calls f for each rule that has, or had, streams.
func eachStreamRule(f func(ruleID)) {
	eachHub(func(hub string, s *sharedHub) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for name := range s.streamRules {
			f(ruleID{hub, name})
		}
	})
}

var _ stream.Observer = (*openStream)(nil)
