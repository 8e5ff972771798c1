package caddysse

import (
	"context"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/stream"
)

// openStream is an open stream, as the operator sees it. Apart from two counts
// and a flag it holds only what the stream holds anyway.
type openStream struct {
	*stream.Stream
	rule         *ruleStreams
	conn         net.Conn // nil if it is unknown, or the stream may take it over
	cursor       *hub.Cursor
	proto        int // the major version of HTTP
	host, path   string
	paths        []string // of the URLs of a multiplexed stream
	client, user string
	since        int64 // in nanoseconds since 1970

	events, bytes atomic.Int64
	stopped       atomic.Bool

	countedEvents, countedBytes int64 // guarded by sentMu
}

// newOpenStream returns a stream that is about to begin. The caller sets Stream.
func newOpenStream(rule *ruleStreams, r *http.Request, c *hub.Cursor) *openStream {
	s := &openStream{
		rule: rule, cursor: c, proto: r.ProtoMajor,
		host: r.Host, path: r.URL.Path, client: clientIP(r), since: time.Now().UnixNano(),
	}
	s.conn, _ = r.Context().Value(connKey{}).(net.Conn)
	s.user, _ = replacer(r).GetString("http.auth.user.id")
	return s
}

// Sent implements [stream.Observer].
func (o *openStream) Sent(events int, bytes int64) {
	o.events.Add(int64(events))
	o.bytes.Add(bytes)
}

// closeConnection closes the stream's connection if it is a TCP connection.
func (o *openStream) closeConnection() {
	if o.conn != nil {
		_ = bareConn(o.conn).Close() // without a TLS alert, which would block as well
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
		defer s.mu.Unlock()
		o.countSent()
		if delete(s.streams, o); len(s.streams) == 0 {
			s.noStreams.Broadcast()
		}
	}
}

// waitForStreams returns when no stream is open, or ctx has ended.
func (s *sharedHub) waitForStreams(ctx context.Context) {
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.noStreams.Broadcast()
	})()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.streams) > 0 && ctx.Err() == nil {
		s.noStreams.Wait()
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
