package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync/atomic"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// way is how clients connect.
type way struct {
	name          string
	proto         string // of the answers
	perConnection int    // streams on a connection, at most
	connect       func() (*connection, error)
}

// ways with so many streams on the connections of those that can have several.
func ways(perConnection int) (h1, h2, h3 *way) {
	return &way{"HTTP/1.1, in clear", "HTTP/1.1", 1, overTCP((*http.Protocols).SetHTTP1)},
		&way{"HTTP/2, TLS", "HTTP/2.0", perConnection, overTCP((*http.Protocols).SetHTTP2)},
		&way{"HTTP/3", "HTTP/3.0", perConnection, overQUIC}
}

// base is where the way leads to.
func (w *way) base(c *caddyProcess) string {
	if w.proto == "HTTP/1.1" {
		return c.url
	}
	return c.tls
}

// connection is one to Caddy, made for its first request.
type connection struct {
	client *http.Client
	// leave closes the connection. cut has the other end find out for itself:
	// TCP is reset, and QUIC falls silent.
	leave, cut func()
}

// Without a cache of sessions each handshake is a whole one.
var insecure = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a certificate of this run's own

func overTCP(speak func(p *http.Protocols, on bool)) func() (*connection, error) {
	return func() (*connection, error) {
		protocols := new(http.Protocols)
		speak(protocols, true)
		var dialed atomic.Pointer[net.TCPConn]
		transport := &http.Transport{
			TLSClientConfig: insecure, Protocols: protocols, DisableCompression: true,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, loopback(address))
				if err == nil {
					dialed.Store(conn.(*net.TCPConn))
				}
				return conn, err
			},
		}
		end := func(rudely bool) {
			conn := dialed.Load()
			if conn == nil {
				return
			}
			if rudely {
				_ = conn.SetLinger(0)
			}
			conn.Close()
			transport.CloseIdleConnections()
		}
		return &connection{
			client: &http.Client{Transport: transport},
			leave:  func() { transport.CloseIdleConnections(); end(false) },
			cut:    func() { end(true) },
		}, nil
	}
}

// overQUIC sends no keep-alives: only the streams' heartbeats keep it.
func overQUIC() (*connection, error) {
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	socket := &quic.Transport{Conn: udp}
	transport := &http3.Transport{
		TLSClientConfig: insecure, QUICConfig: new(quic.Config), DisableCompression: true,
		Dial: func(ctx context.Context, address string, tls *tls.Config, config *quic.Config) (*quic.Conn, error) {
			to, err := net.ResolveUDPAddr("udp4", loopback(address))
			if err != nil {
				return nil, err
			}
			return socket.DialEarly(ctx, to, tls, config)
		},
	}
	end := func() {
		transport.Close()
		socket.Close()
		udp.Close()
	}
	return &connection{
		client: &http.Client{Transport: transport},
		leave:  end,
		cut:    func() { udp.Close(); end() },
	}, nil
}

// loopback is where localhost is.
func loopback(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return net.JoinHostPort("127.0.0.1", port)
}
