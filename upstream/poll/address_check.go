package poll

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/fair"
	"github.com/caddy-sse/caddy-sse/internal/inflight"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// addressChecks are checks whether the backend shows a document at a viewer's own
// address. The polls of a view may carry another address, or none.
type addressChecks struct {
	calls inflight.Group[check]

	mu     sync.Mutex
	passed map[string]time.Time // when, by the key of the viewer's own request
	swept  time.Time            // when old entries were last removed
}

const (
	// addressCheckedFor is for how long a viewer's address needs no other check.
	addressCheckedFor = time.Minute
	// maxAddressChecks limits the checks that are recorded. At the limit, viewers
	// are checked each time.
	maxAddressChecks = 50_000
	// maxAddressRefusal limits the body of a refusal that the viewer gets.
	maxAddressRefusal = 64 << 10
)

// hasPassed reports whether a request needs no check.
func (c *addressChecks) hasPassed(key string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.passed[key]
	return ok && now.Sub(at) < addressCheckedFor
}

func (c *addressChecks) record(key string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.swept) >= addressCheckedFor {
		for key, at := range c.passed {
			if now.Sub(at) >= addressCheckedFor {
				delete(c.passed, key)
			}
		}
		c.swept = now
	}
	if c.passed == nil {
		c.passed = make(map[string]time.Time)
	}
	if len(c.passed) < maxAddressChecks {
		c.passed[key] = now
	}
}

// checkAddress asks the backend whether it shows the document at the viewer's own
// address, if the rule checks addresses and polls may carry another. It returns
// the backend's response if that is a refusal, or why there is no decision.
func (p *Poller) checkAddress(ctx context.Context, t *target) (refused *subrequest.Response, undecided *checkFailure, err error) {
	if t.own == nil || p.addressChecks.hasPassed(t.ownKey, time.Now()) {
		return nil, nil, nil
	}
	o, _, err := p.addressChecks.calls.Do(ctx, t.ownKey, func(ctx context.Context) (o check, err error) {
		o.principal = t.own
		if p.addressChecks.hasPassed(t.ownKey, time.Now()) { // in another call, meanwhile
			o.resp = &subrequest.Response{Status: http.StatusOK}
			return o, nil
		}
		o.resp, o.err = p.askAs(ctx, t, t.own, maxAddressRefusal)
		if errors.Is(o.err, subrequest.ErrTooLarge) { // a document, whose body doesn't matter
			o.err = nil
		}
		if o.isGood() {
			p.addressChecks.record(t.ownKey, time.Now())
		}
		return o, nil
	})
	switch {
	case err != nil:
		return nil, nil, err
	case isPermanent(o.err):
		return nil, nil, notStreamable(o.err)
	case o.refuses() && !p.isMissing(p.viewOf(t), o.resp):
		return o.resp, nil, nil
	case o.isGood():
		return nil, nil, nil
	default:
		return nil, newCheckFailure(o.resp, o.err), nil
	}
}

// askAs makes a viewer's request as a principal when there is a slot for the
// viewer's client.
func (p *Poller) askAs(ctx context.Context, t *target, as *principal, maxBody int64) (*subrequest.Response, error) {
	started := time.Now()
	slot, err := p.slots.Acquire(ctx, fair.Request{Host: t.host, Path: t.path, Client: as.requester.ClientNetwork()})
	if err != nil {
		return nil, err
	}
	defer slot.Release()
	defer func() { p.observer.Polled(AuthorizationCheck, time.Since(started)) }()
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(p.config.Timeout), errTimeout)
	defer cancel()
	return as.requester.Do(t.request(ctx, as, t.headerFor(as, validators{}, nil)), maxBody)
}

// mayAbsorb reports whether a response to a poll may answer a viewer at its own
// address. An address that was not checked is the backend's to decide about.
func (p *Poller) mayAbsorb(t *target, now time.Time) bool {
	return t.own == nil || p.addressChecks.hasPassed(t.ownKey, now)
}

// setOwn sets the principal with the viewer's own address, if the rule checks
// addresses and polls may carry another one.
func (t *target) setOwn(r *http.Request, caller Requester, h *hub.Hub, c *Config) {
	if !c.checksAddresses() || c.Share != shareUnchecked && t.principal.isPersonal() {
		return
	}
	t.own = ownPrincipal(r, caller, c.varyBy)
	parts := append([]string{"own", t.private}, t.own.parts()...)
	for _, name := range slices.Sorted(maps.Keys(varyCandidates)) {
		parts = appendCounted(parts, name, t.header[name]...)
	}
	t.ownKey = h.Digest(parts...)
}
