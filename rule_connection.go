package caddysse

import (
	"context"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// connKey is the context key of the connection of a request.
type connKey struct{}

// storeConnections adds the connections of a server to the contexts of their
// requests. Each rule of the server calls it; the first call suffices.
func storeConnections(server *caddyhttp.Server) {
	server.RegisterConnContext(func(ctx context.Context, c net.Conn) context.Context {
		if ctx.Value(connKey{}) != nil {
			return ctx
		}
		return context.WithValue(ctx, connKey{}, c)
	})
}

// maxUnsent is how many bytes the system buffers that a client has no room for
// yet. Bytes in transit don't count, so that clients which read are not slowed
// down. By default, Linux would buffer up to 4 MiB for each client that doesn't.
const maxUnsent = 128 << 10

// limitConnection sets the timeout of a stream's TCP connection. The system closes
// the connection when the client has acknowledged no data, or had no room for
// more, for that long. Without the timeout, the server would notice a vanished
// client only after a quarter of an hour: heartbeats keep data in transit, and TCP
// keep-alive works only without. The timeout also ends an HTTP/2 connection from
// which the client doesn't read: there a write's deadline resets the stream, but
// the reset can't reach the client. HTTP/3 has QUIC's idle timeout.
//
// Over HTTP/1, release restores the system's defaults: the client may send
// other requests on the connection, and pause a download for longer. Over
// HTTP/2 the connection has streams as long as it has clients.
//
// limitConnection has no effect if the connection is not TCP, or is Multipath
// TCP, which has no such option, if a listener wrapper hides it, or if the
// system has no such option.
func limitConnection(r *http.Request, timeout time.Duration) (release func()) {
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	socket, ok := bareConn(conn).(syscall.Conn)
	if !ok {
		return func() {}
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return func() {}
	}
	_ = raw.Control(func(fd uintptr) { limitSocket(fd, timeout, maxUnsent) }) // or it is closed
	return func() {
		if r.ProtoMajor == 1 {
			_ = raw.Control(func(fd uintptr) { limitSocket(fd, 0, 0) })
		}
	}
}

// bareConn returns the connection below TLS and the PROXY protocol.
func bareConn(c net.Conn) net.Conn {
	for {
		switch wrapped := c.(type) {
		case interface{ NetConn() net.Conn }:
			c = wrapped.NetConn()
		case interface{ Raw() net.Conn }:
			c = wrapped.Raw()
		default:
			return c
		}
	}
}
