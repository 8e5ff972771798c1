package main

import (
	"net/http"

	"github.com/caddy-sse/caddy-sse/internal/connection"
)

// protocol is the HTTP version of clients' connections.
type protocol struct {
	name          string
	proto         string // of the responses
	perConnection int    // maximum of streams on a connection
	connect       func() (*connection.Connection, error)
}

// protocols returns the three protocols. HTTP/2 and HTTP/3 have perConnection
// streams on a connection.
func protocols(perConnection int) (h1, h2, h3 *protocol) {
	return &protocol{"HTTP/1.1, cleartext", "HTTP/1.1", 1, overTCP((*http.Protocols).SetHTTP1)},
		&protocol{"HTTP/2, TLS", "HTTP/2.0", perConnection, overTCP((*http.Protocols).SetHTTP2)},
		&protocol{"HTTP/3", "HTTP/3.0", perConnection, func() (*connection.Connection, error) { return connection.QUIC(0) }}
}

func overTCP(speak func(p *http.Protocols, on bool)) func() (*connection.Connection, error) {
	return func() (*connection.Connection, error) { return connection.TCP(speak), nil }
}

// base returns Caddy's base URL for the protocol.
func (w *protocol) base(c *caddyProcess) string {
	if w.proto == "HTTP/1.1" {
		return c.url
	}
	return c.tls
}
