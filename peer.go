package caddysse

import (
	"context"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// connKey is the context key of the connection that a request came on.
type connKey struct{}

// rememberConnections has the requests of a server know their connections. Each
// of a server's rules asks for it; one is enough.
func rememberConnections(server *caddyhttp.Server) {
	server.RegisterConnContext(func(ctx context.Context, c net.Conn) context.Context {
		if ctx.Value(connKey{}) != nil {
			return ctx
		}
		return context.WithValue(ctx, connKey{}, c)
	})
}

// maxUnsent is how many bytes the system keeps of what a client has no room for
// yet. What is on the way is not among them, so that this slows down nobody who
// reads. Linux alone would keep up to 4 MiB for each who doesn't.
const maxUnsent = 128 << 10

// boundPeer has the system give up on the connection of a stream whose client
// has acknowledged nothing for so long, or has had no room for more. Without it
// a client that has vanished would be noticed after a quarter of an hour:
// heartbeats keep data on the way, and keep-alive is only for connections that
// have none. It also ends HTTP/2 connections that nobody reads: there a write's
// deadline resets a stream, which can't be told to the client any more. HTTP/3
// has QUIC's idle timeout for that.
//
// Over HTTP/1 the connection is as it was before when release is called: other
// requests may come on it, whose client may pause a download for longer. Over
// HTTP/2 it has streams for as long as anybody is there.
//
// What can't be set is left as it is: the connection is none of TCP (or is one
// of Multipath TCP, which knows no such time), a listener wrapper hides it, or
// the system has no such option.
func boundPeer(r *http.Request, timeout time.Duration) (release func()) {
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	socket, ok := bare(conn).(syscall.Conn)
	if !ok {
		return func() {}
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return func() {}
	}
	_ = raw.Control(func(fd uintptr) { boundSocket(fd, timeout, maxUnsent) }) // or it is closed
	return func() {
		if r.ProtoMajor == 1 {
			_ = raw.Control(func(fd uintptr) { boundSocket(fd, 0, 0) })
		}
	}
}

// bare is the connection below TLS and the PROXY protocol.
func bare(c net.Conn) net.Conn {
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
