package poll

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/internal/fair"
)

// pollLoop decides when a view is polled. Between two polls it has no goroutine: a
// timer fires when the next one is due, or a write makes it due. Then the loop asks
// for a slot, and with the slot one of the poller's workers makes the poll. Polls of
// one view never overlap.
//
// The worker that polls owns the fields after mu's, and at other times mu guards
// them, too.
type pollLoop struct {
	view *view

	mu      sync.Mutex
	phase   phase
	ended   bool // the view has ended: no other poll begins
	written bool // there was a write while the view was not at rest
	shared  bool // other clients than its creator watch the view, too
	timer   *time.Timer
	due     time.Time          // when the timer fires
	wait    *fair.Wait         // for a slot
	further chan *fair.Slot    // if the poll under way waits for a further slot
	cancel  context.CancelFunc // of what the poll under way does

	schedule  schedule
	asked     time.Time  // when the last poll asked for its slot
	before    time.Time  // when the one before it did
	notBefore time.Time  // the backend's Retry-After
	refreshed time.Time  // when a write last caused a poll
	writeDue  time.Time  // by when a poll must follow a write; zero if none must
	validated validation // of the last body
	read      time.Time  // when it was asked for
	sum       uint64     // of the last body
	pace      fair.Pace  // of the last poll
	kept      int64      // bytes that count for max_memory
	permit    int64      // bytes of the permit to work; see beginWork
	changes   int        // in a row; see noteChange
	another   anotherType

	missingSince time.Time // of the first of the 404s in a row; zero if the last response was none

	polled         bool // at least once
	polledForWrite bool // a write has caused the last poll, or it is a follow-up
	delayed        bool // a response delays the next poll for long; see logDelay
}

// phase is what a view does.
type phase uint8

const (
	resting phase = iota // until the next poll is due
	waiting              // for a slot, and for a worker
	polling
)

// begin begins the first poll.
func (l *pollLoop) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.view.target.checkFailure != nil { // this poll makes no request
		l.phase, l.asked = waiting, time.Now()
		l.view.poller.workers.run(job{l, nil})
		return
	}
	l.pollLocked()
}

// pollLocked begins a poll.
func (l *pollLoop) pollLocked() {
	l.phase, l.before, l.asked = waiting, l.asked, time.Now()
	l.askLocked()
}

// askLocked asks for a slot. The client that has created the view causes its polls,
// but only until another client watches it: otherwise a client could hold up what
// others watch by what it makes hang.
func (l *pollLoop) askLocked() {
	t := l.view.target
	request := fair.Request{Host: t.host, Path: t.path, Pace: l.pace}
	if !l.shared {
		request.Client = l.view.client
	}
	slot, wait := l.view.poller.slots.Ask(request, l)
	if l.wait = wait; slot != nil {
		l.takeLocked(slot)
	}
}

// Granted implements [fair.Waiter].
func (l *pollLoop) Granted(slot *fair.Slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.takeLocked(slot)
}

// takeLocked takes the slot that the loop has asked for, or none if the view has
// ended.
func (l *pollLoop) takeLocked(slot *fair.Slot) {
	l.wait = nil
	if l.further != nil {
		l.further <- slot
		l.further = nil
		return
	}
	l.view.poller.workers.run(job{l, slot})
}

// furtherSlot waits for a slot for another request of the poll under way. It
// returns nil if the view ends before.
func (l *pollLoop) furtherSlot() *fair.Slot {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return nil
	}
	got := make(chan *fair.Slot, 1)
	l.further = got
	l.askLocked()
	l.mu.Unlock()
	return <-got
}

// share records that another client watches the view, too.
func (l *pollLoop) share() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shared {
		return
	}
	l.shared = true
	if l.wait != nil && l.wait.Cancel() {
		l.askLocked()
	}
}

// end ends the view: what a poll under way does is cancelled, and no other begins.
func (l *pollLoop) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	if l.cancel != nil {
		l.cancel()
	}
	switch {
	case l.phase == resting:
		l.timer.Stop()
		l.phase = waiting
		l.takeLocked(nil)
	case l.wait != nil && l.wait.Cancel():
		l.takeLocked(nil)
	}
}

func (l *pollLoop) hasEnded() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// withTimeout returns a context for what the poll under way does next. It ends
// after the rule's timeout, or with the view.
func (l *pollLoop) withTimeout(cause error) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeoutCause(context.Background(), time.Duration(l.view.poller.config.Timeout), cause)
	l.endWithView(cancel)
	return ctx, cancel
}

// whileWanted is withTimeout without a timeout.
func (l *pollLoop) whileWanted() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	l.endWithView(cancel)
	return ctx, cancel
}

func (l *pollLoop) endWithView(cancel context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancel = cancel; l.ended {
		cancel()
	}
}

