package poll

import (
	"context"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// authorizationCheck asks the backend whether a viewer may share a view. Fewer
// of these requests than of polls are in flight at a time: strangers cause them,
// and must not delay polls.
func (p *Poller) authorizationCheck(ctx context.Context, t *target, as *principal) (*subrequest.Response, error) {
	select {
	case p.checkSlots <- struct{}{}:
		defer func() { <-p.checkSlots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return p.check(ctx, t, as, validators{})
}

// check makes a request and observes it as an authorization check.
func (p *Poller) check(ctx context.Context, t *target, as *principal, since validators) (*subrequest.Response, error) {
	started := time.Now()
	resp, err := p.send(ctx, t, as, since)
	p.observer.Polled(AuthorizationCheck, time.Since(started))
	return resp, err
}

// send makes a request when a slot is free.
func (p *Poller) send(ctx context.Context, t *target, as *principal, since validators) (*subrequest.Response, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(p.config.Timeout), errTimeout)
	defer cancel()
	return as.requester.Do(t.request(ctx, as, since), p.config.MaxBody)
}
