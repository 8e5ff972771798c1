package stream

import (
	"errors"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// Connection is what a stream may take over from the server: see [TCP] and
// [HTTP3].
//
// Such a stream has neither a goroutine nor the server's buffers: a few writers,
// one for each core, serve all streams that have taken over a connection.
type Connection interface {
	// takeOver takes over the connection of a stream that has sent its first
	// events. It returns an error if that isn't possible.
	takeOver(out *response, r *http.Request) (link, error)
}

// TakeOverIf returns a connection that a stream takes over only if ok returns true
// once the stream has sent its headers and first events. A nil conn stays nil.
func TakeOverIf(conn Connection, ok func() bool) Connection {
	if conn == nil {
		return nil
	}
	return conditionalConnection{conn, ok}
}

type conditionalConnection struct {
	Connection
	ok func() bool
}

func (c conditionalConnection) takeOver(out *response, r *http.Request) (link, error) {
	if !c.ok() {
		return nil, errors.New("the connection must not be taken over")
	}
	return c.Connection.takeOver(out, r)
}

// link is a connection, or a stream of HTTP/3, that has been taken over.
type link interface {
	// watch makes the link wake t when the client has room again, has sent
	// something, or has left. It is the first call.
	watch(t *taken) error
	// frame returns a part of the body as write sends it.
	frame(*body) []byte
	// write sends as much of b as the client has room for, and doesn't block. The
	// caller calls it again, with the rest, when the link wakes it.
	write(b []byte) (n int, err error)
	// hasLeft reports whether the client has left. The writer calls it when the
	// link has said so with [taken.wakeForInput].
	hasLeft() bool
	// close ends the response, as a whole one unless it is cut. It may block. No
	// other call is under way, and none follows.
	close(bytes int64, isCut bool)
}

// takeOver makes a writer serve the stream. It returns false if the stream can't
// take over its connection.
func (s *Stream) takeOver(out *response, r *http.Request, conn Connection, ended func(Summary), closed func()) bool {
	w := acquireWriter()
	link, err := conn.takeOver(out, r)
	if err != nil {
		w.release()
		return false
	}
	t := &taken{stream: s, writer: w, link: link, ended: ended, closed: closed}
	t.queued.Store(true) // so that no writer serves, and closes, what isn't complete
	s.setSender(t)
	if err := link.watch(t); err != nil {
		t.failed.Store(true)
	}
	s.src.Cursor.WakeBy(t)
	s.check.Store(true) // what woke the response's goroutine is lost
	w.push(t)
	return true
}

// taken is the sender of a stream that has taken over its connection. Its writer's
// goroutine calls step.
type taken struct {
	stream *Stream
	writer *writer
	link   link

	// Only the writer's goroutine uses these.
	reading   *batch // what read has returned
	rest      []byte // the part of the last writes that waits for the client
	finished  bool
	restSince time.Time // when the client last had room

	queued atomic.Bool // in the writer's queue
	failed atomic.Bool // abort was called
	input  atomic.Bool // the client has sent something, or has left

	reason    Reason // why the stream has ended, while rest is sent
	reasonErr error
	ended     func(Summary)
	closed    func()
}

// Wake implements [hub.Waker] for the cursor, without a detour over the stream's
// memory.
func (t *taken) Wake() { t.wake() }

func (t *taken) wake() {
	if !t.queued.Swap(true) {
		t.writer.push(t)
	}
}

// wakeForInput wakes the stream whose client has sent something, or has left.
func (t *taken) wakeForInput() {
	t.input.Store(true)
	t.wake()
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
	var b *body
	if gzip := t.stream.gzip; gzip == nil {
		b = t.reading.body()
	} else {
		b = t.reading.gzipped()
		gzip.Add(t.reading.block)
	}
	return t.write(t.link.frame(b), len(b.payload))
}

func (t *taken) release() { t.reading = nil }

func (t *taken) send(b []byte) (int, error) {
	// The caller uses b again.
	payload := append([]byte(nil), b...)
	return t.write(t.link.frame(&body{payload: payload}), len(payload))
}

// write writes b, which nobody may change afterwards, and returns n.
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
	n, err := t.link.write(t.rest)
	if n > 0 {
		t.restSince = t.stream.now
	}
	if t.rest = t.rest[n:]; len(t.rest) > 0 {
		t.stream.due.Store(true) // step sets the schedule
		return err
	}
	t.rest = nil // so that no batch is kept
	return err
}

// serve does what is due. The writer calls it when the stream is woken.
func (t *taken) serve(now time.Time) {
	if t.finished {
		return
	}
	s := t.stream
	s.now = now
	if t.input.Swap(false) && t.link.hasLeft() {
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
		if err := s.sendTrailer(t.reason); err != nil {
			t.reason, t.reasonErr = WriteFailed, err
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

// finish ends the stream.
func (t *taken) finish(reason Reason, err error) {
	isCut := len(t.rest) > 0 || reason == WriteFailed || reason == ClientLeft
	t.finished, t.rest = true, nil
	s := t.stream
	s.end()
	s.summary.Reason, s.summary.Err = reason, err
	go t.close(isCut) // it may block, and the writer must not
}

// close ends the response of a stream that has ended. A complete response gets its
// end, so that the client can tell it from one that is cut.
func (t *taken) close(isCut bool) {
	defer t.closed()
	defer t.writer.release()
	t.ended(t.stream.summary)
	t.link.close(t.stream.summary.Bytes, isCut)
}
