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
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/upstream/forward"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// exitGracePeriod is how long an exit waits for attempts that are under way.
const exitGracePeriod = time.Second

// asyncForwarding forwards a rule's deliveries to the app in the background,
// while the rule's configuration is in force.
type asyncForwarding struct {
	*webhookRule
	server    *caddyhttp.Server
	queue     string
	forwarder *forward.Forwarder // nil until the configuration is in force
}

func (h *webhookRule) provisionAsync(ctx caddy.Context) error {
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return errors.New("forward async works only in an HTTP server's routes")
	}
	if h.hub.log.Shared() != nil {
		return errors.New("forward async needs a hub of its own, with `store file` or `store memory`: every Caddy would forward the deliveries of a shared log")
	}
	// If no rule has the queue any more, nothing is lost: see [unclaimedForwarding].
	h.async = &asyncForwarding{webhookRule: h, server: server, queue: forward.QueueOf(h.hub.Hub, h.scope)}
	if !h.app.forwards(h.async.queue) {
		h.app.tasks = append(h.app.tasks, h.async)
	}
	return nil
}

// forwards reports whether a rule of the configuration forwards the deliveries
// of a queue.
func (a *App) forwards(queue string) bool {
	return slices.ContainsFunc(a.tasks, func(t task) bool {
		f, ok := t.(*asyncForwarding)
		return ok && f.queue == queue
	})
}

func (a *asyncForwarding) start() {
	history := a.app.Hubs[a.id.hub].history()
	a.forwarder = a.hub.startForwarder(forward.Options{
		Queue: a.queue, Rule: a.id.name, Send: a.send, Log: a.log, Count: a.metrics.forwarded,
		For: a.retryPeriod(history.MaxAge), History: history,
	})
}

// retryPeriod is how long attempts may fail until the forwarder gives up the
// delivery. It is shorter than the hub's history, which holds the deliveries.
func (a *asyncForwarding) retryPeriod(maxAge time.Duration) time.Duration {
	longest, wanted := longestRetryPeriod(maxAge), time.Duration(cmp.Or(a.ForwardFor, webhook.DefaultForwardFor))
	if a.ForwardFor > 0 && wanted > longest {
		a.log.Warn("deliveries leave the history before the app may have failed for so long: make the hub's history longer",
			zap.String("rule", a.id.name), zap.Duration("forward_for", wanted), zap.Duration("max_age", maxAge))
	}
	return min(wanted, longest)
}

func longestRetryPeriod(maxAge time.Duration) time.Duration { return maxAge / 10 * 9 }

// stop leaves the deliveries to the next configuration, or to the next start
// of the process.
func (a *asyncForwarding) stop() {
	if a.forwarder != nil {
		a.hub.stopForwarder(a.forwarder, a.log)
	}
}

// forwarded is the context's value of a stored request on its way to the app.
type forwarded struct {
	passed string // the scope of the webhook rule that has passed it on; empty: none yet
}

type forwardedKey struct{}

// isForwarded reports whether a request is a stored one, which the rule passes on:
// a rule has verified and published it already. A webhook rule behind that one is a
// part of the app, and receives the request; but one with the same scope knows the
// delivery, and would acknowledge it in the app's place.
func (h *webhookRule) isForwarded(r *http.Request) bool {
	f, ok := r.Context().Value(forwardedKey{}).(*forwarded)
	if ok && f.passed == "" {
		f.passed = h.scope
	}
	return ok && f.passed == h.scope
}

// storedRequest returns the message that stores a request until the app has
// taken it.
func (a *asyncForwarding) storedRequest(r *http.Request, body []byte) (hub.Message, error) {
	original := originalRequest(r)
	stored := &forward.Request{
		Rule:   a.id.name,
		Method: original.Method, URI: []byte(original.RequestURI), Host: []byte(r.Host), Proto: r.Proto,
		Remote: original.RemoteAddr, TLS: r.TLS != nil, Body: body,
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		stored.Local = local.String()
	}
	if r.TLS != nil {
		stored.ServerName = r.TLS.ServerName
	}
	stored.SetHeader(r.Header)
	return forward.Message(a.queue, stored)
}

func (a *asyncForwarding) send(ctx context.Context, stored *forward.Request) (forward.Response, error) {
	return sendStored(ctx, a.server, stored)
}

// sendStored sends a stored request to the app: through all of the server's
// handlers, as when it came, and past the webhook rule.
func sendStored(ctx context.Context, server *caddyhttp.Server, stored *forward.Request) (response forward.Response, err error) {
	f := new(forwarded)
	r, err := restoredRequest(context.WithValue(ctx, forwardedKey{}, f), stored)
	if err != nil {
		return forward.Response{}, err
	}
	w := &bodylessResponse{header: make(http.Header)}
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			err = errors.New("the response broke off")
		default:
			err = fmt.Errorf("handler panicked: %v\n%s", p, debug.Stack())
		}
	}()
	server.ServeHTTP(w, r)
	switch {
	case f.passed == "":
		return forward.Response{}, fmt.Errorf("no webhook rule receives the request any more: another handler responded with %d", w.status)
	case w.status == 0:
		return forward.Response{}, errors.New("no handler answered: none follows the rule")
	case ctx.Err() != nil:
		return forward.Response{}, context.Cause(ctx)
	}
	return forward.Response{Status: w.status, Header: w.header}, nil
}

// restoredRequest returns the original request of a stored delivery.
func restoredRequest(ctx context.Context, stored *forward.Request) (*http.Request, error) {
	target, err := url.ParseRequestURI(string(stored.URI))
	if err != nil {
		return nil, fmt.Errorf("its target: %w", err)
	}
	if local, err := netip.ParseAddrPort(stored.Local); err == nil {
		ctx = context.WithValue(ctx, http.LocalAddrContextKey, net.TCPAddrFromAddrPort(local))
	}
	r := &http.Request{
		Method: stored.Method, URL: target, RequestURI: string(stored.URI), Host: string(stored.Host), Proto: stored.Proto,
		RemoteAddr: stored.Remote, Header: stored.HTTPHeader(), Body: io.NopCloser(bytes.NewReader(stored.Body)), ContentLength: int64(len(stored.Body)),
	}
	r.ProtoMajor, r.ProtoMinor, _ = http.ParseHTTPVersion(stored.Proto)
	if stored.TLS {
		r.TLS = &tls.ConnectionState{Version: tls.VersionTLS13, HandshakeComplete: true, ServerName: stored.ServerName}
	}
	return r.WithContext(ctx), nil
}

// bodylessResponse records a response's status and headers, and discards its
// body.
type bodylessResponse struct {
	header http.Header
	status int
}

func (w *bodylessResponse) Header() http.Header { return w.header }

func (w *bodylessResponse) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}

func (w *bodylessResponse) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(p), nil
}

// ReadFrom writes the default status even if there is nothing to read.
func (w *bodylessResponse) ReadFrom(r io.Reader) (int64, error) {
	w.WriteHeader(http.StatusOK)
	return io.Copy(io.Discard, r)
}

func (w *bodylessResponse) FlushError() error {
	w.WriteHeader(http.StatusOK)
	return nil
}

func (w *bodylessResponse) SetReadDeadline(time.Time) error  { return nil }
func (w *bodylessResponse) SetWriteDeadline(time.Time) error { return nil }
