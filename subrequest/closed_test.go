package subrequest_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

func TestOnlyConnectionClosedWithoutResponseIsClosedWithoutResponse(t *testing.T) {
	reset := &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	for _, test := range []struct {
		err    error
		closed bool
	}{
		{io.EOF, true},
		{fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", reset), true},
		{&net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}, true},
		{errors.New("http: server closed idle connection"), true},
		{errors.New(`http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR, debug=""`), true},
		{errors.New("http2: client connection lost"), true},
		{errors.New("stream error: stream ID 3; REFUSED_STREAM; received from peer"), true},
		{errors.New("stream error: stream ID 3; INTERNAL_ERROR; received from peer"), false},
		{reverseproxy.NewDialError(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}), false},
		{reverseproxy.NewDialError(reset), false},
		{fmt.Errorf("net/http: HTTP/1.x transport connection broken: %w", io.ErrUnexpectedEOF), false}, // it has begun to respond
		{errors.New(`malformed HTTP response "220 smtp"`), false},
		{errors.New("tls: failed to verify certificate"), false},
		{errors.New("no upstreams available"), false},
	} {
		resp, err := do(t, func(http.ResponseWriter, *http.Request) error {
			return caddyhttp.Error(http.StatusBadGateway, test.err)
		})
		if got := subrequest.ClosedWithoutResponse(resp); got != test.closed || err != nil {
			t.Errorf("%v: %v, want %v (%v)", test.err, got, test.closed, err)
		}
	}
	for name, resp := range map[string]*subrequest.Response{
		"nothing":                nil,
		"the backend's 502":      {Status: http.StatusBadGateway},
		"a timeout":              {Status: http.StatusGatewayTimeout, Err: caddyhttp.Error(http.StatusGatewayTimeout, io.EOF)},
		"a client that has left": {Status: 499, Err: caddyhttp.Error(499, io.EOF)},
	} {
		if subrequest.ClosedWithoutResponse(resp) {
			t.Errorf("%s is a closed connection", name)
		}
	}
}
