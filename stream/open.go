package stream

import (
	"cmp"
	"container/list"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
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
	now         time.Time // of the step
	buf         []byte    // the next write, unless it is a single frame
	hasPosition bool      // the client has a position
	isGranted   bool      // Source.Granted
	isLast      bool      // Source.Done: no further events follow
	isMoved     bool      // Source.Moved
	unobserved  int       // events that the observer has not received
	beat        time.Time // the last heartbeat, or the last event if those replace heartbeats
	endAt       time.Time // when the client reconnects; zero if never
	seen        uint64    // the group's last change that the stream has seen

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
// stream has closed a connection that it has taken over.
func (s *Stream) Run(r *http.Request, conn Connection, ended func(Summary), closed func()) {
	out := s.sender().(*response)
	handedOver := false
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
			return
		}
	}
	if reason == "" {
		reason, err = out.run(r.Context())
	}
	s.summary.Reason, s.summary.Err = reason, err
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
	WriteHeader(out.w)
	if err := checkBuffer(out.w); err != nil {
		return WriteFailed, err
	}
	retry := event.Retry(jitterAround(s.options.Retry))
	s.heartbeat = retry
	if s.options.HeartbeatEvent != nil {
		s.heartbeat = s.options.HeartbeatEvent
	}
	s.begin()
	s.buf = append(s.buf, retry...)
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
	s.beat = now
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
	s.countEvents(s.src.Initial)
	for _, e := range s.src.Initial {
		if len(e.Frame) <= maxBatchBytes {
			s.buf = append(s.buf, e.Frame...)
			continue
		}
		if err := s.flush(); err != nil {
			return err
		}
		if err := s.send(e.Frame); err != nil {
			return err
		}
	}
	if len(s.buf) == 0 {
		return nil
	}
	return s.flush()
}

// step does what is due. It returns the reason if the stream has ended. Otherwise
// the sender calls it again when the stream is woken.
func (s *Stream) step(now time.Time) (Reason, error) {
	s.now = now
	if s.check.Swap(false) {
		switch {
		case s.left.Load():
			return ClientLeft, nil
		case s.src.Revoked.IsSet():
			return Revoked, nil
		}
		s.isLast = s.src.Done.IsSet() // before the read, which then is the last
		s.isGranted = s.src.Granted == nil || s.src.Granted.IsSet()
		s.checkGroup()
	}
	switch {
	case s.isStopped():
		return s.terminate(Stopped, s.missingPosition())
	case s.isExpired(now):
		return s.terminate(Expired, s.missingPosition())
	}
	if !s.sender().isPending() {
		if reason, err := s.sendDue(); reason != "" {
			return reason, err
		}
	}
	if s.due.Swap(false) {
		s.group.schedule.set(s, s.nextDue(now))
	}
	return "", nil
}

// sendDue sends the next batch of events, or what else is due.
func (s *Stream) sendDue() (Reason, error) {
	if !s.endAt.IsZero() && !s.now.Before(s.endAt) {
		return s.endForReconnect()
	}
	if s.isGranted && (s.isLast || s.src.Cursor.HasUnread()) {
		if reason, err := s.sendBatch(); reason != "" {
			return reason, err
		}
		if !s.src.Cursor.CaughtUp() {
			// A stream that is far behind returns after each batch, so that it
			// can end.
			s.sender().wake()
			return "", nil
		}
	}
	if s.isLast {
		return SourceEnded, nil
	}
	if !s.sender().isPending() && s.now.Sub(s.beat) >= s.interval {
		s.beat = s.now
		if err := s.send(s.heartbeat); err != nil {
			return WriteFailed, err
		}
	}
	return "", nil
}

// checkGroup sets the time at which the stream ends if the group has ended, or the
// source has moved.
func (s *Stream) checkGroup() {
	if change := s.group.version.Load(); change != s.seen {
		s.seen = change
		if ended, drain := s.group.drainTime(); ended {
			s.endWithin(jitter(drain))
		}
	}
	if !s.isMoved && s.src.Moved.IsSet() {
		s.isMoved = true
		s.endWithin(s.moveDelay())
	}
}

// endWithin ends the stream d from now, unless it ends earlier already.
func (s *Stream) endWithin(d time.Duration) {
	if at := s.now.Add(d); s.endAt.IsZero() || at.Before(s.endAt) {
		s.endAt = at
		s.due.Store(true) // step sets the schedule
	}
}

// nextDue returns when the schedule must wake the stream: for its next heartbeat,
// its end, or to see whether a write takes too long.
func (s *Stream) nextDue(now time.Time) time.Time {
	due := s.beat.Add(s.interval)
	if s.sender().isPending() {
		due = now.Add(s.interval)
	}
	if t := s.options.WriteTimeout; t > 0 {
		due = earlier(due, now.Add(t))
	}
	due = earlier(due, s.endAt)
	return earlier(due, s.src.Expires)
}

