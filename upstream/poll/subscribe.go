package poll

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// Subscription is one stream of a viewer of a view.
type Subscription struct {
	view      *view
	poller    *Poller
	principal *principal
	finished  string  // see finishedKey
	viewer    *viewer // nil until the backend lets the viewer in
	once      sync.Once

	checkFailure *checkFailure // set if the backend can't tell now
}

// Subscribe subscribes to the document that the request asks for. It waits until
// the view was polled once and the backend has authorized the viewer. If the
// backend refuses the viewer, it returns the response.
//
// It fails with a [refusal.Error] if the rule has no room for another view, the
// request's body is too large or the document can't be polled, with
// [subrequest.ErrEventStream] if the backend responds with an event stream, with
// [FinishedError] if the client should stay away, with
// [subrequest.ErrConnectionAborted] if a handler aborts the connection, and with
// the request context's error if the viewer has left. The request's body
// stays readable.
func (p *Poller) Subscribe(r *http.Request, caller Requester) (*Subscription, *subrequest.Response, error) {
	body, err := p.config.query(r)
	if err != nil {
		return nil, nil, err
	}
	t := newTarget(r, body, caller, p.hub, p.config)
	if o, ok := caller.(interface{ WithdrawOffer() }); ok && !t.standsFor(r) {
		o.WithdrawOffer() // of a stream that the backend responds with
	}
	finished := p.finishedKey(t, r, caller)
	if topic := p.finished.knows(finished); topic != "" {
		return nil, nil, &FinishedError{topic}
	}
	refused, undecided, err := p.checkAddress(r.Context(), t)
	switch {
	case refused != nil || err != nil:
		return nil, refused, err
	case undecided != nil:
		t = t.unshared(undecided)
	}
	for range maxAttempts {
		sub, refused, err := p.attempt(r.Context(), t)
		switch {
		case refused != nil || err != nil:
			return nil, refused, err
		case sub.viewer != nil:
			sub.finished = finished
			return sub, nil, nil
		case sub.checkFailure != nil:
			t = t.unshared(sub.checkFailure)
		}
	}
	return nil, nil, &refusal.Error{
		Status:     http.StatusServiceUnavailable,
		Kind:       refusal.BackendUndecided,
		Reason:     "the backend's Cache-Control or Vary changes all the time; try again later",
		RetryAfter: 5 * time.Second,
	}
}

// maxAttempts limits how often a viewer is sent to another view before its
// stream begins.
const maxAttempts = 10

// attempt subscribes to the view that is the viewer's as far as is known. A
// subscription without a viewer is over: the first response has shown that the
// viewer belongs to another view.
func (p *Poller) attempt(ctx context.Context, t *target) (*Subscription, *subrequest.Response, error) {
	sub, err := p.findView(t)
	if err != nil {
		return nil, nil, err
	}
	joined := false
	defer func() {
		if !joined {
			sub.Close()
		}
	}()
	refused, err := sub.await(ctx, t)
	joined = refused == nil && err == nil && sub.viewer != nil
	return sub, refused, err
}

// await waits until the backend has authorized the viewer. It returns the
// backend's response, or an error, if the backend does not. Afterwards the
// subscription has a viewer, or the viewer belongs to another view.
func (sub *Subscription) await(ctx context.Context, t *target) (*subrequest.Response, error) {
	v := sub.view
	select {
	case <-v.polled:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	refused, to, err := v.state.refused()
	switch {
	case !v.admits(t):
		// According to the backend's Vary or Cache-Control, the polled
		// response may differ from the response to this viewer.
		sub.leave()
		return nil, nil
	case (refused != nil || err != nil) && to != sub.principal.id: // another principal
		sub.leave()
		return sub.authorize(ctx, t)
	case errors.Is(err, errUndecided):
		sub.leave()
		sub.checkFailure = v.state.checkFailure
		return nil, nil
	case refused != nil || err != nil:
		return refused, err
	case v.isEmpty():
		sub.leave()
		return nil, nil
	case sub.viewer != nil:
		return nil, nil
	}
	refused, err = sub.authorize(ctx, t)
	if refused == nil && err == nil && sub.checkFailure == nil {
		sub.join(t)
	}
	return refused, err
}

// Close ends the subscription. It may be called more than once.
func (v *Subscription) Close() {
	v.once.Do(v.leave)
}
