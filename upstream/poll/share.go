package poll

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/next"
)

// askAgain is the pause between two questions whether a viewer may share, while
// the backend can't answer.
const askAgain = 500 * time.Millisecond

// ask asks the backend as the viewer, who is about to share what others are
// shown. It returns the backend's answer if that is a refusal. A backend that
// can't answer is waited for: nobody gets in unasked, yet to be turned away
// would end an EventSource for good.
func (p *Poller) ask(ctx context.Context, t *target) (*next.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(p.config.Timeout))
	defer cancel()
	for {
		resp, err := p.do(ctx, t, "")
		switch {
		case err == nil && resp.Status >= 200 && resp.Status <= 203:
			return nil, nil
		case err == nil && !failing(resp.Status):
			return resp, nil
		case misconfigured(err):
			return nil, nil // as the first poll will find, and say
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return nil, &refusal.Error{
				Status:     http.StatusServiceUnavailable,
				Reason:     "the backend can't say whether this document may be watched; try again later",
				RetryAfter: 5 * time.Second,
				Err:        err,
			}
		}
	}
}

// do makes a request when it is its turn.
func (p *Poller) do(ctx context.Context, t *target, etag string) (*next.Response, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(p.config.Timeout), errTimeout)
	defer cancel()
	return t.caller.Do(t.request(ctx, etag), p.config.MaxBody)
}

// asker is whose request the next poll makes: that of the viewers who are there
// in turn, so that each of them is asked about again, or of the last one who
// was.
func (v *view) asker() *target {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	if len(v.askers) > 0 {
		next := v.askers[0]
		v.askers = append(v.askers[1:], next)
		v.asked = next.target
	}
	return v.asked
}

// revoke ends the streams of a viewer whom the backend refuses what it still
// shows to others. It returns false if there is nobody else to ask as.
func (v *view) revoke(t *target) bool {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	refused := func(viewing *Viewing) bool { return viewing.target == t }
	if !slices.ContainsFunc(v.askers, func(viewing *Viewing) bool { return !refused(viewing) }) {
		return false
	}
	for _, viewing := range v.askers {
		if refused(viewing) {
			close(viewing.revoked)
		}
	}
	v.askers = slices.DeleteFunc(v.askers, refused)
	return true
}

// dropLocked forgets a viewer who leaves.
func (v *view) dropLocked(viewing *Viewing) {
	v.askers = slices.DeleteFunc(v.askers, func(other *Viewing) bool { return other == viewing })
}
