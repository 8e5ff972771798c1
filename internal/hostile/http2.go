// Package hostile has the clients that tests and measurements need and that no
// library offers: such as don't read, or do what no browser does.
package hostile

import (
	"bytes"
	"crypto/tls"
	"net"
	"syscall"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// HTTP2 is a connection whose client decides on each frame.
type HTTP2 struct {
	net.Conn
	*http2.Framer

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
	c := &HTTP2{Conn: conn, Framer: http2.NewFramer(conn, conn), host: host}
	c.encoder = hpack.NewEncoder(&c.block)
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return nil, err
	}
	return c, c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
}

// Get asks for a stream of events with further header fields, given as name and
// value in turn, and returns the number of the HTTP/2 stream.
func (c *HTTP2) Get(path string, header ...string) (stream uint32, err error) {
	if c.last == 0 {
		c.last = 1
	} else {
		c.last += 2
	}
	return c.last, c.WriteHeaders(http2.HeadersFrameParam{
		StreamID: c.last, BlockFragment: c.Block(path, header...), EndStream: true, EndHeaders: true,
	})
}

// Block is the encoded header of a request.
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
		frame, err := c.ReadFrame()
		if err != nil {
			return err
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = c.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				err = c.WritePing(true, f.Data)
			}
		}
		if err != nil {
			return err
		}
		see(frame)
	}
}
