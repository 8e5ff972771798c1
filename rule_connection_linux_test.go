package caddysse_test

import (
	"crypto/tls"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	caddysse "github.com/caddy-sse/caddy-sse"
)

// Later requests on an HTTP/1 connection have the default timeout again.
func TestConnectionTimeoutAppliesOnlyWhileStreamsAreOpen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	timeout := func() (ms int) {
		err := raw.Control(func(fd uintptr) { ms, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) })
		if err != nil {
			t.Fatal(err)
		}
		return ms
	}
	for proto, after := range map[int]int{1: 0, 2: 30_000} {
		r := httptest.NewRequest("GET", "/", nil)
		r.ProtoMajor = proto
		release := caddysse.LimitConnection(r, tls.Server(conn, new(tls.Config)), 30*time.Second)
		if ms := timeout(); ms != 30_000 {
			t.Errorf("HTTP/%d: while there is a stream it is %d ms", proto, ms)
		}
		if release(); timeout() != after {
			t.Errorf("HTTP/%d: after it, it is %d ms, want %d", proto, timeout(), after)
		}
	}
}
