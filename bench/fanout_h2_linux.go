package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/caddy-sse/caddy-sse/internal/connection"
)

// h2Clients is HTTP/2 clients with many streams on each connection. A goroutine per
// connection reads the frames, without a goroutine or a pipe per stream as in
// net/http, so that the clients cost less than the servers.
type h2Clients struct {
	job         *clientsJob
	connections []*h2Connection
}

type h2Connection struct {
	clients  *h2Clients
	recorder *recorder
	framer   *http2.Framer
	streams  []h2Stream
	waiting  int         // streams without a response
	open     chan error  // receives when all streams are open, or an error
	unseen   uint32      // bytes that the server does not know to be read
	numbers  []uint32    // reused
	failed   atomic.Bool // so that open receives once
}

type h2Stream struct {
	tally tally
	marks marks
}

func newH2Clients(job *clientsJob, b *book) subscribers {
	c := &h2Clients{job: job}
	for left := job.Streams; left > 0; left -= job.PerConnection {
		c.connections = append(c.connections, &h2Connection{
			clients: c, recorder: &recorder{book: b}, open: make(chan error, 1),
			streams: make([]h2Stream, min(left, job.PerConnection)),
		})
	}
	return c
}

func (c *h2Clients) recorders() (all []*recorder) {
	for _, conn := range c.connections {
		all = append(all, conn.recorder)
	}
	return all
}

func (c *h2Clients) open(ctx context.Context) error {
	return inParallel(ctx, len(c.connections), func(ctx context.Context, i int) error { return c.connections[i].start(ctx) })
}

const (
	h2MaxWindow     = 1<<31 - 1
	h2DefaultWindow = 1<<16 - 1
)

// start opens the connection and its streams.
func (c *h2Connection) start(ctx context.Context) error {
	config := connection.Insecure()
	config.NextProtos = []string{http2.NextProtoTLS}
	config.ServerName = "localhost"
	_, port, _ := net.SplitHostPort(c.clients.job.Address)
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	out := bufio.NewWriter(conn)
	c.framer = http2.NewFramer(out, bufio.NewReaderSize(conn, 32<<10))
	c.framer.SetReuseFrames()
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.waiting = len(c.streams)
	_, err = out.WriteString(http2.ClientPreface)
	err = errors.Join(err,
		c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2MaxWindow}, http2.Setting{ID: http2.SettingEnablePush, Val: 0}),
		c.framer.WriteWindowUpdate(0, h2MaxWindow-h2DefaultWindow), c.request(), out.Flush())
	if err != nil {
		return err
	}
	go func() { c.end(c.read(out)) }()
	select {
	case err := <-c.open:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// request writes the requests for all streams.
func (c *h2Connection) request() error {
	var block bytes.Buffer
	fields := hpack.NewEncoder(&block)
	for i := range c.streams {
		block.Reset()
		for _, f := range []hpack.HeaderField{
			{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: c.clients.job.Address},
			{Name: ":path", Value: c.clients.job.Target}, {Name: "accept", Value: "text/event-stream"},
		} {
			_ = fields.WriteField(f) // to a buffer
		}
		err := c.framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// read reads frames until the connection ends.
func (c *h2Connection) read(out *bufio.Writer) error {
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		if err := c.handle(frame); err != nil {
			return err
		}
		if out.Buffered() > 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}
}

func (c *h2Connection) handle(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.DataFrame:
		return c.data(f)
	case *http2.MetaHeadersFrame:
		if status := f.PseudoValue("status"); status != "200" {
			return fmt.Errorf("the response has status %s", status)
		}
		if c.waiting--; c.waiting == 0 {
			c.failed.Store(true)
			c.open <- nil
		}
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.framer.WritePing(true, f.Data)
		}
	case *http2.RSTStreamFrame:
		c.recorder.end(1, fmt.Errorf("the server resets the stream: %v", f.ErrCode))
	case *http2.GoAwayFrame:
		return fmt.Errorf("the server closes the connection: %v", f.ErrCode)
	}
	return nil
}

func (c *h2Connection) data(f *http2.DataFrame) error {
	i := int(f.StreamID-1) / 2
	if i >= len(c.streams) {
		return fmt.Errorf("unknown stream %d", f.StreamID)
	}
	s := &c.streams[i]
	if c.numbers = s.marks.find(f.Data(), c.numbers[:0]); len(c.numbers) > 0 {
		c.recorder.add(&s.tally, c.numbers)
	}
	if f.StreamEnded() {
		c.recorder.end(1, io.EOF)
	}
	if c.unseen += f.Length; c.unseen > h2MaxWindow/2 {
		n := c.unseen
		c.unseen = 0
		return c.framer.WriteWindowUpdate(0, n)
	}
	return nil
}

// end records how reading has ended.
func (c *h2Connection) end(err error) {
	c.recorder.end(len(c.streams), err)
	if c.failed.CompareAndSwap(false, true) {
		c.open <- err
	}
}
