package stream

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// maxBatchBytes limits the bytes of one write, and so the memory of a stream that
// is far behind. A single larger event is sent alone.
const maxBatchBytes = 256 << 10

// conn is an open stream. Only the goroutine that runs [Serve] may use it.
type conn struct {
	w       http.ResponseWriter
	control *http.ResponseController
	src     Source
	options *Options
	summary Summary

	heartbeat   event.Frame    // the same for the whole stream
	out         []byte         // the next write, unless it is a single frame
	entries     []*store.Entry // the cursor's last batch
	hasPosition bool           // the client has a position
	moved       bool           // Source.Moved was closed

	unobserved int // events that the observer has not received
}

func (s *conn) sendInitial() error {
	if isClosed(s.src.Revoked) || s.isStopped() { // maybe before the caller made Initial
		s.src.Initial = nil
	}
	defer func() {
		clear(s.src.Initial) // a stream holds no document while it is open
		s.src.Initial = nil
	}()
	s.countEvents(s.src.Initial)
	for _, e := range s.src.Initial {
		if len(e.Frame) <= maxBatchBytes {
			s.out = append(s.out, e.Frame...)
			continue
		}
		if err := s.flush(); err != nil {
			return err
		}
		if err := s.send(e.Frame); err != nil {
			return err
		}
	}
	if len(s.out) == 0 {
		return nil
	}
	return s.flush()
}

// run sends events and heartbeats until the stream ends.
func (s *conn) run(r *http.Request, group *Group) (Reason, error) {
	heartbeat := time.NewTimer(s.options.Heartbeat)
	defer heartbeat.Stop()
	end := newDeadline(s.options.MaxAge/2 + jitter(s.options.MaxAge/2))
	defer end.stop()
	changed, ended := group.changes()
	if ended {
		end.within(group.jitter())
	}
	expiry := s.expiry()
	defer expiry.stop()
	ready, granted := s.src.Cursor.Ready(), s.src.Granted
	if granted != nil {
		ready = nil
	}
	if s.isStopped() { // checked after group.changes, so that no Notify is missed
		return s.terminate(Stopped, s.missingPosition())
	}
	for {
		select {
		case <-granted:
			granted, ready = nil, alwaysReady
		case <-ready:
			if reason, err := s.sendBatch(); reason != "" {
				return reason, err
			}
			if ready = s.src.Cursor.Ready(); !s.src.Cursor.CaughtUp() {
				ready = alwaysReady
			}
			if s.options.HeartbeatEvent == nil {
				heartbeat.Reset(s.options.Heartbeat)
			}
		case <-heartbeat.C:
			if err := s.send(s.heartbeat); err != nil {
				return WriteFailed, err
			}
			heartbeat.Reset(s.options.Heartbeat)
		case <-s.src.Revoked:
			return Revoked, nil
		case <-expiry.C:
			return s.terminate(Expired, s.missingPosition())
		case <-s.src.Done:
			if reason, err := s.drain(); reason != "" {
				return reason, err
			}
			return SourceEnded, nil
		case <-changed:
			if changed, ended = group.changes(); ended {
				end.within(group.jitter())
			}
			if s.isStopped() {
				return s.terminate(Stopped, s.missingPosition())
			}
		case <-s.src.Moved:
			s.src.Moved, s.moved = nil, true
			end.within(s.moveDelay(group))
		case <-end.C:
			return s.endForReconnect(group)
		case <-r.Context().Done():
			return ClientLeft, nil
		}
	}
}

// alwaysReady replaces the cursor's channel while there is a backlog. A stream that
// is far behind returns to its select after each batch, so that it can end.
var alwaysReady = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// moveDelay returns how long the stream waits before its client moves to the next
// configuration. The delay of a client that has a document is random, so that
// clients do not reconnect all at once.
func (s *conn) moveDelay(group *Group) time.Duration {
	if s.src.NoPosition && !s.hasPosition {
		return 0
	}
	const maxDelay = 2 * time.Second
	if ended, drain := group.drainTime(); ended {
		return jitter(min(drain, maxDelay))
	}
	return jitter(maxDelay)
}

// endForReconnect sends one more batch, the time until the client reconnects, and
// a position if the client has none.
func (s *conn) endForReconnect(group *Group) (Reason, error) {
	if reason, err := s.sendBatch(); reason != "" {
		return reason, err
	}
	reason, retry := MaxAgeReached, s.options.Retry
	ended, successor, exiting := group.state()
	switch {
	case successor, s.moved && !exiting:
		reason, retry = Moved, min(retry, movedRetry)
	case ended:
		reason = ShutDown
	}
	s.out = append(s.out, event.Retry(jitterAround(retry))...)
	if exiting && s.options.ShutdownEvent {
		s.out = append(s.out, shutdownFrame...)
	}
	if position := s.missingPosition(); position != "" {
		// Without a position, the client would miss the events that are
		// published until it reconnects.
		s.out = append(s.out, event.Position(position)...)
	}
	if err := s.flush(); err != nil {
		return WriteFailed, err
	}
	return reason, nil
}

