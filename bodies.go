package caddysse

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A body that is read here must come within bodyTime, and a second more for
// each bodyRate bytes that have come. Caddy's own bound is on each read: a byte
// in 59 s would keep a request for years. Tests change the time.
var bodyTime = 30 * time.Second

const bodyRate = 16 << 10

// boundBody applies that to a request until done is called. Where the server's
// idle timeouts are off there is nothing to apply it with, and no bound.
func boundBody(r *http.Request) (done func()) {
	idle, _ := caddyhttp.IdleTimeoutsFromContext(r.Context())
	if idle == nil {
		return func() {}
	}
	return idle.Override(bodyTime, bodyRate)
}
