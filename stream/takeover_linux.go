package stream

import (
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// CanTakeOver reports whether a stream can take over the connection of an
// HTTP/1.1 request: a TCP or Unix connection without TLS or another wrapper. Nobody
// else may close the connection then: [Stream.Abort] ends the stream.
//
// Such a stream has neither a goroutine nor the server's buffers: a few writers,
// one for each core, write to all connections that have been taken over.
func CanTakeOver(conn net.Conn) bool {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	default:
		return false
	}
}

// takeOver takes the connection of a stream that has sent its first events over
// from the server. It returns false if that isn't possible.
func (s *Stream) takeOver(out *response, r *http.Request, conn net.Conn, ended func(Summary), closed func()) bool {
	header := out.w.Header()
	if header.Get("Content-Length") != "" || header.Get("Transfer-Encoding") != "" {
		return false
	}
	fd, err := descriptor(conn)
	if err != nil {
		return false
	}
	writer, err := acquireWriter()
	if err != nil {
		return false
	}
	hijacked, _, err := out.control.Hijack()
	if err != nil {
		writer.release()
		return false
	}
	t := &taken{
		stream:  s,
		conn:    conn,
		fd:      fd,
		chunked: r.ProtoAtLeast(1, 1), // net/http's choice without a Content-Length
		ended:   ended,
		closed:  closed,
		writer:  writer,
	}
	if hijacked != conn {
		t.recorder, t.recorded = hijacked, s.summary.Bytes
	}
	s.setSender(t)
	if err := writer.poller.add(t); err != nil {
		t.abort()
	}
	t.wake() // what woke the response's goroutine is lost
	return true
}

// descriptor returns the file descriptor of a connection.
func descriptor(conn net.Conn) (fd int, err error) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	err = raw.Control(func(descriptor uintptr) { fd = int(descriptor) })
	return fd, err
}

// taken is the sender of a stream that has taken over its connection. Its writer's
// goroutine calls step.
type taken struct {
	stream *Stream
	writer *writer

	// Only the writer's goroutine uses these.
	reading   *batch // what read has returned
	rest      []byte // the part of the last writes that waits for the client
	fd        int    // of conn; it stays open until close
	chunked   bool
	finished  bool
	restSince time.Time // when the client last had room

	queued atomic.Bool // in the writer's queue
	failed atomic.Bool // abort was called
	input  atomic.Bool // the client has sent more, or has left

	reason    Reason // why the stream has ended, while rest is sent
	reasonErr error
	readBytes int   // that the client has sent after its request
	id        int32 // in the poller

	conn   net.Conn
	ended  func(Summary)
	closed func()

	// recorder is the connection as handlers have wrapped it that record the size
	// of the body, of which they know the first bytes; nil if there are none.
	recorder net.Conn
	recorded int64
}

func (t *taken) wake() {
	if !t.queued.Swap(true) {
		t.writer.push(t)
	}
}

func (t *taken) abort() {
	t.failed.Store(true)
	t.wake()
}

func (t *taken) blockedSince() time.Time { return time.Time{} } // its writes don't block

func (t *taken) isPending() bool { return len(t.rest) > 0 }

func (t *taken) read(c *hub.Cursor) ([]*store.Entry, error) {
	var err error
	t.reading, err = t.writer.read(c)
	if err != nil {
		return nil, err
	}
	return t.reading.Entries(), nil
}

func (t *taken) sendRead() (int, error) {
	payload, chunk := t.reading.bytes()
	if !t.chunked {
		return t.write(payload, len(payload))
	}
	return t.write(chunk, len(payload))
}

func (t *taken) release() { t.reading = nil }

func (t *taken) send(b []byte) (int, error) {
	payload := b
	if t.chunked {
		b = appendChunk(nil, b)
	}
	return t.write(b, len(payload))
}

// write writes b, which the caller must not change afterwards, and returns n.
func (t *taken) write(b []byte, n int) (int, error) {
	if len(t.rest) > 0 {
		t.rest = append(t.rest[:len(t.rest):len(t.rest)], b...)
		return n, nil
	}
	t.restSince = t.stream.now
	t.rest = b
	if err := t.flush(); err != nil {
		return 0, err
	}
	return n, nil
}

