// Package hostile has the clients that tests and measurements need and that no
// library offers: such as don't read, or do what no browser does.
package hostile

import (
	"bytes"
	"crypto/tls"
	"net"
	"sync"
	"syscall"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// HTTP2 is a connection whose client decides on each frame. One goroutine may
// read frames while others write.
type HTTP2 struct {
	net.Conn
	framer *http2.Framer

	writing sync.Mutex
	block   bytes.Buffer
	encoder *hpack.Encoder
	last    uint32 // stream
	host    string
}

// Dial connects with a receive buffer of so many bytes, as far as the system
// heeds it: what a client that doesn't read leaves the server with. Zero is the
// system's own.
func Dial(address string, receiveBuffer int) (net.Conn, error) {
	dialer := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { setReceiveBuffer(fd, receiveBuffer) })
	}}
	return dialer.Dial("tcp", address)
}

// NewHTTP2 begins HTTP/2 on a connection, over TLS unless there is no config.
// The server may send so many bytes on each stream before it is allowed more.
func NewHTTP2(conn net.Conn, host string, config *tls.Config, window uint32) (*HTTP2, error) {
	if config != nil {
		config = config.Clone()
		config.ServerName, config.NextProtos = host, []string{"h2"}
		conn = tls.Client(conn, config)
	}
	c := &HTTP2{Conn: conn, framer: http2.NewFramer(conn, conn), host: host}
	c.encoder = hpack.NewEncoder(&c.block)
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return nil, err
	}
	return c, c.Frame(func(f *http2.Framer) error {
		return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	})
}

// Frame writes what the function does.
func (c *HTTP2) Frame(write func(*http2.Framer) error) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return write(c.framer)
}

// Allow lets the server send so many bytes more on a stream, or, by 0, on all.
func (c *HTTP2) Allow(stream, n uint32) error {
	return c.Frame(func(f *http2.Framer) error { return f.WriteWindowUpdate(stream, n) })
}

// Reset gives a stream up.
func (c *HTTP2) Reset(stream uint32) error {
	return c.Frame(func(f *http2.Framer) error { return f.WriteRSTStream(stream, http2.ErrCodeCancel) })
}

// Get asks for a stream of events with further header fields, given as name and
// value in turn, and returns the number of the HTTP/2 stream.
func (c *HTTP2) Get(path string, header ...string) (stream uint32, err error) {
	err = c.Frame(func(f *http2.Framer) error {
		if stream = 1; c.last != 0 {
			stream = c.last + 2
		}
		c.last = stream
		return f.WriteHeaders(http2.HeadersFrameParam{
			StreamID: stream, BlockFragment: c.Block(path, header...), EndStream: true, EndHeaders: true,
		})
	})
	return stream, err
}

// Block is the encoded header of a request. Only one goroutine may ask for any.
func (c *HTTP2) Block(path string, header ...string) []byte {
	scheme := "http"
	if _, ok := c.Conn.(*tls.Conn); ok {
		scheme = "https"
	}
	c.block.Reset()
	header = append([]string{":method", "GET", ":scheme", scheme, ":authority", c.host, ":path", path, "accept", "text/event-stream"}, header...)
	for i := 0; i < len(header); i += 2 {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: header[i], Value: header[i+1]}) // into memory
	}
	return c.block.Bytes()
}

// ReadFrames hands on what comes, until the connection ends. It answers what
// has to be answered, and allows the server no more bytes.
func (c *HTTP2) ReadFrames(see func(http2.Frame)) error {
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = c.Frame((*http2.Framer).WriteSettingsAck)
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = c.Frame(func(framer *http2.Framer) error { return framer.WritePing(true, f.Data) })
			}
		}
		if err != nil {
			return err
		}
		see(frame)
	}
}
