package caddysse

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/stream"
)

// maxHeartbeat is the idle timeout of QUIC connections in Caddy, which sends
// no keep-alives.
const maxHeartbeat = 30 * time.Second

// writeTimeout limits one write to a client, and how long sent data may stay
// unacknowledged. Tests change it.
var writeTimeout = 30 * time.Second

// ruleStreams runs the streams of a rule: of all kinds that have any.
type ruleStreams struct {
	*rule
	cors    *access.CORS
	limits  *streamLimits // nil: none
	options stream.Options
	group   *stream.Group
	metrics *streamMetrics

	logKeptBack sync.Once // each stream fails alike
}

func newRuleStreams(h *Handler, r *rule) *ruleStreams {
	return &ruleStreams{
		rule:  r,
		group: new(stream.Group),
		options: stream.Options{
			Heartbeat: cmp.Or(time.Duration(h.Heartbeat), stream.DefaultHeartbeat),
			Retry:     cmp.Or(time.Duration(h.Retry), stream.DefaultRetry),
			MaxAge:    time.Duration(h.MaxAge),

			ShutdownEvent: h.ShutdownEvent,
			Gzip:          len(h.Encode) > 0,
			WriteTimeout:  writeTimeout,
		},
	}
}

// provision acquires the rule's count of streams. Pages of the configured origins
// open streams with the given method.
func (s *ruleStreams) provision(ctx caddy.Context, h *Handler, method string) (err error) {
	if s.cors, err = access.NewCORS(h.CORS, method); err != nil {
		return err
	}
	if s.options.HeartbeatEvent, err = heartbeatEvent(h); err != nil {
		return err
	}
	if s.limits, err = acquireLimits(s.rule, h.MaxStreams); err != nil {
		return err
	}
	s.metrics = newStreamMetrics(s.id)
	s.hub.addStreamRule(s.id.name)
	s.provisionServer(ctx)
	return nil
}

func validateStreams(h *Handler) error {
	heartbeat, maxAge := time.Duration(h.Heartbeat), time.Duration(h.MaxAge)
	switch {
	case heartbeat < 0 || h.Retry < 0 || maxAge < 0:
		return errors.New("heartbeat, retry and max_age can't be negative")
	case heartbeat > 0 && heartbeat < time.Second, maxAge > 0 && maxAge < time.Second:
		return errors.New("heartbeat and max_age must be at least 1s")
	case heartbeat >= maxHeartbeat:
		return fmt.Errorf("heartbeat %v is too long: HTTP/3 connections end when they are idle for %v", heartbeat, maxHeartbeat)
	}
	if len(h.Encode) > 1 || len(h.Encode) == 1 && h.Encode[0] != "gzip" {
		return fmt.Errorf("encode %s: streams can be compressed with gzip only: write encode gzip", strings.Join(h.Encode, " "))
	}
	if h.MaxStreams != nil {
		if err := h.MaxStreams.Validate(); err != nil {
			return err
		}
	}
	if _, err := heartbeatEvent(h); err != nil {
		return err
	}
	_, err := access.NewCORS(h.CORS, "")
	return err
}

// heartbeatEvent returns the event that is the rule's heartbeat, or nil if the
// heartbeat is no event.
func heartbeatEvent(h *Handler) (event.Frame, error) {
	if h.HeartbeatEvent == "" {
		return nil, nil
	}
	frame, err := stream.HeartbeatEvent(h.HeartbeatEvent)
	if err == nil && h.Poll != nil && h.Poll.Event == h.HeartbeatEvent {
		err = fmt.Errorf("%q is the name of the documents' events, too: use another name, such as alive", h.HeartbeatEvent)
	}
	if err != nil {
		return nil, fmt.Errorf("heartbeat: %w", err)
	}
	return frame, nil
}

// provisionServer makes the connections of the rule's server known to its
// streams, makes the server's exit wait for them, and warns of a timeout that would
// end them.
func (s *ruleStreams) provisionServer(ctx caddy.Context) {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return
	}
	if server.WriteTimeout > 0 {
		s.log.Warn("the server's write timeout ends every stream at that age: leave it out, or set write_idle instead",
			zap.Duration("timeout", time.Duration(server.WriteTimeout)))
	}
	storeConnections(server)
	server.RegisterOnStop(func(ctx context.Context) error {
		if isExiting() {
			s.hub.waitForStreams(ctx)
		}
		return nil
	})
}

