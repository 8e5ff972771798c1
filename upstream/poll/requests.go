package poll

import (
	"context"
	"maps"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/fair"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// authorizationCheck asks the backend whether a viewer may share the view, by the
// viewer's own request. The viewer's client causes it.
func (v *view) authorizationCheck(ctx context.Context, t *target, as *principal) (*subrequest.Response, error) {
	resp, err := v.poller.askAs(ctx, t, as, v.poller.config.MaxBody)
	if resp != nil {
		v.poller.learn(v, resp)
	}
	return resp, err
}

// check polls as another viewer, and observes it as an authorization check.
func (v *view) check(as *principal, since validators) (*subrequest.Response, error) {
	started := time.Now()
	defer func() { v.poller.observer.Polled(AuthorizationCheck, time.Since(started)) }()
	return v.poll(as, since)
}

// poll makes the request of a poll when a slot is free. Only the loop polls.
func (v *view) poll(as *principal, since validators) (*subrequest.Response, error) {
	slot, err := v.acquireSlot()
	if err != nil {
		return nil, err
	}
	defer func() { v.loop.pace = slot.Release() }()
	resp, err := v.send(v.ctx, v.target, as, since)
	if err == nil && isDocument(resp.Status) {
		err = v.loop.beginWork(resp)
	}
	return resp, err
}

// acquireSlot acquires a slot for a poll. The client that has created the view
// causes its polls, but only until another client watches it: otherwise a client
// could hold up what others watch by what it makes hang.
func (v *view) acquireSlot() (*fair.Slot, error) {
	request := v.slotRequest()
	request.Client, request.Pace = v.client, v.loop.pace
	slot, err := v.poller.slots.Acquire(v.alone, request)
	if err != nil && v.ctx.Err() == nil {
		request.Client = ""
		return v.poller.slots.Acquire(v.ctx, request)
	}
	return slot, err
}

func (v *view) slotRequest() fair.Request {
	return fair.Request{Host: v.target.host, Path: v.target.path}
}

// send makes a request, and records what the response says about the requests
// that have the same response. If the response's Vary names an ignored header of
// the target, the request is repeated with it. The timeout starts now.
func (v *view) send(ctx context.Context, t *target, as *principal, since validators) (*subrequest.Response, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(v.poller.config.Timeout), errTimeout)
	defer cancel()
	varies := v.state.variesNow()
	resp, unsent, err := v.sendWith(ctx, t, as, since, varies)
	if len(unsent) > 0 {
		maps.Copy(unsent, varies)
		resp, _, err = v.sendWith(ctx, t, as, since, unsent)
	}
	return resp, err
}

// sendWith makes a request with those ignored headers that varies has. It also
// returns those that it should have had, according to the response. A poll is
// safe to repeat: if the backend has closed the connection without a response, it
// is made again, once. The transport does so for some requests, but for no POST.
func (v *view) sendWith(ctx context.Context, t *target, as *principal, since validators, varies map[string]bool) (*subrequest.Response, map[string]bool, error) {
	jar, began, ofSession := v.jarFor(t), time.Now(), false
	do := func() (*subrequest.Response, error) {
		header := t.headerFor(as, since, varies)
		if jar != nil {
			ofSession = jar.setHeader(header, began)
		}
		return as.requester.Do(t.request(ctx, as, header), v.poller.config.MaxBody)
	}
	resp, err := do()
	if err == nil && subrequest.ClosedWithoutResponse(resp) {
		resp, err = do()
	}
	if resp == nil {
		return nil, nil, err
	}
	if jar != nil {
		jar.store(resp.Header, began)
	}
	if ofSession {
		own := *resp
		own.OfSession = true
		resp = &own
	}
	v.poller.learn(v, resp)
	return resp, v.poller.config.unsent(t, varies, resp.Header), err
}
