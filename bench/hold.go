package main

import (
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(hold{})
	httpcaddyfile.RegisterHandlerDirective("hold", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return hold{}, nil
	})
}

// hold is a handler with the simplest stream, an event and then heartbeats. It
// shows the cost of Caddy and the protocol without the module.
type hold struct{}

// CaddyModule returns the module's information.
func (hold) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.hold", New: func() caddy.Module { return new(hold) }}
}

func (hold) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	w.Header().Set("Content-Type", "text/event-stream")
	heartbeat := time.NewTicker(15 * time.Second)
	defer heartbeat.Stop()
	for text := "data: held\n\n"; ; text = "retry: 3000\n" {
		if _, err := io.WriteString(w, text); err != nil {
			return nil
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return nil
		}
		select {
		case <-heartbeat.C:
		case <-r.Context().Done():
			return nil
		}
	}
}
