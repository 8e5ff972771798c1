package caddysse

import (
	"bufio"
	"net"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/stream"
)

// passOrRefuse passes a request to the next handler and refuses it if no
// handler responds: Caddy would respond with an empty 200. It doesn't pass a
// request whose URL contained a token.
func passOrRefuse(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, refuse http.HandlerFunc) error {
	if tokenWasInURL(r) {
		refuseTokenInURL(w, r)
		return nil
	}
	response := recordResponse(w, nil)
	if err := next.ServeHTTP(response, r); err != nil {
		return err
	}
	if response.status() == 0 {
		refuse(w, r)
	}
	return nil
}

// refuseMethod refuses requests with other methods than the allowed ones.
func refuseMethod(allowed ...string) http.HandlerFunc {
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

// passVarying passes a request for no stream to the next handler. The response varies
// by Accept: a cache would otherwise answer the next request for a stream with it.
func passVarying(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	response := recordResponse(w, func(status int, header http.Header) {
		if isFinal(status) {
			addVary(header, "Accept")
		}
	})
	err := next.ServeHTTP(response, r)
	if response.status() == 0 { // Caddy responds, or an error route
		addVary(w.Header(), "Accept")
	}
	return err
}

// addVary adds a header's name to a response's Vary, unless that has it already.
func addVary(response http.Header, name string) {
	for _, value := range response["Vary"] {
		for member := range strings.SplitSeq(value, ",") {
			if member = strings.TrimSpace(member); member == "*" || strings.EqualFold(member, name) {
				return
			}
		}
	}
	response.Add("Vary", name)
}

// responseRecorder is Caddy's recorder, which passes the response on, for
// handlers that flush before they write a status: the server sends a 200 then,
// while Caddy's recorder alone would drop the flush.
type responseRecorder struct {
	*caddyhttp.ResponseWriterWrapper // around Caddy's recorder
	recorder                         caddyhttp.ResponseRecorder
	hijacked                         bool
}

// recordResponse returns a recorder that calls onStatus, if it isn't nil, with
// each status before it is sent, 1xx included.
func recordResponse(w http.ResponseWriter, onStatus func(status int, header http.Header)) *responseRecorder {
	recorder := caddyhttp.NewResponseRecorder(w, nil, func(status int, header http.Header) (buffer bool) {
		if onStatus != nil {
			onStatus(status, header)
		}
		return false
	})
	return &responseRecorder{
		ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: recorder},
		recorder:              recorder,
	}
}

// status returns the final status, or zero if the handler has written none. A
// hijacked connection counts as 101, since the module doesn't see its bytes.
func (w *responseRecorder) status() int {
	switch status := w.recorder.Status(); {
	case isFinal(status):
		return status
	case w.hijacked:
		return http.StatusSwitchingProtocols
	default:
		return 0
	}
}

// FlushError writes the status 200, as the server does, if there is none.
func (w *responseRecorder) FlushError() error {
	if w.status() == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return http.NewResponseController(w.recorder).Flush()
}

// Hijack implements [http.Hijacker].
func (w *responseRecorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffer, err := http.NewResponseController(w.recorder).Hijack()
	w.hijacked = w.hijacked || err == nil
	return conn, buffer, err
}

// isFinal reports whether a status ends the HTTP response: 1xx are interim,
// apart from 101, which ends HTTP on the connection.
func isFinal(status int) bool {
	return status >= 200 || status == http.StatusSwitchingProtocols
}
