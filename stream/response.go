package stream

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// response is the sender of a stream whose writes block. Its handler's goroutine,
// whose stack is large, only waits: a goroutine that is started when the stream is
// woken calls step.
type response struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	stream   *Stream
	state    atomic.Int32
	ended    chan struct{} // closed after the following have been set
	reason   Reason
	err      error
	panicked any // by a write

	entries []*store.Entry // the cursor's last batch
	buf     []byte         // their bytes, unless that is a single frame

	blocked atomic.Int64 // when the write began that is under way, in nanoseconds since 1970; 0 if none is

	mu     sync.Mutex
	server http.ResponseWriter // the server's own writer; nil once the stream has ended
}

// States of a response.
const (
	stepping int32 = iota // a goroutine calls step: at first that of the handler
	woken                 // it must call step again
	waiting               // for a call of wake
)

func newResponse(w http.ResponseWriter, s *Stream) *response {
	return &response{w: w, control: http.NewResponseController(w), stream: s, ended: make(chan struct{}), server: innermost(w)}
}

// innermost returns the server's own writer, without the wrappers of Caddy and
// other handlers. Only the stream's goroutine may use those; on the server's
// writer, another goroutine may set a deadline.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapped, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapped.Unwrap()
	}
}

// run calls step whenever the stream is woken, until the stream has ended. It
// panics if a write has.
func (r *response) run(ctx context.Context) (Reason, error) {
	defer context.AfterFunc(ctx, r.stream.leave)()
	r.stepWhileWoken()
	<-r.ended
	if r.panicked != nil {
		panic(r.panicked)
	}
	return r.reason, r.err
}

// catchUp calls step until the cursor has reached the log's head, or may not read
// yet. It returns the reason if the stream has ended.
func (r *response) catchUp(ctx context.Context) (Reason, error) {
	defer context.AfterFunc(ctx, r.stream.leave)()
	for {
		if reason, err := r.stream.step(time.Now()); reason != "" || r.stream.src.Cursor.CaughtUp() || !r.stream.isGranted {
			return reason, err
		}
	}
}

// stepWhileWoken calls step, and again if the stream has been woken meanwhile.
func (r *response) stepWhileWoken() {
	defer func() {
		if p := recover(); p != nil {
			r.panicked = p
			close(r.ended)
		}
	}()
	for {
		r.state.Store(stepping)
		if r.reason, r.err = r.stream.step(time.Now()); r.reason != "" {
			close(r.ended)
			return
		}
		if r.state.CompareAndSwap(stepping, waiting) {
			return
		}
	}
}

func (r *response) wake() {
	if r.state.CompareAndSwap(stepping, woken) {
		return
	}
	if r.state.CompareAndSwap(waiting, stepping) {
		go r.stepWhileWoken()
	}
}

// close makes abort do nothing: the server may reuse its writer.
func (r *response) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.server = nil
}

func (r *response) abort() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.server != nil {
		_ = http.NewResponseController(r.server).SetWriteDeadline(time.Now().Add(-time.Second)) // or it has no deadline
	}
}

func (r *response) blockedSince() time.Time {
	if at := r.blocked.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

func (r *response) isPending() bool { return false }

func (r *response) read(c *hub.Cursor) ([]*store.Entry, error) {
	var err error
	r.entries, err = c.Next(maxBatchBytes, r.entries[:0])
	return r.entries, err
}

func (r *response) sendRead() (int, error) {
	gzip := r.stream.gzip
	if len(r.entries) == 1 {
		if shared, ok := sharedBytes(gzip, r.entries[0]); ok {
			return r.send(shared)
		}
	}
	for _, e := range r.entries {
		r.buf = appendEntry(gzip, r.buf, e)
	}
	n, err := r.send(r.buf)
	r.buf = reuse(r.buf)
	return n, err
}

// release drops the references to the entries, so that the log alone decides how
// long they live, and frees a large slice.
func (r *response) release() {
	clear(r.entries)
	if cap(r.entries) > 64 {
		r.entries = nil
	}
}

func (r *response) send(b []byte) (int, error) {
	r.blocked.Store(time.Now().UnixNano())
	defer r.blocked.Store(0)
	n, err := r.w.Write(b)
	if err != nil {
		return n, err
	}
	if err := r.control.Flush(); !errors.Is(err, http.ErrNotSupported) {
		return n, err
	}
	return n, noFlush(r.w)
}
