package caddysse

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(MatchHealthy{})
}

// MatchHealthy matches requests while the hubs can store events and Caddy is
// not exiting. Use it for the health checks of a load balancer: `respond` with
// 503 where it doesn't match. It reveals nothing else.
//
// After a hub has failed to store an event, the matcher doesn't match for 30
// seconds, or until the hub stores an event. A hub that receives no requests
// because of the failure would otherwise never recover.
type MatchHealthy struct {
	// The hubs to check. Default: all hubs of the configuration.
	Hubs []string `json:"hubs,omitempty"`

	hubs []*sharedHub
}

// failureTTL is how long a hub counts as failing after it could not store an
// event, if none follows. It is longer than a load balancer takes to notice.
const failureTTL = 30 * time.Second

// CaddyModule returns the module's information.
func (MatchHealthy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers.sse_healthy", New: func() caddy.Module { return new(MatchHealthy) }}
}

// Provision looks the hubs up.
func (m *MatchHealthy) Provision(ctx caddy.Context) error {
	module, err := ctx.App("sse")
	if err != nil {
		return err
	}
	app := module.(*App)
	for _, name := range m.Hubs {
		h, err := app.hub(name)
		if err != nil {
			return err
		}
		m.hubs = append(m.hubs, h)
	}
	if len(m.Hubs) == 0 {
		for _, h := range app.shared {
			m.hubs = append(m.hubs, h)
		}
	}
	return nil
}

// MatchWithError implements [caddyhttp.RequestMatcherWithError].
func (m *MatchHealthy) MatchWithError(*http.Request) (bool, error) {
	if caddy.Exiting() {
		return false, nil
	}
	for _, h := range m.hubs {
		if at, err := h.Failure(); err != nil && time.Since(at) < failureTTL {
			return false, nil
		}
	}
	return true, nil
}

// UnmarshalCaddyfile parses the matcher:
//
//	sse_healthy [<hub>...]
func (m *MatchHealthy) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() { // the matcher may be repeated
		m.Hubs = append(m.Hubs, d.RemainingArgs()...)
		if d.NextBlock(d.Nesting()) {
			return d.Errf("sse_healthy has no options: write `sse_healthy`, or `sse_healthy <hub>...`")
		}
	}
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner                 = (*MatchHealthy)(nil)
	_ caddyfile.Unmarshaler             = (*MatchHealthy)(nil)
	_ caddyhttp.RequestMatcherWithError = (*MatchHealthy)(nil)
)
