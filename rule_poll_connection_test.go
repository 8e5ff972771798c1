package caddysse_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// closingBackend is a server that closes a connection when the next request comes
// on it, without a byte of a response, as a server does whose time for idle
// connections is over at that moment.
type closingBackend struct {
	served, closed atomic.Int64
	reset          bool // it closes with RST instead of FIN
	begun          bool // it has begun to respond
	always         atomic.Bool
}

func (b *closingBackend) start(t *testing.T) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { b.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		serving.Wait()
	})
	return l.Addr().String()
}

func (b *closingBackend) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for n := 0; ; n++ {
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		if n > 0 || b.always.Load() {
			b.closed.Add(1)
			if b.reset {
				_ = conn.(*net.TCPConn).SetLinger(0)
			}
			if b.begun {
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Le")
			}
			return
		}
		body := fmt.Sprint(b.served.Add(1))
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}

func TestConnectionThatBackendClosesAsPollIsSentIsNoOutage(t *testing.T) {
	for _, reset := range []bool{false, true} {
		for _, method := range []string{http.MethodPost, http.MethodGet} {
			b := &closingBackend{reset: reset}
			s := startSite(t, "", fmt.Sprintf("sse /api/* {\n poll 200ms {\n method %s\n }\n }\n reverse_proxy %s", method, b.start(t)))
			c, err := s.tryOpenBy(method, `{"query":"{ a }"}`, "HTTP/1.1", "/api/x", "Content-Type", "application/json")
			if err != nil {
				t.Fatal(err)
			}
			for i := 1; i <= 5; i++ {
				c.expect("", fmt.Sprint(i))
			}
			c.close()
			if b.closed.Load() == 0 {
				t.Error("no connection was closed: the test shows nothing")
			}
		}
	}
}

func TestBackendThatClosesEachConnectionIsStale(t *testing.T) {
	for _, begun := range []bool{false, true} {
		b := &closingBackend{begun: begun}
		s := startSite(t, "", "sse /api/* {\n poll 200ms {\n method POST\n }\n }\n reverse_proxy "+b.start(t))
		c := s.post("HTTP/1.1", "/api/x", `{}`)
		c.expect("", "1")
		b.always.Store(true)
		before := b.closed.Load()
		for name := ""; name != "stale"; {
			name = c.next().Name
		}
		if n := b.closed.Load() - before; n > 4 { // each poll is made twice at most
			t.Errorf("begun: %v: %d requests until the document is stale", begun, n)
		}
		c.close()
	}
}
