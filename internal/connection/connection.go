// Package connection provides HTTP clients for tests and measurements that control
// how their connections close. They connect only to this machine.
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

// Connection is a single connection, which the client's first request opens. It
// leads to this machine for every host in a URL.
type Connection struct {
	Client *http.Client
	// Close closes the connection. Break resets a TCP connection, and lets a QUIC
	// connection fall silent.
	Close, Break func()
}

// Insecure returns a configuration that verifies no certificate. It has no session
// cache, so that each handshake is a full one. The caller may change it.
func Insecure() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the certificate is self-signed
}

// TCP returns a connection for one version of HTTP, which enable enables.
func TCP(enable func(p *http.Protocols, on bool)) *Connection {
	protocols := new(http.Protocols)
	enable(protocols, true)
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
	closeAll := func() {
		transport.CloseIdleConnections()
		if conn := dialed.Load(); conn != nil {
			conn.Close()
		}
	}
	reset := func() {
		if conn := dialed.Load(); conn != nil {
			_ = conn.SetLinger(0)
			conn.Close()
		}
		transport.CloseIdleConnections()
	}
	return &Connection{Client: &http.Client{Transport: transport}, Close: closeAll, Break: reset}
}

// QUIC returns a connection for HTTP/3 without keep-alives. It ends after idle
// without traffic, but after 30 s at most. Zero means 30 s.
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
	closeAll := func() {
		transport.Close()
		socket.Close()
		udp.Close()
	}
	reset := func() {
		udp.Close()
		closeAll()
	}
	return &Connection{Client: &http.Client{Transport: transport}, Close: closeAll, Break: reset}, nil
}

// loopback replaces the host of an address.
func loopback(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return net.JoinHostPort("127.0.0.1", port)
}
