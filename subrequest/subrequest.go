// Package subrequest makes requests of our own through the handlers that come after
// ours, so that load balancing, health checks, transports, rewrites and
// php_fastcgi all apply to them as they do to a viewer's.
package subrequest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/netip"
	"runtime/debug"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

var (
	// ErrTooLarge is returned for a body that is larger than allowed.
	ErrTooLarge = errors.New("the response's body is too large")
	// ErrEventStream is returned for a response that is an event stream itself.
	ErrEventStream = errors.New("the response is an event stream already")
	// ErrAborted is returned for a response that broke off.
	ErrAborted = errors.New("the response broke off")
	// ErrNoResponse is returned when no handler has answered: the route has
	// nothing after ours.
	ErrNoResponse = errors.New("no handler answered")
)

// Response is what the next handlers have answered.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	// Err is the error of a handler that stands for the status, if that is
	// all that there is: a viewer's own request would be answered as the
	// server's error routes say.
	Err error
}

// IsFailure tells whether a status says that the backend can't answer now, as
// opposed to that it won't.
func IsFailure(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	default:
		return status >= 500
	}
}

// Requester makes requests on behalf of a viewer whose own request may long be
// over. It is safe for concurrent use.
type Requester struct {
	handler caddyhttp.Handler
	server  *caddyhttp.Server
	vars    map[string]any
	user    string
	trusted bool

	original, client string
}

// New returns a caller into what comes after the handler of the viewer's
// request r. It keeps what earlier handlers found out about the viewer: the
// user's id, and variables that are text, numbers or booleans.
func New(r *http.Request, handler caddyhttp.Handler) *Requester {
	c := &Requester{handler: handler, vars: make(map[string]any)}
	c.server, _ = r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	for name, value := range vars {
		if isScalar(value) && name != caddyhttp.ClientIPVarKey && name != caddyhttp.TrustedProxyVarKey {
			c.vars[name] = value
		}
	}
	c.trusted, _ = vars[caddyhttp.TrustedProxyVarKey].(bool)
	c.client, _ = vars[caddyhttp.ClientIPVarKey].(string)
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		c.original = original.URL.EscapedPath()
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		c.user, _ = repl.GetString(userID)
	}
	return c
}

// isScalar tells the kinds of values that the vars directive sets.
func isScalar(value any) bool {
	switch value.(type) {
	case string, bool, int, float64:
		return true
	default:
		return false
	}
}

// userID is the placeholder that Caddy's authentication handlers set.
const userID = "http.auth.user.id"

// User is the id of the viewer, as an earlier handler has authenticated them;
// empty if none has.
func (c *Requester) User() string { return c.user }

// Vars are the variables that earlier handlers have set, written so that no two
// that differ are alike.
func (c *Requester) Vars() map[string]string {
	vars := make(map[string]string, len(c.vars))
	for name, value := range c.vars {
		vars[name] = fmt.Sprintf("%T:%v", value, value)
	}
	return vars
}

// ViaTrustedProxy tells that the viewer's connection is one of a proxy that the server
// trusts: its address is not the viewer's own.
func (c *Requester) ViaTrustedProxy() bool { return c.trusted }

// OriginalPath is the path of the viewer's request as it came, before handlers have
// rewritten it: one path may be reached in several ways, with other handlers to
// follow.
func (c *Requester) OriginalPath() string { return c.original }

// ClientNetwork is the network that the viewer is in: the address, as far as proxies
// are trusted to know it, of which for IPv6 the first 64 bits count.
func (c *Requester) ClientNetwork() string {
	addr, err := netip.ParseAddr(c.client)
	if err != nil || addr.Unmap().Is4() {
		return c.client
	}
	network, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return c.client
	}
	return network.String()
}

// Do makes a request, whose body in the answer may have maxBody bytes at most.
// An answer of any status is no error, and neither is a handler's own error that
// stands for a status.
func (c *Requester) Do(req *http.Request, maxBody int64) (resp *Response, err error) {
	if c.server == nil {
		return nil, errors.New("not called from within an HTTP server")
	}
	rec := &recorder{header: make(http.Header), maxBody: maxBody}
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, rec.panicked(req.Context(), p)
		}
	}()
	repl := caddy.NewReplacer()
	req = caddyhttp.PrepareRequest(req, repl, rec, c.server)
	c.restore(req.Context(), repl)
	err = c.handler.ServeHTTP(rec, req)
	return rec.response(req.Context(), err)
}

// restore gives the request what the viewer's had from earlier handlers.
func (c *Requester) restore(ctx context.Context, repl *caddy.Replacer) {
	if c.user != "" {
		repl.Set(userID, c.user)
	}
	if vars, ok := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any); ok {
		maps.Copy(vars, c.vars)
	}
}

// recorder keeps an answer, up to a bound.
type recorder struct {
	header  http.Header
	maxBody int64
	status  int
	sent    http.Header // as it was when the status was set
	body    []byte
	err     error
}

func (rec *recorder) Header() http.Header { return rec.header }

func (rec *recorder) WriteHeader(status int) {
	if rec.status != 0 || status < 200 { // 1xx are not the answer
		return
	}
	rec.status = status
	rec.sent = rec.header.Clone() // what is set from now on is too late
	if rec.isAnswer() && isStream(rec.sent) {
		rec.err = ErrEventStream
	}
}

func (rec *recorder) Write(p []byte) (int, error) {
	rec.WriteHeader(http.StatusOK)
	room := rec.maxBody - int64(len(rec.body))
	if rec.err == nil && int64(len(p)) > room && rec.isAnswer() {
		rec.err = fmt.Errorf("%w: more than %d bytes", ErrTooLarge, rec.maxBody)
	}
	if rec.err != nil {
		return 0, rec.err
	}
	rec.body = append(rec.body, p[:min(int64(len(p)), room)]...)
	return len(p), nil
}

// isAnswer tells whether the body matters. What is refused is refused, however
// long the page that says so, and whatever its type.
func (rec *recorder) isAnswer() bool { return rec.status < 300 }

// FlushError lets handlers flush: what is recorded is as good as sent.
func (rec *recorder) FlushError() error { return rec.err }

// panicked makes an error of a handler's panic: here is no server around that
// would keep it from ending the process. reverse_proxy panics with
// ErrAbortHandler on a body that breaks off, and on one that we refuse.
func (rec *recorder) panicked(ctx context.Context, p any) error {
	switch {
	case rec.err != nil:
		return rec.err
	case p == http.ErrAbortHandler && ctx.Err() != nil: // it broke off because we did
		return context.Cause(ctx)
	case p == http.ErrAbortHandler:
		return ErrAborted
	default:
		return fmt.Errorf("handler panicked: %v\n%s", p, debug.Stack())
	}
}

func (rec *recorder) response(ctx context.Context, err error) (*Response, error) {
	var status caddyhttp.HandlerError
	switch {
	case rec.err != nil:
		return nil, rec.err
	case ctx.Err() != nil: // a cancelled request may look like an answer
		return nil, context.Cause(ctx)
	case errors.As(err, &status) && status.StatusCode != 0:
		return &Response{Status: status.StatusCode, Header: make(http.Header), Err: err}, nil
	case err != nil:
		return nil, err
	case rec.status == 0:
		return nil, ErrNoResponse
	}
	return &Response{Status: rec.status, Header: rec.sent, Body: rec.body}, nil
}

func isStream(h http.Header) bool {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && t == "text/event-stream"
}
