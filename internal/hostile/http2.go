// Package hostile provides clients for tests and measurements that misbehave as no
// library's do: they don't read, or send frames that no browser sends.
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

// HTTP2 is a connection whose client controls each frame. One goroutine may read
// frames while others write.
type HTTP2 struct {
	net.Conn
	framer *http2.Framer

	writing    sync.Mutex
	block      bytes.Buffer
	encoder    *hpack.Encoder
	lastStream uint32
	host       string
}

// Dial connects with a receive buffer of about receiveBuffer bytes. A client that
// doesn't read then soon stops the server's writes. Zero means the system's
// default.
func Dial(address string, receiveBuffer int) (net.Conn, error) {
	dialer := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { setReceiveBuffer(fd, receiveBuffer) })
	}}
	return dialer.Dial("tcp", address)
}

// NewHTTP2 starts HTTP/2 on a connection, over TLS unless config is nil. The
// window is the flow-control window of each stream (RFC 9113 §5.2).
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

// Frame calls write, which may write frames.
func (c *HTTP2) Frame(write func(*http2.Framer) error) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return write(c.framer)
}

// Allow adds n bytes to the window of a stream, or for stream 0 to that of the
// connection.
func (c *HTTP2) Allow(stream, n uint32) error {
	return c.Frame(func(f *http2.Framer) error { return f.WriteWindowUpdate(stream, n) })
}

// Reset cancels a stream.
func (c *HTTP2) Reset(stream uint32) error {
	return c.Frame(func(f *http2.Framer) error { return f.WriteRSTStream(stream, http2.ErrCodeCancel) })
}

// Get requests an event stream and returns the id of the HTTP/2 stream. The
// header's names and values alternate.
func (c *HTTP2) Get(path string, header ...string) (stream uint32, err error) {
	err = c.Frame(func(f *http2.Framer) error {
		if stream = 1; c.lastStream != 0 {
			stream = c.lastStream + 2
		}
		c.lastStream = stream
		return f.WriteHeaders(http2.HeadersFrameParam{
			StreamID: stream, BlockFragment: c.Block(path, header...), EndStream: true, EndHeaders: true,
		})
	})
	return stream, err
}

// Block returns the encoded header of a request. It isn't safe for concurrent use.
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

// ReadFrames calls handle for each frame until the connection ends. It acknowledges
// SETTINGS and PING frames, and never enlarges a window.
func (c *HTTP2) ReadFrames(handle func(http2.Frame)) error {
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
		handle(frame)
	}
}