// shutdown ends the rule's streams, or moves them to the next configuration.
func (s *ruleStreams) shutdown() { s.hub.shutdown(s.app, s.group) }

func (s *ruleStreams) cleanup() error { return s.limits.release() }

// run serves a stream, and adds the outcome to the access log. It calls end once
// when the stream has ended: that may be after run has returned, on another
// goroutine. A request of a multiplexed stream gets no stream of its own.
func (s *ruleStreams) run(w http.ResponseWriter, r *http.Request, src stream.Source, end func(stream.Reason)) {
	if p := partOf(r); p != nil {
		p.offer(s, w, r, src, end)
		return
	}
	s.runStream(w, r, src, &s.options, nil, end)
}

// runStream serves a stream with options, on the URLs of the given paths if it is a
// multiplexed one.
func (s *ruleStreams) runStream(w http.ResponseWriter, r *http.Request, src stream.Source, o *stream.Options, paths []string, end func(stream.Reason)) {
	if err := stream.CheckFlush(w); err != nil {
		src.Cursor.Close()
		s.reportKeptBack(err)
		_ = s.refuse(w, r, &refusal.Error{Status: http.StatusInternalServerError, Reason: "no stream is possible here: a handler before it keeps back what is written", Err: err})
		end(stream.WriteFailed)
		return
	}
	open := newOpenStream(s, r, src.Cursor)
	open.paths = paths
	conn, isRecorded := takeableConnection(w, r)
	if conn != nil {
		open.conn = nil // only the stream may close it
	}
	src.Stop, src.Observer = &open.stopped, open
	open.Stream = stream.Prepare(w, r, src, s.group, o)
	remove := s.hub.addStream(open)
	countEnd := s.metrics.opened(r.ProtoMajor, src.Start)
	defer setNoDeadlines(r)()
	release := limitConnection(r, o.WriteTimeout)
	if conn == nil || isRecorded {
		ended := make(chan struct{})
		open.Run(r, conn, func(summary stream.Summary) {
			release()
			countEnd(summary.Reason)
			s.logEnd(r, src.Start, len(paths), &summary)
			end(summary.Reason)
		}, func() {
			remove()
			close(ended)
		})
		<-ended
		return
	}
	// These functions keep nothing of the request, which may end before the stream.
	handedOver := open.Run(r, conn, func(summary stream.Summary) {
		countEnd(summary.Reason)
		s.reportFailure(&summary)
		end(summary.Reason)
	}, remove)
	if !handedOver {
		release()
	}
}

// reportKeptBack logs once which writer makes streams impossible.
func (s *ruleStreams) reportKeptBack(err error) {
	s.logKeptBack.Do(func() {
		s.log.Error("streams can't reach their clients: put the rule before the handler that keeps them back, for example with route or order, or keep that handler off the rule's paths",
			zap.String("rule", s.id.name), zap.Error(err))
	})
}

// reportFailure logs an end whose cause the client can't know.
func (s *ruleStreams) reportFailure(summary *stream.Summary) {
	switch {
	case summary.Reason == stream.StoreFailed:
		s.log.Error("stream ended", zap.String("reason", string(summary.Reason)), zap.Error(summary.Err))
	case errors.Is(summary.Err, stream.ErrKeptBack):
		s.reportKeptBack(summary.Err)
	}
}

func (s *ruleStreams) logEnd(r *http.Request, start stream.Start, urls int, summary *stream.Summary) {
	s.reportFailure(summary)
	logFields(r, func(enc zapcore.ObjectEncoder) {
		enc.AddString("hub", s.id.hub)
		enc.AddInt("events", summary.Events)
		enc.AddInt64("bytes", summary.Bytes)
		enc.AddString("start", startName(start))
		enc.AddString("reason", string(summary.Reason))
		if urls > 0 {
			enc.AddInt("urls", urls)
		}
	})
}
