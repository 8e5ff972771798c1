package subrequest

import (
	"context"
	"net/http"
	"net/url"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// Original is a client's request line before rewrites. Handlers read it as
// {http.request.orig_uri}, and FastCGI programs as REQUEST_URI. Its zero value is
// of a request outside of Caddy. The URL must not be changed.
type Original struct {
	Method string
	URL    *url.URL
}

// clientContext is the context of [WithClient].
type clientContext struct {
	context.Context
	ip       string
	original Original
}

type clientKey struct{}

// Value implements [context.Context].
func (c *clientContext) Value(key any) any {
	if key == (clientKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// WithClient returns a context for subrequests that repeat a client's request. The
// next handlers see this address of the client instead of the requester's, and the
// client's original request line; without a URL they take the subrequest's own line
// for the original one.
func WithClient(ctx context.Context, ip string, original Original) context.Context {
	return &clientContext{ctx, ip, original}
}

// clientOf returns what [WithClient] has recorded, or nil.
func clientOf(ctx context.Context) *clientContext {
	c, _ := ctx.Value(clientKey{}).(*clientContext)
	return c
}

// restoreOriginal gives a subrequest the original request line of its context.
// The remote address stays the subrequest's. The request is changed in place,
// since its replacer reads this very request.
func restoreOriginal(req *http.Request, o Original) {
	if o.URL == nil || o.Method == req.Method && *o.URL == *req.URL { // there was no rewrite
		return
	}
	u := *o.URL
	original := http.Request{Method: o.Method, URL: &u, RequestURI: u.RequestURI(), RemoteAddr: req.RemoteAddr}
	*req = *req.WithContext(context.WithValue(req.Context(), caddyhttp.OriginalRequestCtxKey, original))
}
