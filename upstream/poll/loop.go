package poll

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/internal/fair"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// errTimeout is the cause of a poll's end when the backend takes too long.
var errTimeout = errors.New("the backend took too long")

// errWorkTimeout is the cause of its end when the document takes too long.
var errWorkTimeout = errors.New("select, until and the comparison of the document took longer than timeout")

// seed makes digests of bodies unpredictable for those who write them.
var seed = maphash.MakeSeed()

// pollLoop decides when a view is polled and what each response means. Its
// fields belong to its goroutine.
type pollLoop struct {
	view      *view
	pollNow   chan struct{} // refresh sends on it
	schedule  *schedule
	notBefore time.Time  // the backend's Retry-After
	refreshed time.Time  // when a write last caused a poll
	validated validation // of the last body
	read      time.Time  // when it was asked for
	sum       uint64     // of the last body
	pace      fair.Pace  // of the last poll
	kept      int64      // bytes that count for max_memory
	permit    int64      // bytes of the permit to work; see beginWork
	delayed   bool       // a response delays the next poll for long; see logDelay

	polledForWrite bool // a write has caused the last poll, or it is a follow-up
	changes        int  // in a row; see noteChange
	another        anotherType

	missingSince time.Time // of the first of the 404s in a row; zero if the last response was none
}

func newPollLoop(v *view) *pollLoop {
	return &pollLoop{view: v, pollNow: make(chan struct{}, 1), schedule: newSchedule(v.poller.config)}
}

// refresh makes the loop poll at once, and once more if a poll is under way:
// that one may have seen the document from before the write.
func (l *pollLoop) refresh() {
	l.view.state.recordWrite()
	select {
	case l.pollNow <- struct{}{}:
	default: // it will poll already
	}
}

// run polls until the view has no viewers, or the document has ended. Polls of
// one view never overlap.
func (l *pollLoop) run() {
	defer l.view.cancel()
	defer l.view.poller.failures.forget(&l.view.publisher.outage)
	defer l.view.publisher.releaseLease()
	defer func() { l.view.poller.memory.replace(l.kept, 0) }()
	var before time.Time // when the poll before this one began
	for first := true; ; first = false {
		started := time.Now()
		came, header := l.pollAside(first)
		if came == changed && !first {
			l.adviseRefresh(before)
		}
		before = started
		took := time.Since(started)
		if asked := !first || l.view.target.checkFailure == nil; asked && l.view.ctx.Err() == nil {
			l.view.poller.observer.Polled(came.result(), took)
		}
		if came == ended {
			if l.view.ctx.Err() == nil { // the backend ended it
				l.view.poller.failures.end(&l.view.publisher.outage)
			}
			l.view.poller.remove(l.view)
			if !l.view.moved.IsSet() {
				l.view.done.Set()
			}
		}
		if first {
			close(l.view.polled)
		}
		if came == ended {
			return
		}
		now := time.Now()
		l.notBefore = now.Add(retryAfter(header, now))
		pause := max(min(l.schedule.next(came, took, header, now), l.untilGone(now)), l.notBefore.Sub(now))
		l.view.state.setDoubtful(l.schedule.aftermath.looking)
		l.view.state.recordPoll(came, now, now.Add(pause), l.schedule.delayedBy)
		l.logDelay(pause)
		if !l.wait(pause) {
			return
		}
	}
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

const (
	// debounce is how long after its last write a burst of writes is over.
	debounce = 20 * time.Millisecond
	// maxDebounce is how long a burst of writes may delay a poll.
	maxDebounce = time.Second
)

// wait waits until the next poll is due. The first write of a burst makes it due
// at once; the others of the burst cause one more poll when the burst is over,
// however long polls take. If writes have caused too many polls, or the backend
// has asked for time, it is due later. wait returns false when the view ends.
func (l *pollLoop) wait(pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	var due time.Time // by when a poll must follow a write
	for {
		select {
		case <-timer.C:
			if due.IsZero() {
				l.polledForWrite = l.schedule.isFollowUp
				l.schedule.pollInTime(time.Now())
			} else {
				l.pollForWrite(time.Now())
			}
			return true
		case <-l.view.ctx.Done():
			return false
		case <-l.pollNow:
		}
		now := time.Now()
		began, newest := l.view.state.writes()
		switch wait := max(l.notBefore.Sub(now), l.schedule.writePolls.wait(now)); {
		case wait > 0:
			due = now.Add(wait)
			timer.Reset(wait)
		case due.IsZero() && began.After(l.refreshed):
			l.pollForWrite(now)
			return true
		default:
			if due.IsZero() {
				due = now.Add(maxDebounce)
			}
			timer.Reset(min(newest.Add(debounce).Sub(now), due.Sub(now)))
		}
	}
}

// pollForWrite begins a poll that a write causes.
func (l *pollLoop) pollForWrite(now time.Time) {
	l.refreshed, l.polledForWrite = now, true
	l.schedule.pollForWrite(now)
	l.view.state.setDoubtful(true)
}

// condition returns the validators to send with a poll: none if a write may have
// changed the document since the last whole response. A backend may keep the ETag
// of a list whose item has changed.
func (l *pollLoop) condition() validators {
	if _, newest := l.view.state.writes(); l.schedule.aftermath.looking || !l.read.After(newest) {
		return validators{}
	}
	return l.validated.condition()
}

// pollAside polls on a goroutine of its own: a request through Caddy's handlers
// needs a stack many times the size of the one that waits for the next poll.
func (l *pollLoop) pollAside(first bool) (came outcome, header http.Header) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		came, header = l.pollSafely(first)
	}()
	<-done
	return came, header
}

