// Package subrequest makes requests of the module's own through the next HTTP
// handlers, so that load balancing, health checks, transports, rewrites and
// php_fastcgi apply to them as to a client's request.
package subrequest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

var (
	// ErrTooLarge is returned for a body that exceeds the limit.
	ErrTooLarge = errors.New("the response's body is too large")
	// ErrEventStream is returned for a response that is an event stream itself.
	ErrEventStream = errors.New("the response is an event stream already")
	// ErrAborted is returned for a response that ends before it is complete.
	ErrAborted = errors.New("the response broke off")
	// ErrConnectionAborted is returned if a handler aborts the connection before
	// it responds, as the directive abort does. It panics then with
	// [http.ErrAbortHandler], and so should the caller for its own client.
	ErrConnectionAborted = errors.New("a handler aborted the connection")
	// ErrNoResponse is returned if no handler wrote a response: the route has
	// no handler after this module's.
	ErrNoResponse = errors.New("no handler answered")

	errNoServer = errors.New("not called from within an HTTP server")
)

// Response is the response of the next handlers.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
	// OfSession is set by a caller that has sent cookies of its own. Like a
	// response that sets cookies, the response may be about their session.
	OfSession bool
	// Err is the handler's error if the handler returned one with a status.
	// Body is empty then, and Header has what handlers have set before: for a
	// client's request, the server's error routes would write the response.
	Err error
}

// IsFailure reports whether a status says that the backend can't respond now
// (408, 425, 429 and 5xx), as opposed to a refusal.
func IsFailure(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	default:
		return status >= 500
	}
}

// Requester makes subrequests on behalf of a client, also after the client's
// own request has ended. It is safe for concurrent use.
type Requester struct {
	handler caddyhttp.Handler
	server  *caddyhttp.Server

	vars         map[string]any
	placeholders map[string]any
	user         string
	original     Original
	clientIP     string
	trustedProxy bool
	offer        atomic.Pointer[Offer] // nil: none
}

// New returns a requester for the client of r, whose subrequests go to handler.
// It copies the values that earlier handlers have set for the client: the user's
// id, and the variables and the named placeholders that are text, numbers or
// booleans.
func New(r *http.Request, handler caddyhttp.Handler, placeholders ...string) *Requester {
	q := &Requester{handler: handler}
	q.server, _ = r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	vars, _ := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
	for name, value := range vars {
		if isScalar(value) && name != caddyhttp.ClientIPVarKey && name != caddyhttp.TrustedProxyVarKey {
			set(&q.vars, name, value)
		}
	}
	q.trustedProxy, _ = vars[caddyhttp.TrustedProxyVarKey].(bool)
	q.clientIP, _ = vars[caddyhttp.ClientIPVarKey].(string)
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		q.original = Original{original.Method, original.URL}
	}
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		q.user, _ = repl.GetString(userIDPlaceholder)
		for _, name := range placeholders {
			if value, ok := repl.Get(name); ok && isScalar(value) {
				set(&q.placeholders, name, value)
			}
		}
	}
	return q
}

func set(values *map[string]any, name string, value any) {
	if *values == nil {
		*values = make(map[string]any)
	}
	(*values)[name] = value
}

// isScalar reports whether the vars directive can set such a value.
func isScalar(value any) bool {
	switch value.(type) {
	case string, bool, int, float64:
		return true
	default:
		return false
	}
}

// userIDPlaceholder is set by Caddy's authentication handlers.
const userIDPlaceholder = "http.auth.user.id"

// User returns the id of the user that an earlier handler has authenticated;
// empty if there is none.
func (q *Requester) User() string { return q.user }

// Vars returns the variables and, in braces, the placeholders that earlier
// handlers have set. Each value is written with its type, so that values that
// differ are written differently.
func (q *Requester) Vars() map[string]string {
	vars := make(map[string]string, len(q.vars)+len(q.placeholders))
	for name, value := range q.vars {
		vars[name] = fmt.Sprintf("%T:%v", value, value)
	}
	for name, value := range q.placeholders {
		vars["{"+name+"}"] = fmt.Sprintf("%T:%v", value, value)
	}
	return vars
}

