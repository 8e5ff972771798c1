package caddysse

import (
	"io"
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
	response := watchAnswer(w)
	if err := next.ServeHTTP(response, r); err != nil {
		return err
	}
	if response.status == 0 {
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
