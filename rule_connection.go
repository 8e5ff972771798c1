package caddysse

import (
	"context"
	"net"
	"net/http"
	"reflect"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/stream"
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

// setNoDeadlines makes Caddy set no deadline for each write of a response, which
// would cost more than the write itself over HTTP/2: a stream has a timeout of its
// own. The write timeout of the server stays.
func setNoDeadlines(r *http.Request) (restore func()) {
	_, idle := caddyhttp.IdleTimeoutsFromContext(r.Context())
	if idle == nil {
		return func() {}
	}
	control := idle.Ctrl
	_ = control.SetWriteDeadline(idle.Deadline.HardDeadline) // in place of that of an earlier write
	idle.Ctrl = http.NewResponseController(noDeadlines{idle.ResponseWriter})
	return func() { idle.Ctrl = control }
}

// noDeadlines is a writer whose deadlines have no effect.
type noDeadlines struct{ http.ResponseWriter }

// SetWriteDeadline is called by [http.ResponseController].
func (noDeadlines) SetWriteDeadline(time.Time) error { return nil }

// takeableConnection returns the connection of a request if a stream may take it
// over from the server, and otherwise nil: it is HTTP/1 without TLS, or HTTP/3, and
// each writer around the server's leaves the bytes of a body as they are. That of an
// encode directive has decided so once the headers are sent: the stream asks it then.
// isRecorded means that a handler, or the access log, records the response until it
// ends. They can't record what a stream sends over HTTP/3 after it has taken over.
func takeableConnection(w http.ResponseWriter, r *http.Request) (conn stream.Connection, isRecorded bool) {
	isRecorded, ok := inspectWriters(w)
	leavesBody := func() bool { return !isEncoding(w) }
	switch {
	case !ok:
		return nil, isRecorded
	case r.ProtoMajor == 3 && !isRecorded:
		return stream.TakeOverIf(stream.HTTP3(w), leavesBody), false
	case r.ProtoMajor != 1 || r.TLS != nil:
		return nil, isRecorded
	}
	tcp, _ := r.Context().Value(connKey{}).(net.Conn)
	if behindProxy, ok := tcp.(interface{ Raw() net.Conn }); ok { // by the PROXY protocol
		tcp = behindProxy.Raw()
	}
	return stream.TakeOverIf(stream.TCP(tcp), leavesBody), isRecorded
}

// inspectWriters reports whether a writer around the server's records the response,
// and whether all leave the bytes of a body as they are, unless isEncoding says
// otherwise.
func inspectWriters(w http.ResponseWriter) (isRecorded, leaveBody bool) {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return isRecorded, true
		}
		if _, ok := w.(caddyhttp.ResponseRecorder); ok {
			isRecorded = true
		} else if !leavesBody(w) && typeName(w) != encodeWriter {
			return isRecorded, false
		}
		w = wrapper.Unwrap()
	}
}

// leavesBody reports whether a writer is one of Caddy's that change no bytes of a
// body. Their types are not exported.
func leavesBody(w http.ResponseWriter) bool {
	switch typeName(w) {
	case caddyhttpPath + ".ResponseWriterWrapper", caddyhttpPath + ".IdleTimeoutWriter", caddyhttpPath + ".readDeadlineWriter", caddyhttpPath + "/headers.responseWriterWrapper":
		return true
	default:
		return false
	}
}

const (
	caddyhttpPath = "github.com/caddyserver/caddy/v2/modules/caddyhttp"
	encodeWriter  = caddyhttpPath + "/encode.responseWriter"
)

// typeName returns the path and the name of the type to which w is a pointer.
func typeName(w http.ResponseWriter) string {
	t := reflect.TypeOf(w)
	if t.Kind() != reflect.Pointer {
		return ""
	}
	return t.Elem().PkgPath() + "." + t.Elem().Name()
}

// isEncoding reports whether the writer of an encode directive changes the body of a
// response whose headers are sent, or may yet do so. Such a writer has an encoder. It
// makes one at the latest with the headers, but not for a response with no-transform,
// which a header directive may have removed.
func isEncoding(w http.ResponseWriter) bool {
	for {
		if typeName(w) == encodeWriter {
			v := reflect.ValueOf(w).Elem()
			encoder, hasDecided := v.FieldByName("w"), v.FieldByName("wroteHeader")
			if encoder.Kind() != reflect.Interface || !encoder.IsNil() || hasDecided.Kind() != reflect.Bool || !hasDecided.Bool() {
				return true
			}
		}
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = wrapper.Unwrap()
	}
}
