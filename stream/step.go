package stream

import (
	"bytes"
	"cmp"
	"errors"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

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
		s.appendFrame(s.heartbeat)
		if err := s.flush(); err != nil {
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
		if !successor {
			reason = cmp.Or(s.src.MovedAs, Moved)
		}
	case ended:
		reason = ShutDown
	}
	s.appendFrame(event.Retry(jitterAround(retry)))
	if exiting && s.options.ShutdownEvent {
		s.appendFrame(shutdownFrame)
	}
	if position := s.missingPosition(); position != "" {
		// Without a position, the client would miss the events that are
		// published until it reconnects.
		s.appendFrame(event.Position(position))
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
	if s.src.Position != nil {
		return s.src.Position()
	}
	return s.src.Cursor.Position()
}

// terminate ends the stream without sending its backlog. It sends the position if
// there is one, so that the client can resume with another credential.
func (s *Stream) terminate(reason Reason, position string) (Reason, error) {
	if position == "" || s.sender().isPending() {
		return reason, nil
	}
	s.appendFrame(event.Position(position))
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
	if s.src.Split == nil {
		s.countEvents(len(entries))
	}
	if s.src.Wrap == nil && s.src.Split == nil {
		return s.sent(s.sender().sendRead())
	}
	for _, e := range entries {
		if s.src.Split == nil {
			s.buf = appendEntry(s.gzip, s.buf, s.src.Wrap(e))
			continue
		}
		for _, part := range s.src.Split(e) {
			s.countEvents(eventsIn(part))
			s.buf = appendEntry(s.gzip, s.buf, part)
		}
	}
	if len(s.buf) == 0 {
		return nil
	}
	return s.flush()
}

// eventsIn returns 0 for an entry that is only the id of the next one, and otherwise 1.
func eventsIn(e *store.Entry) int {
	if bytes.HasSuffix(e.Frame, []byte("\n\n")) {
		return 1
	}
	return 0
}

// countEvents counts events that are sent now.
func (s *Stream) countEvents(n int) {
	if n == 0 {
		return
	}
	s.summary.Events += n
	s.unobserved += n
	s.hasPosition = true
	if s.options.HeartbeatEvent == nil {
		s.beat = s.now
	}
}

// flush sends the buffer.
func (s *Stream) flush() error {
	err := s.send(s.buf)
	s.buf = reuse(s.buf)
	return err
}

// reuse returns an empty buffer. It frees one above 4 KiB: otherwise each idle stream
// would hold its largest one.
func reuse(buf []byte) []byte {
	if cap(buf) > 4<<10 {
		return nil
	}
	return buf[:0]
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