// pollSafely is poll for a goroutine without a server that would recover a
// panic.
func (l *pollLoop) pollSafely(first bool) (came outcome, header http.Header) {
	defer func() {
		if p := recover(); p != nil {
			came = l.view.publisher.publishStale(0, fmt.Errorf("poll panicked: %v\n%s", p, debug.Stack()))
		}
	}()
	return l.poll(first)
}

// poll polls once. If the response is no document, it may poll again as other
// viewers: the response may be about the principal and not about the document.
// It returns the response's headers, if there was a response.
func (l *pollLoop) poll(first bool) (outcome, http.Header) {
	defer l.endWork()
	if l.view.publisher.takeUnsent() {
		l.sum = 0
		l.validated.forget()
	}
	if u := l.view.target.checkFailure; first && u != nil {
		return l.publishCheckFailure(u), u.header
	}
	o, asked := check{principal: l.view.nextPrincipal()}, time.Now()
	since := l.condition()
	o.resp, o.err = l.view.poll(o.principal, since)
	o.unlike = l.view.isChecked() && l.view.isUnlike(o.resp)
	if !o.isGood() {
		o = l.view.confirmRefusal(o, since)
	}
	l.recordMissing(o, asked)
	l.view.recordAuthorization(o.principal, o.isGood())
	l.view.state.recordPrincipal(o.principal)
	resp, err := o.resp, o.err
	switch {
	case l.view.ctx.Err() != nil: // it has no viewers
		return ended, nil
	case l.keyChanged(first): // its viewers reconnect, each to their own view
		if err != nil || subrequest.IsFailure(resp.Status) { // not recovered
			l.view.poller.failures.forget(&l.view.publisher.outage)
		}
		return ended, nil
	case first && isPermanent(err):
		l.failForGood(notStreamable(err))
		return ended, nil
	case first && (l.view.isUndecided(o) || o.unlike) && l.view.isChecked():
		l.view.state.fail(errUndecided, newCheckFailure(resp, err))
		return ended, nil
	case err != nil:
		return l.view.publisher.publishStale(0, err), nil
	}
	result := l.process(resp, asked, first)
	l.view.storeResponse(resp, result, asked)
	return result, resp.Header
}

