package caddysse

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/upstream/forward"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// exitPatience is how long an exit waits for what the app is about to take.
const exitPatience = time.Second

// provisionForwarding has the rule's deliveries passed on once the
// configuration is in force.
func (h *Handler) provisionForwarding(ctx caddy.Context) error {
	if h.Webhook.Forward != webhook.ForwardAsync {
		return nil
	}
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return errors.New("forward async works only in an HTTP server's routes")
	}
	h.server = server
	h.app.forwarding = append(h.app.forwarding, h)
	return nil
}

// whenStarted calls f when the configuration is in force: all apps have
// started, so that their handlers can be called.
func whenStarted(ctx caddy.Context, f func()) error {
	events, err := ctx.App("events")
	if err != nil {
		return err
	}
	return events.(*caddyevents.App).On("started", onStarted(f))
}

type onStarted func()

// Handle implements [caddyevents.Handler].
func (f onStarted) Handle(context.Context, caddy.Event) error {
	f()
	return nil
}

func (onStarted) String() string { return "sse" }

func (h *Handler) startForwarding() {
	history := h.app.Hubs[h.hubName()].history()
	longest, wanted := history.MaxAge/10*9, time.Duration(cmp.Or(h.Webhook.ForwardFor, webhook.DefaultForwardFor))
	if h.Webhook.ForwardFor > 0 && wanted > longest {
		h.log.Warn("deliveries leave the history before the app may have failed for so long: make the hub's history longer",
			zap.String("rule", h.name()), zap.Duration("forward_for", wanted), zap.Duration("max_age", history.MaxAge))
	}
	h.forwarder = forward.New(h.hub.Hub, forward.Options{
		Scope: h.scope, Rule: h.name(), Send: h.send, Log: h.log, Count: h.metrics.forwarded,
		For: min(wanted, longest), History: history,
	})
	go h.forwarder.Run(h.hub.takeOver(h.name(), h.forwarder))
}

// stopForwarding leaves the deliveries to the next configuration, or to the
// next start.
func (h *Handler) stopForwarding() {
	f := h.forwarder
	switch {
	case f == nil:
	case h.hub.isReplaced(f): // who waits for the end of what is under way
		f.Stop(time.Minute, false)
	default:
		f.Stop(exitPatience, true)
		h.hub.giveUp(f)
		if n := f.Pending(); n > 0 && !caddy.Exiting() {
			h.log.Warn("the rule is gone, and deliveries to the app are left; they are made when it is back, if the history still has them",
				zap.String("rule", h.name()), zap.Int("deliveries", n))
		}
	}
}

// passing is the context's value of a request that is passed on to the app.
type passing struct {
	rule    string
	reached bool
}

type passingKey struct{}

// isPassed tells that a request is one of this rule's that is passed on.
func (h *Handler) isPassed(r *http.Request) bool {
	p, ok := r.Context().Value(passingKey{}).(*passing)
	if !ok || p.rule != h.ruleKey() {
		return false
	}
	p.reached = true
	return true
}

// ruleKey is the rule's scope but for its number among those that are alike:
// which of them a request belongs to is for the routes to say.
func (h *Handler) ruleKey() string {
	return h.hubName() + " " + h.name() + " " + h.Webhook.Verify.Sender
}

// queued is the event that has the app get a request.
func (h *Handler) queued(r *http.Request, body []byte) (hub.Message, error) {
	original := *r
	if o, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		original = o // before handlers have rewritten it
	}
	kept := &forward.Request{
		Method: original.Method, URI: []byte(original.RequestURI), Host: []byte(r.Host), Proto: r.Proto,
		Remote: original.RemoteAddr, TLS: r.TLS != nil, Body: body,
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		kept.Local = local.String()
	}
	if r.TLS != nil {
		kept.ServerName = r.TLS.ServerName
	}
	kept.SetHeader(r.Header)
	return forward.Message(h.hub.Hub, h.scope, kept)
}

// send has the app get a request that was kept: through all of the server's
// handlers, as when it came, and past this rule.
func (h *Handler) send(ctx context.Context, kept *forward.Request) (answer forward.Response, err error) {
	p := &passing{rule: h.ruleKey()}
	r, err := restored(context.WithValue(ctx, passingKey{}, p), kept)
	if err != nil {
		return forward.Response{}, err
	}
	w := &unread{header: make(http.Header)}
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			err = errors.New("the answer broke off")
		default:
			err = fmt.Errorf("handler panicked: %v\n%s", p, debug.Stack())
		}
	}()
	h.server.ServeHTTP(w, r)
	switch {
	case !p.reached:
		return forward.Response{}, fmt.Errorf("the request doesn't get to the rule any more: it was answered with %d", w.status)
	case w.status == 0:
		return forward.Response{}, errors.New("nobody has answered: no handler comes after the rule")
	case ctx.Err() != nil:
		return forward.Response{}, context.Cause(ctx)
	}
	return forward.Response{Status: w.status, Header: w.header}, nil
}

// restored is a request as it came.
func restored(ctx context.Context, kept *forward.Request) (*http.Request, error) {
	target, err := url.ParseRequestURI(string(kept.URI))
	if err != nil {
		return nil, fmt.Errorf("its target: %w", err)
	}
	if local, err := netip.ParseAddrPort(kept.Local); err == nil {
		ctx = context.WithValue(ctx, http.LocalAddrContextKey, net.TCPAddrFromAddrPort(local))
	}
	r := &http.Request{
		Method: kept.Method, URL: target, RequestURI: string(kept.URI), Host: string(kept.Host), Proto: kept.Proto,
		RemoteAddr: kept.Remote, Header: kept.HTTPHeader(), Body: io.NopCloser(bytes.NewReader(kept.Body)), ContentLength: int64(len(kept.Body)),
	}
	r.ProtoMajor, r.ProtoMinor, _ = http.ParseHTTPVersion(kept.Proto)
	if kept.TLS {
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: kept.ServerName}
	}
	return r.WithContext(ctx), nil
}

// unread is an answer of which only the status and the headers matter.
type unread struct {
	header http.Header
	status int
}

func (w *unread) Header() http.Header { return w.header }

func (w *unread) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *unread) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(p), nil
}

func (w *unread) FlushError() error                { return nil }
func (w *unread) SetReadDeadline(time.Time) error  { return nil }
func (w *unread) SetWriteDeadline(time.Time) error { return nil }

// takeOver makes a forwarder the one of its scope, and returns the one before.
func (s *sharedHub) takeOver(rule string, f *forward.Forwarder) (before *forward.Forwarder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forwarders == nil {
		s.forwarders = make(map[string]ruleForwarder)
	}
	before = s.forwarders[f.Scope].Forwarder
	s.forwarders[f.Scope] = ruleForwarder{f, rule}
	return before
}

func (s *sharedHub) isReplaced(f *forward.Forwarder) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forwarders[f.Scope].Forwarder != f
}

func (s *sharedHub) giveUp(f *forward.Forwarder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forwarders[f.Scope].Forwarder == f {
		delete(s.forwarders, f.Scope)
	}
}

type ruleForwarder struct {
	*forward.Forwarder
	rule string
}

// eachForwarder calls f for the forwarder of each rule.
func eachForwarder(f func(ruleID, *forward.Forwarder)) {
	hubs.Range(func(name, shared any) bool {
		s := shared.(*sharedHub)
		s.mu.Lock()
		var all []ruleForwarder
		for _, one := range s.forwarders {
			all = append(all, one)
		}
		s.mu.Unlock()
		for _, one := range all {
			if !one.Done() {
				f(ruleID{name.(string), one.rule}, one.Forwarder)
			}
		}
		return true
	})
}
