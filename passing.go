package caddysse

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// isSafe tells whether a method changes nothing (RFC 9110 §9.2.1).
func isSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	default:
		return false
	}
}

// passWrite lets a request that may change something pass, and if it has
// succeeded has the documents polled that it may have changed: the target, and
// what the response's Location and Content-Location name (RFC 9111 §4.4).
func (h *Handler) passWrite(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	seen := seenBy{h.hub}
	if r.Context().Value(seen) != nil { // a rule before this one tells of it
		return next.ServeHTTP(w, r)
	}
	r = r.WithContext(context.WithValue(r.Context(), seen, true))
	target, prefix, host := *r.URL, strippedPrefix(r), r.Host // handlers may rewrite the request's
	answer := watchAnswer(w)
	var told time.Time
	tell := func() {
		if answer.status >= 200 && answer.status < 400 {
			told = time.Now()
			h.hub.wrote(poll.Hostname(host), writtenPaths(&target, prefix, host, answer.Header()))
		}
	}
	answer.noted = tell // before the client has it, who may look at once
	err := next.ServeHTTP(answer, r)
	if time.Since(told) > slowAnswer { // there may have been more to it
		tell()
	}
	return err
}

// slowAnswer is how long an answer takes from its status to its end for what it
// has changed to be looked at again.
const slowAnswer = 100 * time.Millisecond

// seenBy is the context key of requests that a rule of the hub has an eye on.
type seenBy struct{ hub *sharedHub }

// strippedPrefix is what handle_path, say, has taken off the request's path.
func strippedPrefix(r *http.Request) string {
	original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	if !ok {
		return ""
	}
	prefix, ok := strings.CutSuffix(original.URL.Path, r.URL.Path)
	if !ok {
		return ""
	}
	return prefix
}

// writtenPaths leaves out what a response names on other hosts, which it has no
// say about. What it names may or may not have the prefix that was stripped.
func writtenPaths(target *url.URL, prefix, host string, header http.Header) []string {
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

// passOn lets the next handlers answer, and refuses the request if none of them
// does: Caddy would answer with an empty 200. A request whose URL had a token in
// it is not passed on.
func passOn(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, refuse func(http.ResponseWriter, *http.Request)) error {
	if takenFrom(r).hidden {
		refuseHidden(w, r)
		return nil
	}
	answer := watchAnswer(w)
	if err := next.ServeHTTP(answer, r); err != nil {
		return err
	}
	if answer.status == 0 {
		refuse(w, r)
	}
	return nil
}

// refuseMethod is for a path on which only these methods are answered.
func refuseMethod(allowed ...string) func(http.ResponseWriter, *http.Request) {
	allow := strings.Join(allowed, ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		refusal.Newf(http.StatusMethodNotAllowed, "%s is not answered here: use %s", r.Method, allow).Write(w, r)
	}
}

func refuseAccept(w http.ResponseWriter, r *http.Request) {
	refusal.Newf(http.StatusNotAcceptable, "here is a stream of events: ask for %s", stream.MediaType).Write(w, r)
}

// answerWatcher notes the status that a request is answered with; zero: none.
type answerWatcher struct {
	*caddyhttp.ResponseWriterWrapper
	status int
	noted  func() // called with the status, before the client has it
}

func watchAnswer(w http.ResponseWriter) *answerWatcher {
	return &answerWatcher{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: w}}
}

func (w *answerWatcher) WriteHeader(status int) {
	w.note(status)
	w.ResponseWriterWrapper.WriteHeader(status)
}

func (w *answerWatcher) Write(p []byte) (int, error) {
	w.note(http.StatusOK)
	return w.ResponseWriterWrapper.Write(p)
}

// ReadFrom keeps the way by which files are sent without copying.
func (w *answerWatcher) ReadFrom(r io.Reader) (int64, error) {
	w.note(http.StatusOK)
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// note takes the first final status: 1xx come before it, but for the one that
// ends HTTP on the connection.
func (w *answerWatcher) note(status int) {
	if w.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		w.status = status
		if w.noted != nil {
			w.noted()
		}
	}
}