// process decides what a response means, and publishes it.
func (l *pollLoop) process(resp *subrequest.Response, asked time.Time, first bool) outcome {
	l.view.state.setStatus(resp.Status)
	unmodified := resp.Status == http.StatusNotModified && l.view.state.doc != nil // whether it was asked or not
	switch {
	case subrequest.IsFailure(resp.Status):
		return l.view.publisher.publishStale(resp.Status, nil)
	case l.awaits(asked):
		return l.view.publisher.publishMissing()
	case !unmodified && !isDocument(resp.Status):
		l.view.publisher.end(resp, first)
		return ended
	case l.view.target.checkFailure != nil && !l.view.isUnlike(resp): // its viewers reconnect, and are checked again
		return ended
	case unmodified:
		l.changes = 0
		return l.view.publisher.confirm(notModified)
	}
	sum := maphash.Bytes(seed, resp.Body)
	if l.view.state.doc != nil && sum == l.sum {
		l.changes = 0
		l.validate(resp.Header, true, asked)
		return l.view.publisher.confirm(unchanged)
	}
	ctx, cancel := context.WithTimeoutCause(l.view.ctx, time.Duration(l.view.poller.config.Timeout), errWorkTimeout)
	defer cancel()
	doc, finished, err := l.view.poller.config.read(ctx, resp, l.expectation(resp))
	if err != nil {
		return l.view.publisher.publishStale(0, err)
	}
	if !l.keep(l.view.keptBytes(doc, resp.Body)) {
		return l.exceed(first)
	}
	l.validate(resp.Header, false, asked)
	l.sum = sum
	before := l.view.state.doc
	came := l.view.publisher.publishChange(ctx, doc)
	l.noteChange(ctx, came, before, doc)
	if finished && came != failed {
		return l.view.publisher.publishComplete()
	}
	return came
}

// publishCheckFailure tells the viewer of a view of its own that the backend
// couldn't decide.
func (l *pollLoop) publishCheckFailure(u *checkFailure) outcome {
	if u.status == http.StatusNotFound {
		return l.view.publisher.publishMissing()
	}
	return l.view.publisher.publishStale(u.status, u.err)
}

// keyChanged reports whether the view's viewers belong to other views now:
// because of a response to this view, whatever its status, or to another view of
// the URL.
func (l *pollLoop) keyChanged(first bool) bool {
	if l.view.poller.isKeyCurrent(l.view) {
		return false
	}
	if first && l.view.poller.rekey(l.view) {
		return false
	}
	l.view.state.dropKey()
	return true
}

// validate records the validators of a whole response. It logs if they turn out
// to be useless.
func (l *pollLoop) validate(h http.Header, same bool, asked time.Time) {
	useless := l.validated.useless
	l.validated.observe(l.validatorsOf(h), same, asked, time.Now())
	l.read = asked
	if !useless && l.validated.useless {
		l.view.poller.warnUseless.Do(func() {
			l.view.poller.log.Warn("a document changes while its ETag and Last-Modified stay: polls of such documents are no longer conditional", l.view.fields()...)
		})
	}
}

// validatorsOf returns the validators of a response to a GET.
func (l *pollLoop) validatorsOf(h http.Header) validators {
	if l.view.target.method != http.MethodGet {
		return validators{}
	}
	if etag := h.Get("ETag"); etag != "" {
		return validators{etag: etag}
	}
	return validators{modified: lastModified(h)}
}

// isPermanent reports whether polling again would not help.
func isPermanent(err error) bool {
	return errors.Is(err, subrequest.ErrEventStream) || errors.Is(err, subrequest.ErrNoResponse) || errors.Is(err, subrequest.ErrTooLarge) ||
		errors.Is(err, subrequest.ErrConnectionAborted)
}

// isCallersCase reports whether a document can't be polled for a reason that is
// the caller's to handle: it is an event stream, or the connection was aborted.
func isCallersCase(err error) bool {
	return errors.Is(err, subrequest.ErrEventStream) || errors.Is(err, subrequest.ErrConnectionAborted)
}

// notStreamable returns the refusal for viewers of a document that can't be
// polled, or the caller's case.
func notStreamable(err error) error {
	if isCallersCase(err) {
		return err
	}
	return &refusal.Error{Status: http.StatusBadGateway, Kind: refusal.NotStreamable, Reason: "this document can't be streamed: " + err.Error(), Err: err}
}

// failForGood ends a view whose document can't be polled.
func (l *pollLoop) failForGood(err error) {
	l.view.state.fail(err, nil)
	if !isCallersCase(err) {
		l.view.poller.log.Error("document can't be polled", l.view.fields(zap.Error(err))...)
	}
}
