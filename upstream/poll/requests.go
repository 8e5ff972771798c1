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
	slot := v.loop.furtherSlot()
	if slot == nil {
		return nil, context.Canceled
	}
	return v.poll(slot, as, since)
}

// poll makes a request of a poll, and releases its slot.
func (v *view) poll(slot *fair.Slot, as *principal, since validators) (*subrequest.Response, error) {
	defer func() { v.loop.pace = slot.Release() }()
	resp, err := v.send(as, since)
	if err == nil && isDocument(resp.Status) {
		err = v.loop.beginWork(resp)
	}
	return resp, err
}

// send makes a request, and records what the response says about the requests
// that have the same response. If the response's Vary names an ignored header of
// the target, the request is repeated with it. The timeout starts now.
func (v *view) send(as *principal, since validators) (*subrequest.Response, error) {
	ctx, cancel := v.loop.withTimeout(errTimeout)
	defer cancel()
	varies := v.state.variesNow()
	resp, unsent, err := v.sendWith(ctx, as, since, varies)
	if len(unsent) > 0 {
		maps.Copy(unsent, varies)
		resp, _, err = v.sendWith(ctx, as, since, unsent)
	}
	return resp, err
}

// sendWith makes a request with those ignored headers that varies has. It also
// returns those that it should have had, according to the response. A poll is
// safe to repeat: if the backend has closed the connection without a response, it
// is made again, once. The transport does so for some requests, but for no POST.
func (v *view) sendWith(ctx context.Context, as *principal, since validators, varies map[string]bool) (*subrequest.Response, map[string]bool, error) {
	t, began, ofSession := v.target, time.Now(), false
	do := func() (*subrequest.Response, error) {
		header := t.headerFor(as, since, varies)
		ofSession = v.addCookies(header, began)
		return as.requester.Do(t.request(ctx, as, header), v.poller.config.MaxBody)
	}
	resp, err := do()
	if err == nil && subrequest.ClosedWithoutResponse(resp) {
		resp, err = do()
	}
	if resp == nil {
		return nil, nil, err
	}
	v.keepCookies(resp.Header, began)
	if ofSession {
		own := *resp
		own.OfSession = true
		resp = &own
	}
	v.poller.learn(v, resp)
	return resp, v.poller.config.unsent(t, varies, resp.Header), err
}
