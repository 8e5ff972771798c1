package stream

import (
	"cmp"
	"container/list"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/gzipblock"
	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/store"
)

// maxBatchBytes limits the bytes of one write, and so the memory of a stream that
// is far behind. A single larger event is sent alone.
const maxBatchBytes = 256 << 10

// Stream is an open stream. It waits for its next event without a goroutine of its
// own: [Stream.Wake] makes its sender call step.
type Stream struct {
	out     atomic.Pointer[sender]
	check   atomic.Bool // something may have changed beside the cursor
	left    atomic.Bool // the client has left
	due     atomic.Bool // the schedule must be set
	src     Source
	group   *Group
	options *Options
	summary Summary

	heartbeat event.Frame   // the same for the whole stream
	interval  time.Duration // between heartbeats

	// Only step and its callees use these. The booleans are what step last saw.
	now         time.Time         // of the step
	buf         []byte            // the next write, unless it is a single frame
	gzip        *gzipblock.Stream // what has been sent, if it is compressed; otherwise nil
	hasPosition bool              // the client has a position
	isGranted   bool              // Source.Granted
	isLast      bool              // Source.Done: no further events follow
	isMoved     bool              // Source.Moved
	unobserved  int               // events that the observer has not received
	beat        time.Time         // the last heartbeat, or the last event if those replace heartbeats
	endAt       time.Time         // when the client reconnects; zero if never
	seen        uint64            // the group's last change that the stream has seen

	schedule scheduled // belongs to the group's schedule

	waiting [3]signal.Waiting
	inGroup *list.Element
}

// sender sends a stream's bytes to its client, and calls step when the stream is
// woken.
type sender interface {
	// read reads the cursor. The entries are valid until sendRead or release is
	// called.
	read(c *hub.Cursor) ([]*store.Entry, error)
	// sendRead sends the frames of the entries that read has returned, in one
	// write, and releases them.
	sendRead() (int, error)
	// release drops the entries that read has returned.
	release()
	// send sends b and returns how many bytes it has accepted. It may send a part
	// of them later: then isPending returns true until they are sent.
	send(b []byte) (int, error)
	isPending() bool

	// The following are safe for concurrent use.

	wake()
	// abort makes the pending write fail.
	abort()
	// blockedSince returns when the write began that blocks step; zero if none
	// does.
	blockedSince() time.Time
}

// Prepare returns a stream that answers r. A nil group never ends its streams. The
// caller must call [Stream.Run].
func Prepare(w http.ResponseWriter, r *http.Request, src Source, group *Group, o *Options) *Stream {
	s := &Stream{
		src:         src,
		group:       cmp.Or(group, new(Group)),
		options:     o,
		interval:    o.Heartbeat - jitter(o.Heartbeat/8),
		hasPosition: LastEventID(r) != "",
	}
	if sendsGzip(r, o) {
		s.gzip = new(gzipblock.Stream)
	}
	s.setSender(newResponse(w, s))
	return s
}

func (s *Stream) setSender(out sender) { s.out.Store(&out) }

func (s *Stream) sender() sender { return *s.out.Load() }

// Wake makes the stream check what it waits for. It is safe for concurrent use.
func (s *Stream) Wake() {
	s.check.Store(true)
	s.sender().wake()
}

// Abort makes the stream's pending write fail. It is safe for concurrent use.
func (s *Stream) Abort() { s.sender().abort() }

// Run serves the stream. conn is the request's connection if the stream may take
// it over, and otherwise nil.
//
// Run calls ended once when the stream has ended, before the client can see that
// the response is complete, and then closed: before it returns or, if the stream
// has taken over the connection, maybe later and on another goroutine. By then the
// stream has closed a connection that it has taken over. Run returns whether it has.
func (s *Stream) Run(r *http.Request, conn Connection, ended func(Summary), closed func()) (handedOver bool) {
	out := s.sender().(*response)
	defer func() {
		out.close()
		if !handedOver {
			s.end()
			ended(s.summary)
			closed()
		}
	}()
	s.summary.Reason = WriteFailed // if the writer panics
	reason, err := s.open(out, r, conn != nil)
	if reason == "" && conn != nil {
		if handedOver = s.takeOver(out, r, conn, ended, closed); handedOver {
			return true
		}
	}
	if reason == "" {
		reason, err = out.run(r.Context())
	}
	if failed := s.sendTrailer(reason); failed != nil {
		reason, err = WriteFailed, failed
	}
	s.summary.Reason, s.summary.Err = reason, err
	return false
}

