package forward

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

const (
	firstPause = time.Second
	maxPause   = time.Hour
)

// newBackoff returns pauses between attempts that double, with a jitter of half.
func newBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.MaxInterval = firstPause, 2, maxPause
	b.Reset()
	return b
}

// attempt sends a delivery to the app once.
func (f *Forwarder) attempt(p *pending) {
	if p.accepted {
		f.finish(p)
		return
	}
	r, ok := f.load(p)
	if !ok {
		return
	}
	p.attempts++
	ctx, cancel := context.WithTimeout(f.attempts, attemptTimeout)
	defer cancel()
	response, err := f.Send(ctx, r)
	now := time.Now()
	switch {
	case err == nil && response.Status >= 200 && response.Status <= 299:
		f.finish(p)
	case f.attempts.Err() != nil: // this forwarder has aborted it
		p.attempts--
	case err == nil && response.Status == http.StatusGone:
		f.deadLetter(p, r, response, Dead, "the app wants no such deliveries any more (410)")
	case now.Sub(p.received) >= f.For:
		f.deadLetter(p, r, response, Dead, failure(response, err))
	default:
		f.retry(p, response, err, now)
	}
}

// load reads a delivery from the log. A delivery that has left the log is lost.
func (f *Forwarder) load(p *pending) (*Request, bool) {
	e := f.hub.Entry(p.seq)
	if e == nil || e.ID != p.id {
		f.deadLetter(p, new(Request), Response{}, Lost, "it has left the history before the app had it: make the hub's history larger")
		return nil, false
	}
	r := new(Request)
	if err := decodeFrame(e.Frame, r); err != nil {
		f.deadLetter(p, r, Response{}, Lost, "it can't be read: "+err.Error())
		return nil, false
	}
	return r, true
}

// finish records that the app has accepted a delivery. If the store fails, the
// forwarder records it later. After a crash before that, the app gets the
// delivery again.
func (f *Forwarder) finish(p *pending) {
	p.accepted = true
	if _, err := f.hub.PublishAll(nil, f.doneKey(p.id)); err != nil {
		f.postpone(p, err)
		return
	}
	f.Count(Delivered)
	f.forget(p)
}

// postpone schedules another attempt after the store has failed.
func (f *Forwarder) postpone(p *pending, err error) {
	f.Log.Error("the result of a delivery can't be stored; the forwarder tries again", zap.String("rule", f.Rule), zap.Error(err))
	f.setDue(p, time.Now().Add(p.backoff.NextBackOff()))
}

func (f *Forwarder) setDue(p *pending, due time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.due = due
}

// retry schedules another attempt: not before the response's Retry-After, and a
// last one when the time for the delivery is over.
func (f *Forwarder) retry(p *pending, response Response, err error, now time.Time) {
	f.Count(Failed)
	pause := max(p.backoff.NextBackOff(), subrequest.RetryAfter(response.Header, now, f.For))
	due := now.Add(pause)
	if end := p.received.Add(f.For); due.After(end) {
		due = end
	}
	if p.attempts == 1 {
		f.Log.Info("the app has not accepted a delivery; the forwarder tries again", zap.String("rule", f.Rule), zap.String("why", failure(response, err)))
	}
	f.setDue(p, due)
}

// failure describes a failed attempt to the operator.
func failure(response Response, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("the app responded with %d", response.Status)
}
