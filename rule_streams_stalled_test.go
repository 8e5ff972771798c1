package caddysse_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"

	caddysse "github.com/caddy-sse/caddy-sse"
	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/event/eventtest"
	"github.com/caddy-sse/caddy-sse/internal/hostile"
)

// stalls are ways to open a stream of /stalled without reading it. Some return
// another stream on the same connection.
var stalls = []struct {
	name, proto string
	open        func(s *site) *client
}{
	{"HTTP/1.1", "1", stalledHTTP1},
	{"one HTTP/2 stream of two", "2", stalledHTTP2Stream},
	{"a whole HTTP/2 connection", "2", stalledHTTP2Connection},
	{"one HTTP/3 stream of two", "3", stalledHTTP3Stream},
}

func TestStalledClientLosesStreamAndDelaysNoOther(t *testing.T) {
	const size, most = 64 << 10, 64 << 20
	padding := strings.Repeat("x", size-16)
	for _, stall := range stalls {
		t.Run(stall.name, func(t *testing.T) {
			if runtime.GOOS != "linux" && stall.name == "a whole HTTP/2 connection" {
				return // only Linux ends it
			}
			caddysse.SetWriteTimeout(t, 3*time.Second)
			s, hub := stalledSite(t)
			readers := []*client{s.open("HTTP/1.1", "/events/1"), s.open("HTTP/2.0", "/events/2"), s.open("HTTP/3.0", "/events/3")}
			if c := stall.open(s); c != nil {
				readers = append(readers, c)
			}
			open := fmt.Sprintf("streams{proto=%q,rule=\"stalled\"}", stall.proto)
			waitFor(t, "the stalled stream is open", func() bool { return s.scrape(hub)[open] == 1 })

			published := 0
			for ; s.scrape(hub)[open] == 1; published += size {
				if published > most && stall.proto != "2" {
					time.Sleep(10 * time.Millisecond) // the buffers are full: only time ends the stream
				}
				data := fmt.Sprintf("%016d%s", published, padding)
				s.publish("", data)
				for _, c := range readers {
					c.expect("", data)
				}
			}
			metrics := s.scrape(hub)
			sent := metrics[`bytes_sent_total{rule="stalled"}`]
			if sent >= most {
				t.Errorf("a client that reads nothing was sent %.0f bytes", sent)
			}
			left, failed := metrics[`streams_ended_total{reason="client left",rule="stalled"}`], metrics[`streams_ended_total{reason="write failed",rule="stalled"}`]
			if left+failed != 1 {
				t.Errorf("the stalled stream ended otherwise: %v", metrics)
			}
			t.Logf("of %d KiB the stalled stream was sent %.0f KiB; it ended as %q", published>>10, sent/1024, map[bool]string{true: "write failed", false: "client left"}[failed == 1])
		})
	}
}

// stallable is a site with a stream that a test doesn't read, and others.
const stallable = `
		sse /hooks/* {
			hub %[1]s
			webhook {
				verify none
				topic news
			}
		}
		sse /events/* {
			hub %[1]s
			topic news
		}
		sse /stalled {
			hub %[1]s
			name stalled
			topic news
		}`

// stalledSite starts such a site with a hub of its own.
func stalledSite(t *testing.T) (s *site, hub string) {
	t.Helper()
	hub = newHubName()
	return watchedSite(t, "sse "+hub+" {\n history 16MiB\n }", fmt.Sprintf(stallable, hub)), hub
}

// Without a grace period, an exiting Caddy waits until all requests have ended.
func TestExitDoesNotWaitForStalledClients(t *testing.T) {
	for _, stall := range stalls {
		t.Run(stall.name, func(t *testing.T) {
			t.Setenv(crashWriteTimeout, "1h")
			const hub = "default"
			m := startMortal(t, "sse {\n history 16MiB\n }", fmt.Sprintf(stallable, hub))
			readers := []*client{m.open("HTTP/1.1", "/events/1"), m.open("HTTP/2.0", "/events/2"), m.open("HTTP/3.0", "/events/3")}
			if c := stall.open(m.site); c != nil {
				readers = append(readers, c)
			}
			open := fmt.Sprintf("streams{proto=%q,rule=\"stalled\"}", stall.proto)
			waitFor(t, "the stalled stream is open", func() bool { return m.scrape(hub)[open] == 1 })
			data := strings.Repeat("x", 64<<10)
			for range 64 { // more than the server buffers for a client
				m.publish("", data)
				for _, c := range readers {
					c.expect("", data)
				}
			}
			if m.scrape(hub)[open] != 1 {
				t.Fatal("the stalled stream has ended")
			}
			if err := m.child.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error)
			go func() { ended <- m.child.Wait() }()
			for _, c := range readers {
				c.ended()
			}
			if stall.proto == "3" { // Caddy waits until the client leaves, or for QUIC's idle timeout
				waitFor(t, "the stalled stream has ended", func() bool { return m.scrape(hub)[open] == 0 })
				_ = m.child.Process.Kill()
				<-ended
				return
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(20 * time.Second):
				t.Error("Caddy is still waiting")
				_ = m.child.Process.Kill()
				<-ended
			}
		})
	}
}