// open sends the headers and the first events: if the stream is to take over the
// connection, all events up to the log's head. It returns the reason if the stream
// has ended.
func (s *Stream) open(out *response, r *http.Request, takesOver bool) (Reason, error) {
	discardBody(out.w, r)
	if ended, _, _ := s.group.state(); ended && r.ProtoMajor == 2 {
		// The stopped server does not close a connection whose handshake ends
		// later, and its client would reconnect on it for ever. On HTTP/2,
		// net/http replaces this header by a GOAWAY frame: the client can open no
		// more streams on the connection.
		out.w.Header().Set("Connection", "close")
	}
	WriteHeader(out.w, r, s.options)
	if err := checkBuffer(out.w); err != nil {
		return WriteFailed, err
	}
	retry := event.Retry(jitterAround(s.options.Retry))
	s.heartbeat = retry
	if s.options.HeartbeatEvent != nil {
		s.heartbeat = s.options.HeartbeatEvent
	}
	s.begin()
	if s.gzip != nil {
		s.buf = gzipblock.AppendHeader(s.buf)
	}
	s.appendFrame(retry)
	if err := s.sendInitial(); err != nil {
		return WriteFailed, err
	}
	if takesOver {
		return out.catchUp(r.Context())
	}
	return "", nil
}

// leave ends the stream because its client has left.
func (s *Stream) leave() {
	s.left.Store(true)
	s.Wake()
}

// cursorWaker wakes a stream whose cursor may have events. The stream then checks
// nothing else: each check may cost as much as a cache line of memory.
type cursorWaker Stream

func (w *cursorWaker) Wake() { (*Stream)(w).sender().wake() }

// begin makes everything that may end the stream wake it.
func (s *Stream) begin() {
	now := time.Now()
	s.now, s.beat = now, now
	if age := s.options.MaxAge; age > 0 {
		s.endAt = now.Add(age/2 + jitter(age/2))
	}
	s.group.schedule.set(s, s.nextDue(now))
	s.inGroup = s.group.add(s)
	s.waiting = [...]signal.Waiting{s.src.Revoked.Wait(s), s.src.Done.Wait(s), s.src.Moved.Wait(s)}
	s.src.Granted.Wait(s) // for ever: it is of this stream alone
	s.src.Cursor.WakeBy((*cursorWaker)(s))
	s.check.Store(true)
}

// end undoes begin.
func (s *Stream) end() {
	s.src.Cursor.Close()
	if s.inGroup == nil { // it has not begun
		return
	}
	for _, w := range s.waiting {
		w.Stop()
	}
	s.group.remove(s.inGroup)
	s.group.schedule.remove(s)
}

func (s *Stream) sendInitial() error {
	if s.src.Revoked.IsSet() || s.isStopped() { // maybe before the caller made Initial
		s.src.Initial = nil
	}
	defer func() {
		clear(s.src.Initial) // a stream holds no document while it is open
		s.src.Initial = nil
	}()
	for i, e := range s.src.Initial {
		s.src.Initial[i] = nil // the client may be slow
		isLarge := len(e.Frame) > maxBatchBytes
		if isLarge || len(s.buf) > maxBatchBytes {
			if err := s.flush(); err != nil {
				return err
			}
		}
		s.countEvents(eventsIn(e))
		if !isLarge {
			s.buf = appendEntry(s.gzip, s.buf, e)
		} else if err := s.sendLarge(e); err != nil {
			return err
		}
	}
	if len(s.buf) == 0 {
		return nil
	}
	return s.flush()
}

// sendLarge sends an entry from the bytes that all streams share, if there are any.
func (s *Stream) sendLarge(e *store.Entry) error {
	if shared, ok := sharedBytes(s.gzip, e); ok {
		return s.send(shared)
	}
	s.buf = appendEntry(s.gzip, s.buf, e)
	return s.flush()
}

// jitter returns a random duration below d, or zero if d isn't positive.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