// expiry returns a deadline at Source.Expires, which is not set if that is zero.
func (s *conn) expiry() *deadline {
	d := new(deadline)
	if !s.src.Expires.IsZero() {
		d.set(time.Until(s.src.Expires))
	}
	return d
}

func (s *conn) isExpired() bool {
	return !s.src.Expires.IsZero() && !time.Now().Before(s.src.Expires)
}

func (s *conn) isStopped() bool { return s.src.Stop != nil && s.src.Stop.Load() }

// missingPosition returns the cursor's position if the client needs it because it
// has none, and otherwise the empty string.
func (s *conn) missingPosition() string {
	if s.hasPosition || s.src.NoPosition {
		return ""
	}
	return s.src.Cursor.Position()
}

// terminate ends the stream without sending its backlog. It sends the position if
// there is one, so that the client can resume with another credential.
func (s *conn) terminate(reason Reason, position string) (Reason, error) {
	if position == "" {
		return reason, nil
	}
	s.out = append(s.out, event.Position(position)...)
	if err := s.flush(); err != nil {
		return WriteFailed, err
	}
	return reason, nil
}

// movedRetry replaces a longer [Options.Retry] if the next configuration is ready
// for the client. It has the same jitter.
const movedRetry = 500 * time.Millisecond

// drain sends everything up to the log's head.
func (s *conn) drain() (Reason, error) {
	for {
		if reason, err := s.sendBatch(); reason != "" || s.src.Cursor.CaughtUp() {
			return reason, err
		}
	}
}

// sendBatch sends up to maxBatchBytes of events in one write and one flush, so that
// a stream under load writes larger batches, not more of them.
func (s *conn) sendBatch() (Reason, error) {
	if s.src.Granted != nil && !isClosed(s.src.Granted) {
		return "", nil
	}
	position := s.missingPosition() // before Next, whose batch may not be sent
	var err error
	s.entries, err = s.src.Cursor.Next(maxBatchBytes, s.entries[:0])
	switch { // access is checked after Next: the batch may be newer than its end
	case isClosed(s.src.Revoked):
		return Revoked, nil
	case s.isExpired():
		return s.terminate(Expired, position)
	case s.isStopped():
		return s.terminate(Stopped, position)
	case errors.Is(err, hub.ErrLost):
		return FellBehind, nil
	case err != nil:
		return StoreFailed, err
	case len(s.entries) > 0:
		if err := s.sendEntries(); err != nil {
			return WriteFailed, err
		}
	}
	return "", nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (s *conn) sendEntries() error {
	defer s.releaseEntries()
	s.countEvents(s.entries)
	if len(s.entries) == 1 {
		return s.send(s.frame(s.entries[0]))
	}
	for _, e := range s.entries {
		s.out = append(s.out, s.frame(e)...)
	}
	return s.flush()
}

func (s *conn) frame(e *store.Entry) event.Frame {
	if s.src.Frame == nil {
		return e.Frame
	}
	return s.src.Frame(e)
}

// releaseEntries drops the references to the entries, so that the log alone decides
// how long they live, and frees a large slice.
func (s *conn) releaseEntries() {
	clear(s.entries)
	if cap(s.entries) > 64 {
		s.entries = nil
	}
}

func (s *conn) countEvents(entries []*store.Entry) {
	s.summary.Events += len(entries)
	s.unobserved += len(entries)
	if len(entries) > 0 {
		s.hasPosition = true
	}
}

// flush sends the buffer. It frees a buffer above 4 KiB: otherwise each idle stream
// would hold its largest one.
func (s *conn) flush() error {
	err := s.send(s.out)
	s.out = s.out[:0]
	if cap(s.out) > 4<<10 {
		s.out = nil
	}
	return err
}

func (s *conn) send(b []byte) error {
	if s.options.WriteTimeout > 0 {
		// The deadline is cleared afterwards: on HTTP/2 it would reset an
		// idle stream, too. An error means that the writer, a wrapper, has
		// no deadlines.
		_ = s.control.SetWriteDeadline(time.Now().Add(s.options.WriteTimeout))
		defer func() { _ = s.control.SetWriteDeadline(time.Time{}) }()
	}
	n, err := s.w.Write(b)
	s.summary.Bytes += int64(n)
	if s.options.Observer != nil {
		s.options.Observer.Sent(s.unobserved, int64(n))
	}
	s.unobserved = 0
	if err != nil {
		return err
	}
	if err := s.control.Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return noFlush(s.w)
}

// deadline is a timer that is initially not set. Once set, it can only be moved
// closer.
type deadline struct {
	C     <-chan time.Time
	timer *time.Timer
	at    time.Time
}

func newDeadline(d time.Duration) *deadline {
	t := new(deadline)
	if d > 0 {
		t.set(d)
	}
	return t
}

func (t *deadline) set(d time.Duration) {
	t.stop()
	t.at = time.Now().Add(d)
	t.timer = time.NewTimer(d)
	t.C = t.timer.C
}

// within sets the deadline to d from now, unless it is earlier already.
func (t *deadline) within(d time.Duration) {
	if t.timer == nil || time.Now().Add(d).Before(t.at) {
		t.set(d)
	}
}

func (t *deadline) stop() {
	if t.timer != nil {
		t.timer.Stop()
	}
}