// tinyBuffer makes the system use its smallest receive buffer.
const tinyBuffer = 1

func (s *site) dial(port int) net.Conn {
	s.t.Helper()
	conn, err := hostile.Dial(fmt.Sprintf("127.0.0.1:%d", port), tinyBuffer)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

func stalledHTTP1(s *site) *client {
	_, err := fmt.Fprintf(s.dial(s.http), "GET /stalled HTTP/1.1\r\nHost: localhost:%d\r\nAccept: text/event-stream\r\n\r\n", s.http)
	if err != nil {
		s.t.Fatal(err)
	}
	return nil
}

func stalledHTTP2Connection(s *site) *client {
	// The window is larger than what the client reads.
	c, err := hostile.NewHTTP2(s.dial(s.https), "localhost", insecure, 1<<30)
	if err == nil {
		err = c.Allow(0, 1<<30)
	}
	if err == nil {
		_, err = c.Get("/stalled")
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return nil
}

// stalledHTTP2Stream opens a stream with a window of zero, and another that is
// read.
func stalledHTTP2Stream(s *site) *client {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.https))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	c, err := hostile.NewHTTP2(conn, "localhost", insecure, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err = c.Get("/stalled"); err != nil {
		s.t.Fatal(err)
	}
	read, err := c.Get("/events/beside")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, stream := range []uint32{0, read} {
		if err := c.Allow(stream, 1<<30); err != nil {
			s.t.Fatal(err)
		}
	}
	pr, pw := io.Pipe()
	ctx, cancel := context.WithCancel(s.t.Context())
	beside := &client{t: s.t, resp: &http.Response{Body: pr}, events: make(chan event.Event, 16), cancel: cancel}
	s.t.Cleanup(beside.close)
	opened := make(chan struct{})
	go func() {
		err := c.ReadFrames(func(f http2.Frame) {
			switch f := f.(type) {
			case *http2.HeadersFrame:
				if f.StreamID == read {
					close(opened)
				}
			case *http2.DataFrame:
				_, _ = pw.Write(f.Data()) // or the test is over
			}
		})
		pw.CloseWithError(err)
	}()
	go beside.read(ctx)
	select {
	case <-opened:
	case <-time.After(20 * time.Second):
		s.t.Fatal("the stream beside the stalled one was not opened within 20 s")
	}
	return beside
}

// stalledHTTP3Stream opens a stream that is not read, and another that is.
func stalledHTTP3Stream(s *site) *client {
	transport := &http3.Transport{TLSClientConfig: insecure, DisableCompression: true, QUICConfig: &quic.Config{
		InitialStreamReceiveWindow: 16 << 10, MaxStreamReceiveWindow: 16 << 10,
	}}
	s.t.Cleanup(func() { transport.Close() })
	s.clients.Store("HTTP/3.0", &http.Client{Transport: transport})
	resp, err := s.send(s.t.Context(), "HTTP/3.0", "GET", "/stalled", "", "Accept", "text/event-stream")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	if line, err := bufio.NewReaderSize(resp.Body, 16).ReadString('\n'); err != nil || !strings.HasPrefix(line, "retry: ") {
		s.t.Fatalf("the stream began with %q, %v", line, err)
	}
	return s.open("HTTP/3.0", "/events/beside")
}

func TestClientThatPausesBeyondHistoryIsReset(t *testing.T) {
	hub := newHubName()
	s := watchedSite(t, "sse "+hub+" {\n history 10\n }", fmt.Sprintf(`
		sse /hooks/* {
			hub %[1]s
			webhook {
				verify none
				topic news
			}
		}
		sse /events {
			hub %[1]s
			topic news
		}`, hub))
	padding := strings.Repeat("x", 64<<10)
	for i, protocol := range protocols {
		resp, err := s.send(t.Context(), protocol, "GET", "/events", "", "Accept", "text/event-stream")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for range 256 { // more than the buffers between them hold
			s.publish("", padding)
		}
		decoder := eventtest.NewDecoder(resp.Body, 0)
		for err := error(nil); err == nil; {
			_, err = decoder.Next()
		}
		s.wantMetric(hub, `streams_ended_total{reason="fell out of the history",rule="/events"}`, float64(i+1))
		again := s.open(protocol, "/events", "Last-Event-ID", decoder.LastEventID())
		if e := again.next(); e.Name != "reset" {
			t.Errorf("%s: a client with a dropped position gets event %q", protocol, e.Name)
		}
		again.close()
	}
}
