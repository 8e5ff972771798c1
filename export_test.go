package caddysse

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/hub"
)

// HubNamed returns the hub of that name, or nil.
func HubNamed(wanted string) (found *hub.Hub) {
	eachHub(func(name string, s *sharedHub) {
		if name == wanted {
			found = s.Hub
		}
	})
	return found
}

// WriteTimeout limits one write to a client.
var WriteTimeout = &writeTimeout

// SetWriteTimeout sets the limit of one write to a client, for the sites that a
// test starts afterwards.
func SetWriteTimeout(t testing.TB, d time.Duration) {
	before := writeTimeout
	writeTimeout = d
	t.Cleanup(func() { writeTimeout = before })
}

// SetBodyTime sets the deadline of request bodies, apart from their size, for
// the sites that a test starts afterwards.
func SetBodyTime(t testing.TB, d time.Duration) {
	before := bodyTime
	bodyTime = d
	t.Cleanup(func() { bodyTime = before })
}

// LimitConnection sets the timeout of a stream's connection.
func LimitConnection(r *http.Request, c net.Conn, timeout time.Duration) (release func()) {
	return limitConnection(r.WithContext(context.WithValue(r.Context(), connKey{}, c)), timeout)
}
