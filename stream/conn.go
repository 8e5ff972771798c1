package stream

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// maxBatchBytes bounds what one write carries: a stream that is far behind catches
// up in several, and holds no more than this at a time.
const maxBatchBytes = 256 << 10

// conn is a stream while it is open. Only the handler's goroutine may write.
type conn struct {
	w       http.ResponseWriter
	control *http.ResponseController
	src     Source
	options *Options
	summary Summary

	out         []byte         // what the next write carries, when it isn't one frame
	entries     []*store.Entry // what the cursor gave
	hasPosition bool           // the client has a position
	moved       bool           // the client has somewhere to go, whatever the group says

	unobserved int // events in the next write
}

func (s *conn) sendInitial() error {
	if isClosed(s.src.Revoked) || s.isStopped() { // before it was put together, perhaps
		s.src.Initial = nil
	}
	for _, e := range s.src.Initial {
		s.out = append(s.out, e.Frame...)
	}
	s.countEvents(s.src.Initial)
	return s.flush()
}

// run sends what comes until the stream ends.
func (s *conn) run(r *http.Request, group *Group) (Reason, error) {
	heartbeat := time.NewTimer(s.options.Heartbeat)
	defer heartbeat.Stop()
	end := newDeadline(s.options.MaxAge/2 + jitter(s.options.MaxAge/2))
	defer end.stop()
	changed, ended := group.watch()
	if ended {
		end.within(group.jitter())
	}
	expiry := s.expiry()
	defer expiry.stop()
	ready, granted := s.src.Cursor.Ready(), s.src.Granted
	if granted != nil {
		ready = nil
	}
	if s.isStopped() { // after the look at the group, or it could be missed
		return s.terminate(Stopped)
	}
	for {
		select {
		case <-granted:
			granted, ready = nil, alwaysReady
		case <-ready:
			if reason, err := s.sendBatch(); reason != "" {
				return reason, err
			}
			if ready = s.src.Cursor.Ready(); !s.src.Cursor.Drained() {
				ready = alwaysReady
			}
			heartbeat.Reset(s.options.Heartbeat)
		case <-heartbeat.C:
			if err := s.send(event.Heartbeat); err != nil {
				return WriteFailed, err
			}
			heartbeat.Reset(s.options.Heartbeat)
		case <-s.src.Revoked:
			return Revoked, nil
		case <-expiry.C:
			return s.terminate(Expired)
		case <-s.src.Done:
			if reason, err := s.drain(); reason != "" {
				return reason, err
			}
			return SourceEnded, nil
		case <-changed:
			if changed, ended = group.watch(); ended {
				end.within(group.jitter())
			}
			if s.isStopped() {
				return s.terminate(Stopped)
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

// alwaysReady is the ready channel while there is more to send. A stream that is far
// behind returns to its select after each batch, or it might never end.
var alwaysReady = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// moveDelay returns how long a stream waits before its client moves to another
// configuration. A client that has a document waits a random time, so that not all
// clients reconnect at once.
func (s *conn) moveDelay(group *Group) time.Duration {
	if s.src.NoPosition && !s.hasPosition {
		return 0
	}
	const most = 2 * time.Second
	if ended, drain := group.drainTime(); ended {
		return jitter(min(drain, most))
	}
	return jitter(most)
}

// endForReconnect sends one more batch, the time until the client reconnects, and its
// position.
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
	if !s.hasPosition && !s.src.NoPosition {
		// A client that has received nothing yet would miss what is
		// published until it is back.
		s.out = append(s.out, event.Position(s.src.Cursor.Position())...)
	}
	if err := s.flush(); err != nil {
		return WriteFailed, err
	}
	return reason, nil
}

// expiry is the moment at which the client's right ends.
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

// terminate ends a stream without sending its backlog. The client's position lets it
// resume with another credential.
func (s *conn) terminate(reason Reason) (Reason, error) {
	if s.hasPosition || s.src.NoPosition {
		return reason, nil
	}
	s.out = append(s.out, event.Position(s.src.Cursor.Position())...)
	if err := s.flush(); err != nil {
		return WriteFailed, err
	}
	return reason, nil
}

// movedRetry is how long a client waits when another configuration is there to
// take it, give or take half.
const movedRetry = 500 * time.Millisecond

// drain sends everything up to the log's head.
func (s *conn) drain() (Reason, error) {
	for {
		if reason, err := s.sendBatch(); reason != "" || s.src.Cursor.Drained() {
			return reason, err
		}
	}
}

// sendBatch sends what there is, up to maxBatch, in one write and one flush: load
// makes batches larger, not a backlog.
func (s *conn) sendBatch() (Reason, error) {
	switch {
	case s.isExpired():
		return s.terminate(Expired)
	case s.isStopped():
		return s.terminate(Stopped)
	}
	if s.src.Granted != nil && !isClosed(s.src.Granted) {
		return "", nil
	}
	var err error
	s.entries, err = s.src.Cursor.Next(maxBatchBytes, s.entries[:0])
	switch {
	case isClosed(s.src.Revoked): // before what it gave was published, perhaps
		return Revoked, nil
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

// releaseEntries lets go of the entries, since the log decides how long they live, and
// of a list that has become large.
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

// flush sends what has been put together. The buffer is given back if it has
// become large: ten thousand idle streams would each keep their largest.
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
		// Cleared afterwards: on HTTP/2 a deadline is a timer that resets
		// even a stream that is idle. An error means that this writer has
		// no deadlines, as some wrappers don't.
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
	return s.control.Flush()
}

// deadline is a timer that may not be set, and that can only come closer.
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

// within moves the deadline to at most d from now.
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
