package poll

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// errAwaited is the error of a poll for a document that isn't there yet. It is
// no failure of the backend, and is not logged.
var errAwaited = errors.New("the document isn't there yet")

// recordMissing records since when the backend has answered every poll with 404.
// 410 says that the document is gone for good (RFC 9110 §15.5.11).
func (l *pollLoop) recordMissing(o check, now time.Time) {
	switch {
	case o.err != nil || o.resp.Status != http.StatusNotFound:
		l.missingSince = time.Time{}
	case l.missingSince.IsZero():
		l.missingSince = now
		l.schedule.pause = l.schedule.interval
	}
}

// awaits reports whether a 404 is not final: the document may be there again, or
// for the first time.
func (l *pollLoop) awaits(now time.Time) bool {
	c := l.view.poller.config
	switch {
	case l.missingSince.IsZero():
		return false
	case l.view.state.doc == nil && c.Wait:
		return true
	case l.view.state.doc == nil && l.view.target.checkFailure == nil:
		return false
	default:
		return now.Sub(l.missingSince) < time.Duration(c.GoneAfter)
	}
}

// untilGone returns when a missing document is gone, if nothing else is found.
func (l *pollLoop) untilGone(now time.Time) time.Duration {
	left := time.Duration(l.view.poller.config.GoneAfter) - now.Sub(l.missingSince)
	if l.missingSince.IsZero() || left <= 0 { // or the view waits
		return math.MaxInt64
	}
	return left
}

// publishMissing tells the view's viewers, once, that the document is missing.
func (p *publisher) publishMissing() outcome {
	err := errAwaited
	if p.view.state.doc != nil {
		err = &documentError{missingDocument, -1, fmt.Errorf("the document is missing; its streams end if it stays so for %v (gone_after)", time.Duration(p.view.poller.config.GoneAfter))}
	}
	p.publishStale(http.StatusNotFound, err)
	return missing
}

// isMissing reports whether the document was answered with 404, and the view goes
// on.
func (s *documentState) isMissing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stale != nil && s.pollStatus.status == http.StatusNotFound
}

// isUndecided reports whether a response to a new viewer says nothing about
// whether the viewer may see the document.
func (v *view) isUndecided(o check) bool {
	return o.err != nil || subrequest.IsFailure(o.resp.Status) || v.poller.isMissing(v, o.resp)
}

// isMissing reports whether a response doesn't refuse a viewer of a view, which
// may be nil, but says that the document is missing for now.
func (p *Poller) isMissing(v *view, resp *subrequest.Response) bool {
	return resp.Status == http.StatusNotFound && (p.config.Wait || v != nil && v.state.isMissing())
}

// viewOf returns the view to which a request belongs as far as is known, or nil.
func (p *Poller) viewOf(t *target) *view {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.views[p.keyLocked(t)]
}
