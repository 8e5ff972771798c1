package caddysse

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"
)

// WriteTimeout is how long a client may block a write.
var WriteTimeout = &writeTimeout

// SetWriteTimeout sets how long a client may block a write, for the sites that
// a test starts afterwards.
func SetWriteTimeout(t testing.TB, d time.Duration) {
	before := writeTimeout
	writeTimeout = d
	t.Cleanup(func() { writeTimeout = before })
}

// SetBodyTime sets how long a body may take to come, apart from its size, for
// the sites that a test starts afterwards.
func SetBodyTime(t testing.TB, d time.Duration) {
	before := bodyTime
	bodyTime = d
	t.Cleanup(func() { bodyTime = before })
}

// BoundPeer is what is done to a stream's connection.
func BoundPeer(r *http.Request, c net.Conn, timeout time.Duration) (release func()) {
	return limitConnection(r.WithContext(context.WithValue(r.Context(), connKey{}, c)), timeout)
}