// ClientIP returns the client's address as the server has determined it, perhaps
// from a trusted proxy's header.
func (q *Requester) ClientIP() string { return q.clientIP }

// ClientIPHeaders returns the names of the headers in which the server's trusted
// proxies name the client's address, in their canonical form.
func (q *Requester) ClientIPHeaders() []string {
	if q.server == nil {
		return nil
	}
	names := make([]string, len(q.server.ClientIPHeaders))
	for i, name := range q.server.ClientIPHeaders {
		names[i] = http.CanonicalHeaderKey(name)
	}
	return names
}

// ViaTrustedProxy reports whether the client's request came through a proxy that
// the server trusts: the remote address is then the proxy's.
func (q *Requester) ViaTrustedProxy() bool { return q.trustedProxy }

// Original returns the method and the URL of the client's request before
// rewrites.
func (q *Requester) Original() Original { return q.original }

// OriginalPath returns the path of the client's request before rewrites. Two
// original paths that are rewritten to the same one may lead to different next
// handlers.
func (q *Requester) OriginalPath() string {
	if q.original.URL == nil {
		return ""
	}
	return q.original.URL.EscapedPath()
}

// ClientNetwork returns the client's IPv4 address or the /64 network of its IPv6
// address, as reported by trusted proxies.
func (q *Requester) ClientNetwork() string {
	addr, err := netip.ParseAddr(q.clientIP)
	if err != nil || addr.Unmap().Is4() {
		return q.clientIP
	}
	network, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return q.clientIP
	}
	return network.String()
}

// Do makes a request and returns the response, whose body has at most maxBody
// bytes: a longer document is [ErrTooLarge], at once if its length is declared,
// and the rest of a longer refusal is left out. Neither a response of any status
// nor a handler's error with a status is an error of Do. If the request's context
// ends, Do returns its cause. If the response has begun before an error, Do
// returns its status and header, too.
//
// The handlers see the client's own address, or that of [WithClient]. Do changes the
// request's context.
func (q *Requester) Do(req *http.Request, maxBody int64) (*Response, error) {
	if q.server == nil {
		return nil, errNoServer
	}
	switch offer := q.offer.Load(); offer.current() {
	case offered:
		return offer.do(q, req, maxBody)
	case taken:
		return nil, ErrEventStream
	default:
		return q.do(req, maxBody, nil)
	}
}

// do makes a request. If take isn't nil, it may return the writer that takes an
// event stream over.
func (q *Requester) do(req *http.Request, maxBody int64, take func(*Response) http.ResponseWriter) (resp *Response, err error) {
	caller := req.Context()
	ctx, cancel := context.WithCancelCause(caller)
	defer cancel(nil)
	rec := &recorder{cancel: cancel, isHead: req.Method == http.MethodHead, header: make(http.Header), maxBody: maxBody, take: take}
	defer func() {
		if p := recover(); p != nil {
			resp, err = rec.response(caller, panicError(caller, p, rec.status != 0))
		}
	}()
	err = q.serve(ctx, req, rec)
	return rec.response(caller, err)
}

// restoreClient gives a subrequest the user's id, the variables and the
// placeholders that earlier handlers have set on the client's request, and the
// client's address, unless it has another one: an earlier handler may have removed
// the header that the server determined it from.
func (q *Requester) restoreClient(ctx context.Context, repl *caddy.Replacer, another *clientContext) {
	if q.user != "" {
		repl.Set(userIDPlaceholder, q.user)
	}
	for name, value := range q.placeholders {
		repl.Set(name, value)
	}
	vars, ok := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any)
	if !ok {
		return
	}
	maps.Copy(vars, q.vars)
	vars[caddyhttp.TrustedProxyVarKey] = q.trustedProxy
	vars[caddyhttp.ClientIPVarKey] = q.clientIP
	if another != nil {
		vars[caddyhttp.ClientIPVarKey] = another.ip
	}
}
