package poll

import (
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

// condition returns the validators to send with a poll: none if a write may have
// changed the document since the last whole response. A backend may keep the ETag
// of a list whose item has changed.
func (l *pollLoop) condition() validators {
	if _, newest := l.view.state.writes(); l.schedule.aftermath.looking || !l.read.After(newest) {
		return validators{}
	}
	return l.validated.condition()
}

// pollSafely is poll for a goroutine without a server that would recover a
// panic.
func (l *pollLoop) pollSafely(slot *fair.Slot, first bool) (came outcome, header http.Header) {
	defer func() {
		if p := recover(); p != nil {
			came = l.view.publisher.publishStale(0, fmt.Errorf("poll panicked: %v\n%s", p, debug.Stack()))
		}
	}()
	return l.poll(slot, first)
}

// poll polls once, and releases the slot. If the response is no document, it may
// poll again as other viewers: the response may be about the principal and not about
// the document. It returns the response's headers, if there was a response.
func (l *pollLoop) poll(slot *fair.Slot, first bool) (outcome, http.Header) {
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
	o.resp, o.err = l.view.poll(slot, o.principal, since)
	o.unlike = l.view.isChecked() && l.view.isUnlike(o.resp)
	if !o.isGood() {
		o = l.view.confirmRefusal(o, since)
	}
	l.recordMissing(o, asked)
	l.view.recordAuthorization(o.principal, o.isGood())
	l.view.state.recordPrincipal(o.principal)
	resp, err := o.resp, o.err
	switch {
	case l.hasEnded(): // it has no viewers
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
	}
	if first {
		l.view.publisher.succeed()
	}
	if err != nil {
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
	ctx, cancel := l.withTimeout(errWorkTimeout)
	defer cancel()
	doc, err := l.view.poller.config.read(ctx, resp, l.expectation(resp))
	if err == nil {
		err = l.view.poller.config.shape(ctx, l.view.state.doc, doc)
	}
	if err != nil {
		return l.view.publisher.publishStale(0, err)
	}
	l.view.publisher.recallEnd(doc)
	if !l.keep(l.view.keptBytes(doc, resp.Body)) {
		return l.exceed(first)
	}
	l.validate(resp.Header, false, asked)
	l.sum = sum
	before := l.view.state.doc
	came := l.view.publisher.publishChange(ctx, doc)
	l.noteChange(ctx, came, before, doc)
	if doc.finished && came != failed {
		return l.view.publisher.publishComplete(doc)
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
