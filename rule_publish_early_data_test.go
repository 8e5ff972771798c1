package caddysse_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// delayedConn is a client's socket that receives nothing until it is opened:
// until then the server has the client's early data only.
type delayedConn struct {
	net.PacketConn // without the methods with which quic-go would bypass it
	heard          context.Context
}

func (d delayedConn) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := d.PacketConn.ReadFrom(p)
	<-d.heard.Done()
	return n, from, err
}

// earlyClient publishes over new HTTP/3 connections that resume earlier TLS
// sessions.
type earlyClient struct {
	*site
	log string // a file with a line for each response
	tls *tls.Config
}

func newEarlyClient(s *site, log string) *earlyClient {
	return &earlyClient{s, log, &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // the test's own certificate
		ServerName:         "localhost", NextProtos: []string{http3.NextProtoH3}, ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}}
}

// answered returns the number of responses.
func (c *earlyClient) answered() int {
	content, _ := os.ReadFile(c.log)
	return strings.Count(string(content), `"handled request"`)
}

// publish sends a form: as early data, or after the handshake.
func (c *earlyClient) publish(t *testing.T, form string, early bool) (status int, body string) {
	t.Helper()
	heard, hear := context.WithCancel(context.Background())
	defer hear()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	transport := &quic.Transport{Conn: delayedConn{socket, heard}}
	defer transport.Close()
	defer hear() // before the transport waits for its reader
	if !early {
		hear()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := transport.DialEarly(ctx, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: c.https}, c.tls, new(quic.Config))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseWithError(0, "") }()
	if !early {
		<-conn.HandshakeComplete()
	}
	before := c.answered()
	stream, err := new(http3.Transport).NewClientConn(conn).OpenRequestStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, stream, form)
	waitFor(t, "the request to be answered", func() bool { return c.answered() > before })
	hear()
	resp, err := stream.ReadResponse()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if early && !conn.ConnectionState().Used0RTT {
		t.Fatal("it was no early data")
	}
	waitFor(t, "a session to resume", func() bool { _, ok := c.tls.ClientSessionCache.Get("localhost"); return ok })
	return resp.StatusCode, string(content)
}

func (c *earlyClient) write(t *testing.T, stream *http3.RequestStream, form string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url("HTTP/3.0", "/publish"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Body, req.ContentLength = http.NoBody, int64(len(form)) // the body follows
	req.Header.Set("Authorization", "Bearer "+publishToken)
	req.Header.Set("Content-Type", formType)
	if err := stream.SendRequestHeader(req); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Write([]byte(form)); err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
}

// Anyone who captures early data can replay it.
func TestHTTP3EarlyDataNeverPublishesTwice(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	s := startSite(t, "log access {\n output file "+log+" {\n roll_disabled\n }\n include http.log.access\n }", publishSite+"\nlog")
	events := s.open("HTTP/2.0", "/open")
	c := newEarlyClient(s, log)
	if status, body := c.publish(t, "topic=a&data=late", false); status != http.StatusOK {
		t.Fatalf("after the handshake: %d %q", status, body)
	}
	events.expect("", "late")
	if status, body := c.publish(t, "topic=a&data=early", true); status != http.StatusTooEarly {
		t.Errorf("without an id: %d %q", status, body)
	}
	for i := range 2 {
		status, body := c.publish(t, "topic=a&id=i1&data=once", true)
		if status != http.StatusOK || strings.Contains(body, "duplicates") != (i == 1) {
			t.Errorf("with an id: %d %q", status, body)
		}
	}
	events.expect("", "once")
	c.publish(t, "topic=a&data=last", false)
	events.expect("", "last")
}
