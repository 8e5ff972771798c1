package stream_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/event/eventtest"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// server serves streams of the topic "a", which take over their connections.
type server struct {
	*httptest.Server
	hub     *hub.Hub
	group   *stream.Group
	options stream.Options
	source  func(*stream.Source) // if not nil, changes each source
	ended   chan stream.Summary
	handled atomic.Int64 // handlers that have returned
}

type connKey struct{}

func newServer(t *testing.T, history store.History) *server {
	t.Helper()
	s := &server{hub: newHub(t, history), group: new(stream.Group), options: options, ended: make(chan stream.Summary, 1000)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.handled.Add(1)
		src := stream.Subscribe(s.hub, []string{"a"}, stream.LastEventID(r))
		if s.source != nil {
			s.source(&src)
		}
		conn := stream.TCP(r.Context().Value(connKey{}).(net.Conn))
		if conn == nil {
			t.Error("the connection can't be taken over")
		}
		stream.Prepare(w, r, src, s.group, &s.options).Run(r, conn, func(ended stream.Summary) { s.ended <- ended }, func() {})
	}))
	s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }
	s.Start()
	t.Cleanup(func() {
		s.group.Exit()
		s.Close()
	})
	return s
}

// dial sends a request and returns the connection.
func (s *server) dial(t *testing.T, proto string, header ...string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET / %s\r\nHost: x\r\n%s\r\n", proto, strings.Join(header, "\r\n"))
	return conn
}

// open opens a stream.
func (s *server) open(t *testing.T, header ...string) (*http.Response, net.Conn) {
	t.Helper()
	conn := s.dial(t, "HTTP/1.1", header...)
	return readResponse(t, conn), conn
}

func readResponse(t *testing.T, conn net.Conn) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func (s *server) wantEnd(t *testing.T, want stream.Reason) stream.Summary {
	t.Helper()
	got := <-s.ended
	if got.Reason != want {
		t.Errorf("the stream ended for %q (%v), want %q", got.Reason, got.Err, want)
	}
	return got
}

// wantData reads events up to the one with the last data.
func wantData(t *testing.T, d *eventtest.Decoder, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		e, err := d.Next()
		if err != nil || string(e.Data) != strconv.Itoa(n) {
			t.Errorf("%q, %v: want %d", e.Data, err, n)
			return
		}
	}
}

func TestTakenOverStreamsSendEachEventOnceAndInOrder(t *testing.T) {
	s := newServer(t, store.History{})
	const streams, events = 50, 2000
	var wg sync.WaitGroup
	for range streams {
		resp, _ := s.open(t)
		wg.Go(func() {
			body := new(strings.Builder)
			d := eventtest.NewDecoder(io.TeeReader(resp.Body, body), 0)
			wantData(t, d, 1, events)
			if _, err := d.Next(); err != io.EOF {
				t.Errorf("after the end: %v", err)
			}
		})
	}
	for n := 1; n <= events; n++ {
		publish(t, s.hub, strconv.Itoa(n), "a")
	}
	waitUntil(t, func() bool { return s.hub.Stats().Lag == 0 })
	if got := s.handled.Load(); got != streams {
		t.Errorf("%d handlers have returned while %d streams are open", got, streams)
	}
	s.group.End(0)
	for range streams {
		if summary := s.wantEnd(t, stream.ShutDown); summary.Events != events {
			t.Errorf("%d events, want %d", summary.Events, events)
		}
	}
	wg.Wait()
	if n := s.hub.Stats().Subscribers; n != 0 {
		t.Errorf("%d subscribers are left", n)
	}
}

// waitUntil waits for something that another goroutine does.
func waitUntil(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it has not happened within 20 seconds")
		}
	}
}

func TestTakenOverStreamCountsBytesOfBody(t *testing.T) {
	s := newServer(t, store.History{})
	resp, _ := s.open(t)
	publish(t, s.hub, "1", "a")
	waitUntil(t, func() bool { return s.hub.Stats().Lag == 0 })
	s.group.End(0)
	body, err := io.ReadAll(resp.Body)
	if summary := s.wantEnd(t, stream.ShutDown); err != nil || summary.Bytes != int64(len(body)) {
		t.Errorf("%d bytes are counted, the body is %q, %v", summary.Bytes, body, err)
	}
	// Node's fetch takes a body that is cut for a whole one if the response has it.
	if resp.Close {
		t.Error("the response has Connection: close")
	}
}

func TestStreamFarBehindCatchesUpAndIsTakenOver(t *testing.T) {
	s := newServer(t, store.History{})
	position := s.hub.Position(0)
	for n := 1; n <= 20000; n++ {
		publish(t, s.hub, strconv.Itoa(n), "a")
	}
	resp, _ := s.open(t, "Last-Event-ID: "+position, "")
	d := eventtest.NewDecoder(resp.Body, 0)
	wantData(t, d, 1, 20000)
	waitUntil(t, func() bool { return s.handled.Load() == 1 })
	publish(t, s.hub, "20001", "a")
	wantData(t, d, 20001, 20001)
}

func TestHTTP10StreamIsNotChunked(t *testing.T) {
	s := newServer(t, store.History{})
	conn := s.dial(t, "HTTP/1.0")
	waitUntil(t, func() bool { return s.handled.Load() == 1 })
	publish(t, s.hub, "1", "a")
	publish(t, s.hub, "2", "a")
	waitUntil(t, func() bool { return s.hub.Stats().Lag == 0 })
	s.group.End(0)
	all, err := io.ReadAll(conn)
	_, body, ok := strings.Cut(string(all), "\r\n\r\n")
	if err != nil || !ok || strings.Contains(body, "\r") || !strings.HasPrefix(body, "retry: ") || !strings.Contains(body, "data: 1\n\n") || !strings.Contains(body, "data: 2\n\n") {
		t.Errorf("%q, %v", all, err)
	}
}

