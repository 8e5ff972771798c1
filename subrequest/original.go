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

type originalKey struct{}

// WithOriginal returns a context for subrequests that repeat a client's request.
// The next handlers see the client's original request line. Without it they take
// the subrequest's own for the original one.
func WithOriginal(ctx context.Context, o Original) context.Context {
	if o.URL == nil {
		return ctx
	}
	return context.WithValue(ctx, originalKey{}, o)
}

// restoreOriginal gives a subrequest the original request line of its context.
// The remote address stays the subrequest's. The request is changed in place,
// since its replacer reads this very request.
func restoreOriginal(req *http.Request) {
	o, ok := req.Context().Value(originalKey{}).(Original)
	if !ok || o.Method == req.Method && *o.URL == *req.URL { // there was no rewrite
		return
	}
	u := *o.URL
	original := http.Request{Method: o.Method, URL: &u, RequestURI: u.RequestURI(), RemoteAddr: req.RemoteAddr}
	*req = *req.WithContext(context.WithValue(req.Context(), caddyhttp.OriginalRequestCtxKey, original))
}