// earlier returns the earlier of two times, of which zero means never.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}

// moveDelay returns how long the stream waits before its client moves to the next
// configuration. The delay of a client that has a document is random, so that
// clients do not reconnect all at once.
func (s *Stream) moveDelay() time.Duration {
	if s.src.NoPosition && !s.hasPosition {
		return 0
	}
	const maxDelay = 2 * time.Second
	if ended, drain := s.group.drainTime(); ended {
		return jitter(min(drain, maxDelay))
	}
	return jitter(maxDelay)
}

// endForReconnect sends one more batch, the time until the client reconnects, and
// a position if the client has none.
func (s *Stream) endForReconnect() (Reason, error) {
	if reason, err := s.sendBatch(); reason != "" {
		return reason, err
	}
	reason, retry := MaxAgeReached, s.options.Retry
	ended, successor, exiting := s.group.state()
	switch {
	case successor, s.isMoved && !exiting:
		reason, retry = Moved, min(retry, movedRetry)
	case ended:
		reason = ShutDown
	}
	s.buf = append(s.buf, event.Retry(jitterAround(retry))...)
	if exiting && s.options.ShutdownEvent {
		s.buf = append(s.buf, shutdownFrame...)
	}
	if position := s.missingPosition(); position != "" {
		// Without a position, the client would miss the events that are
		// published until it reconnects.
		s.buf = append(s.buf, event.Position(position)...)
	}
	if err := s.flush(); err != nil {
		return WriteFailed, err
	}
	return reason, nil
}

func (s *Stream) isExpired(now time.Time) bool {
	return !s.src.Expires.IsZero() && !now.Before(s.src.Expires)
}

func (s *Stream) isStopped() bool { return s.src.Stop != nil && s.src.Stop.Load() }

// missingPosition returns the cursor's position if the client needs it because it
// has none, and otherwise the empty string.
func (s *Stream) missingPosition() string {
	if s.hasPosition || s.src.NoPosition {
		return ""
	}
	return s.src.Cursor.Position()
}

// terminate ends the stream without sending its backlog. It sends the position if
// there is one, so that the client can resume with another credential.
func (s *Stream) terminate(reason Reason, position string) (Reason, error) {
	if position == "" || s.sender().isPending() {
		return reason, nil
	}
	s.buf = append(s.buf, event.Position(position)...)
	if err := s.flush(); err != nil {
		return WriteFailed, err
	}
	return reason, nil
}

// movedRetry replaces a longer [Options.Retry] if the next configuration is ready
// for the client. It has the same jitter.
const movedRetry = 500 * time.Millisecond

// sendBatch sends up to maxBatchBytes of events in one write and one flush, so that
// a stream under load writes larger batches, not more of them.
func (s *Stream) sendBatch() (Reason, error) {
	if !s.isGranted {
		return "", nil
	}
	position := s.missingPosition() // before the read, whose batch may not be sent
	entries, err := s.sender().read(s.src.Cursor)
	defer s.sender().release()
	switch { // access is checked after the read: the batch may be newer than its end
	case s.check.Load() && s.src.Revoked.IsSet():
		return Revoked, nil
	case !s.src.Expires.IsZero() && s.isExpired(time.Now()):
		return s.terminate(Expired, position)
	case s.isStopped():
		return s.terminate(Stopped, position)
	case errors.Is(err, hub.ErrLost):
		return s.terminate(FellBehind, position)
	case err != nil:
		return StoreFailed, err
	case len(entries) > 0:
		if err := s.sendEntries(entries); err != nil {
			return WriteFailed, err
		}
	}
	return "", nil
}

func (s *Stream) sendEntries(entries []*store.Entry) error {
	s.countEvents(entries)
	if s.options.HeartbeatEvent == nil {
		s.beat = s.now
	}
	if s.src.Frame == nil {
		return s.sent(s.sender().sendRead())
	}
	for _, e := range entries {
		s.buf = append(s.buf, s.src.Frame(e)...)
	}
	return s.flush()
}

func (s *Stream) countEvents(entries []*store.Entry) {
	s.summary.Events += len(entries)
	s.unobserved += len(entries)
	if len(entries) > 0 {
		s.hasPosition = true
	}
}

// flush sends the buffer. It frees a buffer above 4 KiB: otherwise each idle stream
// would hold its largest one.
func (s *Stream) flush() error {
	err := s.send(s.buf)
	s.buf = s.buf[:0]
	if cap(s.buf) > 4<<10 {
		s.buf = nil
	}
	return err
}

func (s *Stream) send(b []byte) error { return s.sent(s.sender().send(b)) }

// sent counts a write.
func (s *Stream) sent(n int, err error) error {
	s.summary.Bytes += int64(n)
	if s.src.Observer != nil {
		s.src.Observer.Sent(s.unobserved, int64(n))
	}
	s.unobserved = 0
	return err
}

// jitter returns a random duration below d, or zero if d isn't positive.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
