package main

import (
	"net/http"

	"github.com/caddy-sse/caddy-sse/internal/connection"
)

// way is how clients connect.
type way struct {
	name          string
	proto         string // of the answers
	perConnection int    // streams on a connection, at most
	connect       func() (*connection.Connection, error)
}

// ways with so many streams on the connections of those that can have several.
func ways(perConnection int) (h1, h2, h3 *way) {
	return &way{"HTTP/1.1, in clear", "HTTP/1.1", 1, overTCP((*http.Protocols).SetHTTP1)},
		&way{"HTTP/2, TLS", "HTTP/2.0", perConnection, overTCP((*http.Protocols).SetHTTP2)},
		&way{"HTTP/3", "HTTP/3.0", perConnection, func() (*connection.Connection, error) { return connection.QUIC(0) }}
}

func overTCP(speak func(p *http.Protocols, on bool)) func() (*connection.Connection, error) {
	return func() (*connection.Connection, error) { return connection.TCP(speak), nil }
}

// base is where the way leads to.
func (w *way) base(c *caddyProcess) string {
	if w.proto == "HTTP/1.1" {
		return c.url
	}
	return c.tls
}
