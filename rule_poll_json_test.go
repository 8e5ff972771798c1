package caddysse_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/fcgi"
	"sync/atomic"
	"testing"
)

// startHTTP10 starts a backend whose bodies end with their connection, as those
// of HTTP/1.0 do: nobody can tell that one was cut.
func startHTTP10(t *testing.T, content func() string) string {
	l := listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					fmt.Fprintf(conn, "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n%s", content())
				}
			}()
		}
	}()
	return l.Addr().String()
}

// startFastCGI starts a backend that speaks FastCGI, as PHP does.
func startFastCGI(t *testing.T, content func() string) string {
	l := listen(t)
	go func() {
		_ = fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, content())
		}))
	}()
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestCutJSONIsStaleAndPassesToOrdinaryRequests(t *testing.T) {
	const whole, cut, next = `{"orders":[{"id":1,"status":"shipped"}]}`, `{"orders":[{"id":1,"sta`, `{"orders":[]}`
	for name, backend := range map[string]struct {
		start     func(*testing.T, func() string) string
		transport string
	}{
		"HTTP/1.0": {startHTTP10, ""},
		"FastCGI":  {startFastCGI, "{\n transport fastcgi\n }"},
	} {
		t.Run(name, func(t *testing.T) {
			var content atomic.Value
			content.Store(whole)
			addr := backend.start(t, func() string { return content.Load().(string) })
			s := startSite(t, "", fmt.Sprintf("sse /api/* {\n poll 200ms {\n absorb\n }\n }\n reverse_proxy %s %s", addr, backend.transport))
			for _, protocol := range protocols {
				content.Store(whole)
				path := "/api/" + protocol[5:]
				c := s.open(protocol, path)
				c.expect("", whole)
				content.Store(cut)
				if e := c.next(); e.Name != "stale" {
					t.Fatalf("%s: got event %q with data %q", protocol, e.Name, e.Data)
				}
				if resp := s.doOver(protocol, "GET", path, "", "Cache-Control", "no-cache"); resp.StatusCode != http.StatusOK || resp.body != cut {
					t.Errorf("%s: an ordinary request got %d %q", protocol, resp.StatusCode, resp.body)
				}
				content.Store(next)
				c.expect("", next)
				c.close()
			}
		})
	}
}
