// Package connection is for clients of a Caddy on this machine, in tests and
// measurements, that close their connections as they like.
package connection

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// Connection is one connection, made for its client's first request. Whatever
// host is asked for, it goes to this machine.
type Connection struct {
	Client *http.Client
	// Leave closes the connection, and Cut leaves it to the other end to find
	// out: TCP is reset, and QUIC falls silent.
	Leave, Cut func()
}

// Insecure is a configuration for one transport, which may change it. Without a
// cache of sessions each handshake is a whole one.
func Insecure() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a certificate of the run's own
}

// TCP returns a connection for one version of HTTP, which speak turns on.
func TCP(speak func(p *http.Protocols, on bool)) *Connection {
	protocols := new(http.Protocols)
	speak(protocols, true)
	var dialed atomic.Pointer[net.TCPConn]
	transport := &http.Transport{
		TLSClientConfig: Insecure(), Protocols: protocols, DisableCompression: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, loopback(address))
			if err != nil {
				return nil, err
			}
			dialed.Store(conn.(*net.TCPConn))
			return conn, nil
		},
	}
	leave := func() {
		transport.CloseIdleConnections()
		if conn := dialed.Load(); conn != nil {
			conn.Close()
		}
	}
	cut := func() {
		if conn := dialed.Load(); conn != nil {
			_ = conn.SetLinger(0)
			conn.Close()
		}
		transport.CloseIdleConnections()
	}
	return &Connection{Client: &http.Client{Transport: transport}, Leave: leave, Cut: cut}
}

// QUIC returns a connection for HTTP/3, without keep-alives: it ends when it is
// idle for so long, or for 30 s if that is less. Zero: 30 s.
func QUIC(idle time.Duration) (*Connection, error) {
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	socket := &quic.Transport{Conn: udp}
	transport := &http3.Transport{
		TLSClientConfig: Insecure(), DisableCompression: true,
		QUICConfig: &quic.Config{HandshakeIdleTimeout: 20 * time.Second, MaxIdleTimeout: idle}, // a machine may be busy
		Dial: func(ctx context.Context, address string, tls *tls.Config, config *quic.Config) (*quic.Conn, error) {
			to, err := net.ResolveUDPAddr("udp4", loopback(address))
			if err != nil {
				return nil, err
			}
			return socket.DialEarly(ctx, to, tls, config)
		},
	}
	leave := func() {
		transport.Close()
		socket.Close()
		udp.Close()
	}
	cut := func() {
		udp.Close()
		leave()
	}
	return &Connection{Client: &http.Client{Transport: transport}, Leave: leave, Cut: cut}, nil
}

// loopback is where every host is.
func loopback(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return net.JoinHostPort("127.0.0.1", port)
}
