package caddysse

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A request's body must arrive within bodyTime plus one second for each
// bodyRate bytes received. Caddy's own timeout is for each read: a client that
// sends a byte every 59 s would hold a request for years. Tests change bodyTime.
var bodyTime = 30 * time.Second

const bodyRate = 16 << 10

// limitBodyTime sets the deadline of a request's body until the caller calls
// done. It has no effect if the server's idle timeouts are off.
func limitBodyTime(r *http.Request) (done func()) {
	idle, _ := caddyhttp.IdleTimeoutsFromContext(r.Context())
	if idle == nil {
		return func() {}
	}
	return idle.Override(bodyTime, bodyRate)
}
