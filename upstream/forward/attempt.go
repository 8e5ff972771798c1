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

// schedule is when it is tried again: pauses that double, spread by half.
type schedule struct{ *backoff.ExponentialBackOff }

func newSchedule() *schedule {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.Multiplier, b.MaxInterval = firstPause, 2, maxPause
	b.Reset()
	return &schedule{b}
}

// attempt has the app have a delivery once.
func (f *Forwarder) attempt(p *pending) {
	if p.taken {
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
	answer, err := f.Send(ctx, r)
	now := time.Now()
	switch {
	case err == nil && answer.Status >= 200 && answer.Status <= 299:
		f.finish(p)
	case f.attempts.Err() != nil: // it was us who gave up
		p.attempts--
	case err == nil && answer.Status == http.StatusGone:
		f.bury(p, r, answer, Dead, "the app wants no such deliveries any more (410)")
	case now.Sub(p.received) >= f.For:
		f.bury(p, r, answer, Dead, why(answer, err))
	default:
		f.retry(p, answer, err, now)
	}
}

// load reads a delivery from the log. What isn't there any more is lost.
func (f *Forwarder) load(p *pending) (*Request, bool) {
	e := f.hub.Entry(p.seq)
	if e == nil || e.ID != p.id {
		f.bury(p, new(Request), Response{}, Lost, "it has left the history before the app had it: make the hub's history larger")
		return nil, false
	}
	r := new(Request)
	if err := decodeFrame(e.Frame, r); err != nil {
		f.bury(p, r, Response{}, Lost, "it can't be read: "+err.Error())
		return nil, false
	}
	return r, true
}

// finish notes that a delivery is done with. If that can't be stored, it is
// noted later; after a crash before that the app gets it again.
func (f *Forwarder) finish(p *pending) {
	p.taken = true
	if _, err := f.hub.PublishAll(nil, f.receipt(p.id)); err != nil {
		f.postpone(p, err)
		return
	}
	f.Count(Delivered)
	f.forget(p)
}

// postpone is for when the store fails.
func (f *Forwarder) postpone(p *pending, err error) {
	f.Log.Error("that a delivery is done with can't be stored; it is tried again", zap.String("rule", f.Rule), zap.Error(err))
	f.setDue(p, time.Now().Add(p.backOff.NextBackOff()))
}

func (f *Forwarder) setDue(p *pending, due time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.due = due
}

// retry has it tried again, not before the app wants it, and once more when its
// time is up.
func (f *Forwarder) retry(p *pending, answer Response, err error, now time.Time) {
	f.Count(Failed)
	pause := max(p.backOff.NextBackOff(), subrequest.RetryAfter(answer.Header, now, f.For))
	due := now.Add(pause)
	if end := p.received.Add(f.For); due.After(end) {
		due = end
	}
	if p.attempts == 1 {
		f.Log.Info("the app has not taken a delivery; it is tried again", zap.String("rule", f.Rule), zap.String("why", why(answer, err)))
	}
	f.setDue(p, due)
}

// why is for the operator.
func why(answer Response, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("the app answered with %d", answer.Status)
}
