package caddysse

import (
	"maps"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/access"
)

// servePreflight responds to a preflight for the method that opens streams. The
// preflight may be about an ordinary request to the same URL. What the rule
// permits to a named origin covers that, too. But any origin is permitted no
// credentials, and the backend may permit them: it is asked first then, and its
// response goes to the client if it permits what the rule doesn't.
func (s *ruleStreams) servePreflight(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if s.cors.IsForAny() {
		backend := &preflightWriter{w: w, request: r, header: maps.Clone(w.Header())}
		if err := next.ServeHTTP(backend, r); backend.passes {
			return err
		}
	}
	s.cors.RespondToPreflight(w, r)
	return nil
}

// preflightWriter passes the backend's response to a preflight on if it permits
// credentials, and discards any other.
type preflightWriter struct {
	w       http.ResponseWriter
	request *http.Request
	header  http.Header
	begun   bool
	passes  bool
}

func (p *preflightWriter) Header() http.Header { return p.header }

func (p *preflightWriter) WriteHeader(status int) {
	if p.begun || !isFinal(status) {
		return
	}
	p.begun = true
	if p.passes = access.PermitsCredentials(p.request, status, p.header); p.passes {
		clear(p.w.Header())
		maps.Copy(p.w.Header(), p.header)
		p.w.WriteHeader(status)
	}
}

func (p *preflightWriter) Write(b []byte) (int, error) {
	p.WriteHeader(http.StatusOK)
	if p.passes {
		return p.w.Write(b)
	}
	return len(b), nil
}

// FlushError begins the response, as a server's own writer does.
func (p *preflightWriter) FlushError() error {
	p.WriteHeader(http.StatusOK)
	if p.passes {
		return http.NewResponseController(p.w).Flush()
	}
	return nil
}
