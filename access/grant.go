package access

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/fair"
	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// The bounds of the time between two checks while the backend fails and the
// subscriber waits.
const (
	initialBackoff = time.Second
	maxBackoff     = 15 * time.Second
)

// Grant is the standing permission of one stream, which the backend may revoke.
type Grant struct {
	// Failure is set if the backend could not decide yet. The subscriber then
	// waits until Granted is set.
	Failure *Failure
	// Granted is set when the backend allows the subscriber in. Nil: it has
	// already.
	Granted *signal.Signal
	// Revoked is set when the backend refuses the subscriber.
	Revoked *signal.Signal

	authorizer *Authorizer
	principal  *Principal
	uris       []string
	recheck    time.Duration
	pace       fair.Pace // of the last check; checks don't overlap
	ctx        context.Context
	end        context.CancelFunc

	mu      sync.Mutex
	timer   *time.Timer   // of the next check; nil if there is none
	backoff time.Duration // the next one, while the subscriber waits
}

// AlwaysGranted returns a grant that needs no check. Streams share it.
func AlwaysGranted() *Grant { return alwaysGranted }

var alwaysGranted = &Grant{end: func() {}}

// Authorize checks all URIs as the principal. It returns a grant, which the
// caller must end; or the backend's refusal; or an error if the configuration
// can't work or aborts the connection. The grant repeats the checks within each recheck interval. Zero:
// it doesn't.
//
// A failing backend refuses nobody: the grant repeats the checks until the
// backend decides, and an earlier permission stays valid.
func (a *Authorizer) Authorize(ctx context.Context, p *Principal, uris []string, recheck time.Duration) (*Grant, *subrequest.Response, error) {
	bounded, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	d := a.checkAll(bounded, p, uris, fair.New)
	if d.err != nil || d.refused != nil {
		return nil, d.refused, d.err
	}
	g := &Grant{
		Failure:    d.failure,
		authorizer: a,
		principal:  p,
		uris:       uris,
		recheck:    recheck,
		pace:       d.pace,
		Revoked:    new(signal.Signal),
		backoff:    initialBackoff,
	}
	g.ctx, g.end = context.WithCancel(context.Background())
	if d.failure != nil {
		g.Granted = new(signal.Signal)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.scheduleLocked(d.failure)
	return g, nil, nil
}

// scheduleLocked sets the time of the next check, if there is to be one. Jitter
// keeps streams that opened together from being checked together.
func (g *Grant) scheduleLocked(failure *Failure) {
	wait := g.recheck/2 + jitter(g.recheck/2)
	switch {
	case g.waits(): // for the backend's permission
		wait = max(g.backoff/2+jitter(g.backoff), failure.RetryAfter)
		g.backoff = min(2*g.backoff, maxBackoff)
	case g.recheck <= 0:
		return
	}
	g.timer = time.AfterFunc(wait, g.recheckNow)
}

// waits reports whether the subscriber waits for the backend's permission.
func (g *Grant) waits() bool { return g.Granted != nil && !g.Granted.IsSet() }

// jitter returns a random duration below d, or zero if d isn't positive.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// recheckNow repeats the checks. It runs on the timer's goroutine, so that a
// grant between two checks costs no more than a timer.
func (g *Grant) recheckNow() {
	g.authorizer.observer.Rechecked()
	d := g.authorizer.checkAll(g.ctx, g.principal, g.uris, g.pace)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pace = d.pace
	switch {
	case g.ctx.Err() != nil:
		return
	case d.refused != nil, errors.Is(d.err, subrequest.ErrConnectionAborted), d.err != nil && g.waits():
		g.Revoked.Set()
		return
	case d.err != nil: // like a failure: an earlier check admitted the subscriber
	case d.failure == nil && g.waits():
		g.Granted.Set()
	}
	g.scheduleLocked(d.failure)
}

// End stops the grant's checks.
func (g *Grant) End() {
	g.end()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.timer != nil {
		g.timer.Stop()
	}
}