// run makes the poll for which the loop has asked, on a worker.
func (l *pollLoop) run(slot *fair.Slot) {
	if !l.isPolling() {
		if slot != nil {
			slot.Release()
		}
		l.finish()
		return
	}
	first := !l.polled
	l.polled = true
	came, header := l.pollSafely(slot, first)
	if came == changed && !first {
		l.adviseRefresh(l.before)
	}
	took := time.Since(l.asked)
	if asked := !first || l.view.target.checkFailure == nil; asked && !l.hasEnded() {
		l.view.poller.observer.Polled(came.result(), took)
	}
	if came == ended {
		l.finish()
		return
	}
	if first {
		close(l.view.polled)
	}
	now := time.Now()
	l.notBefore = now.Add(retryAfter(header, now))
	pause := max(min(l.schedule.next(came, took, header, now), l.untilGone(now)), l.notBefore.Sub(now))
	l.view.state.setDoubtful(l.schedule.aftermath.looking)
	l.view.state.recordPoll(came, now, now.Add(pause), l.schedule.delayedBy)
	l.logDelay(pause)
	l.rest(now, pause)
}

// isPolling reports whether the poll begins now. Otherwise the view has ended.
func (l *pollLoop) isPolling() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.phase = polling
	return !l.ended
}

// finish ends the loop for good.
func (l *pollLoop) finish() {
	v := l.view
	if !l.hasEnded() { // the backend has ended it
		v.poller.failures.end(&v.publisher.outage)
	}
	v.poller.remove(v)
	if !v.moved.IsSet() {
		v.done.Set()
	}
	if !isClosed(v.polled) {
		close(v.polled)
	}
	v.poller.memory.replace(l.kept, 0)
	v.publisher.releaseLease()
	v.publisher.leaveSuccession()
	v.poller.failures.forget(&v.publisher.outage)
	v.poller.workers.leave()
}

// rest waits for the next poll, which is due after a pause.
func (l *pollLoop) rest(now time.Time, pause time.Duration) {
	l.mu.Lock()
	l.cancel = nil
	if l.ended {
		l.mu.Unlock()
		l.finish()
		return
	}
	defer l.mu.Unlock()
	l.phase, l.writeDue = resting, time.Time{}
	l.setTimerLocked(now, pause)
	if l.written {
		l.written = false
		l.takeWriteLocked(now)
	}
}

func (l *pollLoop) setTimerLocked(now time.Time, pause time.Duration) {
	l.due = now.Add(pause)
	if l.timer == nil {
		l.timer = time.AfterFunc(pause, l.timeUp)
		return
	}
	l.timer.Reset(pause)
}

// timeUp begins the poll that is due.
func (l *pollLoop) timeUp() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	switch {
	case l.phase != resting || now.Before(l.due): // it was set again meanwhile
		return
	case l.writeDue.IsZero():
		l.polledForWrite = l.schedule.isFollowUp
		l.schedule.pollInTime(now)
	default:
		l.countWriteLocked(now)
	}
	l.pollLocked()
}

// refresh makes the loop poll at once, and once more if a poll is under way:
// that one may have seen the document from before the write.
func (l *pollLoop) refresh() {
	l.view.state.recordWrite()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.phase == resting:
		l.takeWriteLocked(time.Now())
	case l.phase == waiting && l.polledForWrite: // the poll that is about to begin sees this write, too
		l.schedule.aftermath.begin() // it may be a follow-up of an earlier write
	default:
		l.written = true
	}
}

const (
	// debounce is how long after its last write a burst of writes is over.
	debounce = 20 * time.Millisecond
	// maxDebounce is how long a burst of writes may delay a poll.
	maxDebounce = time.Second
)

// takeWriteLocked makes a poll due for a write. The first write of a burst makes it
// due at once; the others of the burst cause one more poll when the burst is over,
// however long polls take. If writes have caused too many polls, or the backend has
// asked for time, it is due later.
func (l *pollLoop) takeWriteLocked(now time.Time) {
	began, newest := l.view.state.writes()
	switch wait := max(l.notBefore.Sub(now), l.schedule.writePolls.wait(now)); {
	case wait > 0:
		l.writeDue = now.Add(wait)
		l.setTimerLocked(now, wait)
	case l.writeDue.IsZero() && began.After(l.refreshed):
		l.timer.Stop()
		l.countWriteLocked(now)
		l.pollLocked()
	default:
		if l.writeDue.IsZero() {
			l.writeDue = now.Add(maxDebounce)
		}
		l.setTimerLocked(now, min(newest.Add(debounce).Sub(now), l.writeDue.Sub(now)))
	}
}

// countWriteLocked counts the poll that begins as one that a write has caused.
func (l *pollLoop) countWriteLocked(now time.Time) {
	l.refreshed, l.polledForWrite = now, true
	l.schedule.pollForWrite(now)
	l.view.state.setDoubtful(true)
}

// logDelay logs, once until the delay is over, that a response keeps viewers from
// changes for long. Strangers choose the URLs of views, so that there is a limit
// for all of them.
func (l *pollLoop) logDelay(pause time.Duration) {
	delayed := l.schedule.delayedBy != "" && pause > l.schedule.maxSilence()
	if delayed && !l.delayed {
		if suppressed, ok := l.view.poller.delays.Allow(time.Now()); ok {
			l.view.poller.log.Warn("a response delays the next poll for long, viewers get changes late: with ignore_max_age, Cache-Control delays no poll", l.view.fields(
				zap.String("header", l.schedule.delayedBy), zap.Duration("delay", pause), zap.Int("not_logged_since", suppressed))...)
		}
	}
	l.delayed = delayed
}
