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

// deaf is a client's socket that hears nothing before its time: until then the
// server has what the client has sent at first, its early data, and no more.
type deaf struct {
	net.PacketConn // and nothing by which quic-go would read otherwise
	heard          context.Context
}

func (d deaf) ReadFrom(p []byte) (int, net.Addr, error) {
	n, from, err := d.PacketConn.ReadFrom(p)
	<-d.heard.Done()
	return n, from, err
}

// earlyClient publishes over HTTP/3 connections of its own, which resume the
// sessions of those before.
type earlyClient struct {
	*site
	log string // a file that has a line for each request that was answered
	tls *tls.Config
}

func newEarlyClient(s *site, log string) *earlyClient {
	return &earlyClient{s, log, &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // a certificate of this test's own
		ServerName:         "localhost", NextProtos: []string{http3.NextProtoH3}, ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}}
}

// answered is how many requests were.
func (c *earlyClient) answered() int {
	content, _ := os.ReadFile(c.log)
	return strings.Count(string(content), `"handled request"`)
}

// publish sends a form: as early data, or when the handshake is complete.
func (c *earlyClient) publish(t *testing.T, form string, early bool) (status int, body string) {
	t.Helper()
	heard, hear := context.WithCancel(context.Background())
	defer hear()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	transport := &quic.Transport{Conn: deaf{socket, heard}}
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
	req.Body, req.ContentLength = http.NoBody, int64(len(form)) // which follows
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

// The client speaks before it has heard the server: what it says so can be sent
// again by anyone who has caught it.
func TestHTTP3EarlyDataNeverPublishesTwice(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	s := startSite(t, "log access {\n output file "+log+" {\n roll_disabled\n }\n include http.log.access\n }", publishing+"\nlog")
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