func TestTakenOverStreamEndsWhenClientLeaves(t *testing.T) {
	for name, leave := range map[string]func(*net.TCPConn){
		"close":      func(c *net.TCPConn) { c.Close() },
		"half-close": func(c *net.TCPConn) { c.CloseWrite() },
		"reset":      func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
	} {
		for _, input := range []int{0, 100_000} { // the stream reads up to 64 KiB
			t.Run(fmt.Sprintf("%s after %d bytes", name, input), func(t *testing.T) {
				s := newServer(t, store.History{})
				s.options.Heartbeat = time.Hour
				_, conn := s.open(t)
				waitUntil(t, func() bool { return s.handled.Load() == 1 })
				fmt.Fprint(conn, large(input))
				leave(conn.(*net.TCPConn))
				s.wantEnd(t, stream.ClientLeft)
			})
		}
	}
}

// A client may send its next request too early. It gets no answer, and its stream
// is whole.
func TestInputDuringStreamIsDropped(t *testing.T) {
	s := newServer(t, store.History{})
	resp, conn := s.open(t)
	waitUntil(t, func() bool { return s.handled.Load() == 1 })
	fmt.Fprintf(conn, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n%s", large(20_000))
	publish(t, s.hub, "1", "a")
	d := eventtest.NewDecoder(resp.Body, 0)
	wantData(t, d, 1, 1)
	s.group.End(0)
	s.wantEnd(t, stream.ShutDown)
	if _, err := d.Next(); err != io.EOF {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestTakenOverStreamThatIsNotReadEndsAndDelaysNoOther(t *testing.T) {
	s := newServer(t, store.History{})
	s.options.WriteTimeout = time.Second
	s.open(t)
	waitUntil(t, func() bool { return s.handled.Load() == 1 })
	resp, _ := s.open(t)
	d := eventtest.NewDecoder(resp.Body, 0)
	waitUntil(t, func() bool { return s.handled.Load() == 2 })
	for n := 1; len(s.ended) == 0; n++ {
		if n <= 200 {
			s.hub.Publish([]string{"a"}, eventOf(strconv.Itoa(n)+"\n"+large(100_000)))
			if e, err := d.Next(); err != nil || !strings.HasPrefix(string(e.Data), strconv.Itoa(n)+"\n") {
				t.Fatal(err)
			}
			continue
		}
		time.Sleep(time.Millisecond)
	}
	if summary := s.wantEnd(t, stream.WriteFailed); summary.Err == nil {
		t.Error("the summary has no error")
	}
}

func TestSlowClientOfTakenOverStreamReadsEverything(t *testing.T) {
	s := newServer(t, store.History{})
	s.options.WriteTimeout = 20 * time.Second
	resp, _ := s.open(t)
	waitUntil(t, func() bool { return s.handled.Load() == 1 })
	const events = 300
	for n := 1; n <= events; n++ {
		s.hub.Publish([]string{"a"}, eventOf(strconv.Itoa(n)+"\n"+large(50_000)))
	}
	d := eventtest.NewDecoder(resp.Body, 0)
	for n := 1; n <= events; n++ {
		e, err := d.Next()
		if err != nil || !strings.HasPrefix(string(e.Data), strconv.Itoa(n)+"\n") {
			t.Fatalf("%d: %v", n, err)
		}
	}
	s.group.End(0)
	s.wantEnd(t, stream.ShutDown)
	if _, err := d.Next(); err != io.EOF {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestTakenOverStreamEndsAtOnceWhenRevokedOrStopped(t *testing.T) {
	for _, blocked := range []bool{false, true} {
		for _, reason := range []stream.Reason{stream.Revoked, stream.Stopped} {
			t.Run(fmt.Sprintf("%s, blocked: %t", reason, blocked), func(t *testing.T) {
				s := newServer(t, store.History{})
				revoked, stop := new(signal.Signal), new(atomic.Bool)
				var sent byteCounter
				s.source = func(src *stream.Source) { src.Revoked, src.Stop, src.Observer = revoked, stop, &sent }
				resp, _ := s.open(t)
				waitUntil(t, func() bool { return s.handled.Load() == 1 })
				if blocked { // by an event that no buffer can hold
					s.hub.Publish([]string{"a"}, eventOf(large(32<<20)))
					waitUntil(t, func() bool { return sent.Load() > 32<<20 })
				}
				if reason == stream.Revoked {
					revoked.Set()
				} else {
					stop.Store(true)
					s.group.Notify()
				}
				s.wantEnd(t, reason)
				publish(t, s.hub, "secret", "a")
				body, err := io.ReadAll(resp.Body)
				if strings.Contains(string(body), "secret") || (err == nil) == blocked {
					t.Errorf("the body has %d bytes, %v", len(body), err)
				}
			})
		}
	}
}

type byteCounter struct{ atomic.Int64 }

func (c *byteCounter) Sent(_ int, bytes int64) { c.Add(bytes) }

func TestAbortEndsBlockedTakenOverStream(t *testing.T) {
	s := newServer(t, store.History{})
	var opened atomic.Pointer[stream.Stream]
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st := stream.Prepare(w, r, stream.Subscribe(s.hub, []string{"a"}, ""), s.group, &s.options)
		st.Run(r, stream.TCP(r.Context().Value(connKey{}).(net.Conn)), func(ended stream.Summary) { s.ended <- ended }, func() {})
		opened.Store(st)
	})
	s.open(t)
	waitUntil(t, func() bool { return opened.Load() != nil })
	s.hub.Publish([]string{"a"}, eventOf(large(32<<20)))
	opened.Load().Abort()
	s.wantEnd(t, stream.WriteFailed)
}
