package subrequest

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// ClosedWithoutResponse reports whether the backend has closed the connection of a
// subrequest without a byte of a response, as a server does whose time for idle
// connections is over at the moment when the request comes. Then a request that
// is safe to repeat may be made again at once. A backend that accepts no
// connection, or takes too long, doesn't count.
func ClosedWithoutResponse(resp *Response) bool {
	if resp == nil || resp.Status != http.StatusBadGateway || resp.Err == nil || errors.As(resp.Err, new(reverseproxy.DialError)) {
		return false
	}
	for _, closed := range []error{io.EOF, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE} {
		if errors.Is(resp.Err, closed) {
			return true
		}
	}
	for _, text := range closedTexts {
		if strings.Contains(resp.Err.Error(), text) {
			return true
		}
	}
	return false
}

// closedTexts are in the errors of net/http, and of its HTTP/2 client, that have
// no type of their own.
var closedTexts = []string{
	"server closed idle connection",
	"http2: client connection lost",
	"http2: client connection force closed",
	"http2: server sent GOAWAY and closed the connection",
	"REFUSED_STREAM", // RFC 9113 §8.7
}