// flush writes as much of rest as the client has room for. It fails if the
// connection has failed.
func (t *taken) flush() error {
	for len(t.rest) > 0 {
		n, err := ignoringEINTR(func() (int, error) { return syscall.Write(t.fd, t.rest) })
		if n > 0 {
			t.rest = t.rest[n:]
			t.restSince = t.stream.now
		}
		switch {
		case err == syscall.EAGAIN:
			t.stream.due.Store(true) // step sets the schedule
			return nil
		case err != nil:
			return err
		}
	}
	t.rest = nil // so that no batch is kept
	return nil
}

// serve does what is due. The writer calls it when the stream is woken.
func (t *taken) serve(now time.Time) {
	if t.finished {
		return
	}
	s := t.stream
	s.now = now
	if t.input.Swap(false) && t.hasLeft() {
		s.left.Store(true)
		s.check.Store(true)
	}
	if err := t.flushInTime(now); err != nil {
		t.finish(WriteFailed, err)
		return
	}
	if t.reason == "" {
		if t.reason, t.reasonErr = s.step(now); t.reason == "" {
			return
		}
	}
	if len(t.rest) == 0 || t.reason.isImmediate() || s.left.Load() {
		t.finish(t.reason, t.reasonErr)
		return
	}
	if timeout := s.options.WriteTimeout; timeout > 0 {
		s.group.schedule.set(s, t.restSince.Add(timeout))
	}
}

// flushInTime sends what waits for the client. It fails if the connection has
// failed, or if the client has had no room for too long.
func (t *taken) flushInTime(now time.Time) error {
	if t.failed.Load() {
		return os.ErrDeadlineExceeded
	}
	if len(t.rest) == 0 {
		return nil
	}
	if err := t.flush(); err != nil {
		return err
	}
	if timeout := t.stream.options.WriteTimeout; len(t.rest) > 0 && timeout > 0 && now.Sub(t.restSince) >= timeout {
		return os.ErrDeadlineExceeded
	}
	t.stream.due.Store(true) // step sets the schedule
	return nil
}

// isImmediate reports whether the stream sends nothing more, not even the rest of
// a write that is under way.
func (r Reason) isImmediate() bool {
	switch r {
	case Revoked, Stopped, ClientLeft, WriteFailed:
		return true
	default:
		return false
	}
}

// hasLeft reads what the client has sent, and reports whether the client has
// closed the connection.
func (t *taken) hasLeft() bool {
	for t.readBytes < maxInput {
		n, err := ignoringEINTR(func() (int, error) { return syscall.Read(t.fd, t.writer.scratch[:]) })
		switch {
		case err == syscall.EAGAIN:
			return false
		case n <= 0:
			return true
		}
		t.readBytes += n
	}
	return false
}

// maxInput limits how many bytes a stream reads, and drops, of a client that sends
// more after its request. Unread bytes would make the system reset the connection
// when the stream ends, and the client might lose the last events.
const maxInput = 64 << 10

// finish ends the stream.
func (t *taken) finish(reason Reason, err error) {
	isCut := len(t.rest) > 0 || reason == WriteFailed || reason == ClientLeft
	t.finished, t.rest = true, nil
	s := t.stream
	s.end()
	t.writer.poller.remove(t)
	s.summary.Reason, s.summary.Err = reason, err
	go t.close(isCut) // it may block, and the writer must not
}

// close closes the connection of a stream that has ended. The body of a chunked
// response gets its end unless it is cut, so that the client can tell the two apart.
func (t *taken) close(isCut bool) {
	defer t.closed()
	defer t.writer.release()
	summary := t.stream.summary
	if t.recorder != nil {
		_, _ = sentBytes(summary.Bytes - t.recorded).WriteTo(t.recorder)
	}
	t.ended(summary)
	if t.chunked && !isCut {
		_ = t.conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = t.conn.Write(lastChunk) // nothing can be done about errors
	}
	_ = t.conn.Close()
}

// sentBytes tells the writers around a connection how many bytes have been sent: as
// a copy does, but it writes nothing.
type sentBytes int64

// WriteTo implements [io.WriterTo].
func (n sentBytes) WriteTo(w io.Writer) (int64, error) {
	if _, ok := w.(syscall.Conn); ok { // the connection itself
		return int64(n), nil
	}
	if wrapper, ok := w.(io.ReaderFrom); ok {
		return wrapper.ReadFrom(struct {
			io.Reader
			io.WriterTo
		}{nil, n})
	}
	return int64(n), nil
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); err != syscall.EINTR {
			return n, err
		}
	}
}
