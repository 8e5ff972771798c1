package caddysse

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// mayWrite reports whether a request may be a write, or otherwise a reason to poll.
// A poll of another rule is neither, not even by POST: it would cause the next one.
func (r *rule) mayWrite(req *http.Request) bool {
	if subrequest.Is(req) {
		return false
	}
	return !poll.IsSafe(req.Method) || r.hub.takesSafeWrites() || r.hub.knowsSession(req)
}

// passWrite passes a request that may be a write to the next handler. If the
// response is no error, it polls the documents that the request may have changed:
// the target, and those that the response's Location and Content-Location name
// (RFC 9111 §4.4). If the response changes a cookie with which views are polled,
// it polls these views, whatever the status.
func (r *rule) passWrite(w http.ResponseWriter, req *http.Request, next caddyhttp.Handler) error {
	key := invalidatedBy{r.hub}
	if req.Context().Value(key) != nil { // an earlier rule invalidates
		return next.ServeHTTP(w, req)
	}
	req = req.WithContext(context.WithValue(req.Context(), key, true))
	// Handlers may change the request.
	effects, session := r.hub.effects(req), r.hub.knowsSession(req)
	if len(effects) == 0 && !session {
		return next.ServeHTTP(w, req)
	}
	target, prefix, host, cookies := *req.URL, strippedPrefix(req), req.Host, slices.Clone(req.Header["Cookie"])
	var last time.Time
	invalidate := func(status int, header http.Header) {
		if session && isFinal(status) {
			r.hub.recheckSessions(poll.Hostname(host), cookies, header)
		}
		if status >= 200 && status < 400 && len(effects) > 0 {
			last = time.Now()
			r.hub.invalidateBy(effects, poll.Hostname(host), changedPaths(&target, prefix, host, header))
		}
	}
	response := recordResponse(w, invalidate) // before the client has the response and may read the document
	err := next.ServeHTTP(response, req)
	if time.Since(last) > slowResponse && len(effects) > 0 { // the handler may have changed more since
		invalidate(response.status(), response.Header())
	}
	return err
}

// slowResponse is how long after the status a response may end without a
// second invalidation.
const slowResponse = 100 * time.Millisecond

// invalidatedBy is the context key of requests that invalidate the views of a
// hub already.
type invalidatedBy struct{ hub *sharedHub }

// strippedPrefix returns the prefix that handlers such as handle_path have
// removed from the request's path.
func strippedPrefix(r *http.Request) string {
	prefix, ok := strings.CutSuffix(originalRequest(r).URL.Path, r.URL.Path)
	if !ok {
		return ""
	}
	return prefix
}

// changedPaths returns the target's path and those that the response names on
// the same host: a response has no authority over other hosts. A path that the
// response names may or may not have the prefix that was stripped.
func changedPaths(target *url.URL, prefix, host string, header http.Header) []string {
	paths := []string{target.Path}
	for _, name := range []string{"Location", "Content-Location"} {
		value := header.Get(name)
		if value == "" {
			continue
		}
		u, err := target.Parse(value)
		if err == nil && (u.Host == "" || strings.EqualFold(u.Host, host)) {
			paths = append(paths, u.Path)
			if stripped, ok := strings.CutPrefix(u.Path, prefix); ok && prefix != "" {
				paths = append(paths, stripped)
			}
		}
	}
	return paths
}
