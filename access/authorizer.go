package access

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/internal/fair"
	"github.com/caddy-sse/caddy-sse/internal/inflight"
	"github.com/caddy-sse/caddy-sse/internal/loglimit"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

const (
	// checkTimeout is how long the backend may take to respond to a check.
	checkTimeout = 10 * time.Second
	// openTimeout is how long a request waits for its checks, including the
	// time that they wait for a slot, before its stream opens without a
	// decision.
	openTimeout = checkTimeout + time.Second
	// decisionTTL is how long a decision serves identical checks.
	decisionTTL = time.Second
	// maxChecksInFlight is how many checks of a rule are in flight at a time.
	maxChecksInFlight = 100
	// maxKeptDecisions is how many decisions are kept for identical checks.
	maxKeptDecisions = 1000
	// maxRetryAfter limits the Retry-After that the backend may ask for.
	maxRetryAfter = 2 * time.Minute
	// maxRefusalBytes is how much of a refusal's body reaches the client.
	maxRefusalBytes = 16 << 10
)

// Authorizer asks the backend whether principals may read. It is safe for
// concurrent use.
//
// Identical checks, of principals with the same credentials, share one
// subrequest and for a second its result.
type Authorizer struct {
	digest   func(parts ...string) string
	log      *zap.Logger
	observer Observer
	slots    *fair.Slots // of the subrequests in flight

	checks     inflight.Group[decision] // keyed by a digest, since the key holds credentials
	failureLog loglimit.Limiter
}

// NewAuthorizer returns an authorizer. The digest must be keyed, so that clients
// can't compute it. The observer may be nil.
func NewAuthorizer(digest func(parts ...string) string, log *zap.Logger, o Observer) *Authorizer {
	if o == nil {
		o = noopObserver{}
	}
	return &Authorizer{
		digest: digest, log: log, observer: o, slots: fair.NewSlots(maxChecksInFlight),
		checks: inflight.Group[decision]{TTL: decisionTTL, MaxKept: maxKeptDecisions},
	}
}

// decision is the result of a check. Its zero value allows the principal in.
type decision struct {
	refused *subrequest.Response
	failure *Failure
	err     error // the configuration can't work, or aborts the connection
	pace    fair.Pace
}

// undecided is the decision when the caller stops waiting for one.
var undecided = decision{failure: &Failure{Status: http.StatusGatewayTimeout}}

func (d *decision) outcome() Outcome {
	switch {
	case d.refused != nil:
		return Refused
	case d.failure != nil, d.err != nil:
		return Failed
	default:
		return Allowed
	}
}

// Failure says that the backend can't decide now.
type Failure struct {
	// Status is the response's status: 502 if there is no response, 504 if it
	// takes too long.
	Status int
	// RetryAfter is the response's Retry-After, two minutes at most. Zero:
	// the response has none.
	RetryAfter time.Duration
}

// checkAll runs the checks of all URIs concurrently. The pace is that of the last
// time. A refusal comes before an error, and an error before a failure.
func (a *Authorizer) checkAll(ctx context.Context, p *Principal, uris []string, pace fair.Pace) decision {
	if len(uris) == 1 {
		return a.check(ctx, p, uris[0], pace)
	}
	decisions := make([]decision, len(uris))
	var checks sync.WaitGroup
	for i, uri := range uris {
		checks.Go(func() { decisions[i] = a.check(ctx, p, uri, pace) })
	}
	checks.Wait()
	var all decision
	for _, one := range decisions {
		all.pace = max(all.pace, one.pace)
		switch {
		case one.refused != nil:
			return one
		case all.err == nil && one.err != nil:
			all.err = one.err
		case all.failure == nil:
			all.failure = one.failure
		}
	}
	return all
}

// check returns the decision on one URI, perhaps that of an identical check.
func (a *Authorizer) check(ctx context.Context, p *Principal, uri string, pace fair.Pace) decision {
	key := a.digest(append([]string{uri}, p.identity...)...)
	d, shared, err := a.checks.Do(ctx, key, func(ctx context.Context) (decision, error) {
		start := time.Now()
		d := a.request(ctx, p, uri, pace)
		if ctx.Err() == nil {
			a.observer.Checked(d.outcome(), time.Since(start))
		}
		return d, nil
	})
	if shared {
		a.observer.Checked(Coalesced, 0)
	}
	if err != nil {
		return undecided
	}
	return d
}

// request makes the subrequest once there is a slot for it.
func (a *Authorizer) request(ctx context.Context, p *Principal, uri string, pace fair.Pace) (d decision) {
	path, _, _ := strings.Cut(uri, "?")
	slot, err := a.slots.Acquire(ctx, fair.Request{Client: p.requester.ClientNetwork(), Host: p.host, Path: path, Pace: pace})
	if err != nil {
		return undecided
	}
	defer func() { d.pace = slot.Release() }()
	bounded, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	req, err := p.request(bounded, uri)
	if err != nil {
		return decision{err: err}
	}
	resp, err := p.requester.Do(req, maxRefusalBytes)
	switch {
	case errors.Is(err, subrequest.ErrTooLarge), errors.Is(err, subrequest.ErrEventStream): // only of 2xx responses
		return decision{}
	case errors.Is(err, subrequest.ErrNoResponse), errors.Is(err, subrequest.ErrConnectionAborted):
		return decision{err: err}
	case ctx.Err() != nil: // no caller waits
		return undecided
	case err != nil && bounded.Err() != nil:
		return a.failure(p, http.StatusGatewayTimeout, nil, err)
	case err != nil:
		return a.failure(p, http.StatusBadGateway, nil, err)
	case resp.Status >= 200 && resp.Status < 300:
		return decision{}
	case subrequest.IsFailure(resp.Status):
		return a.failure(p, resp.Status, resp.Header, resp.Err)
	default:
		return decision{refused: resp}
	}
}

// failure returns the decision on a failed check. It logs one line a minute.
func (a *Authorizer) failure(p *Principal, status int, header http.Header, err error) decision {
	if suppressed, ok := a.failureLog.Allow(time.Now()); ok {
		a.log.Warn("backend can't authorize subscribers: new streams wait, open ones continue",
			zap.String("host", p.host), zap.Int("status", status), zap.Error(err), zap.Int("not_logged_since", suppressed))
	}
	return decision{failure: &Failure{Status: status, RetryAfter: subrequest.RetryAfter(header, time.Now(), maxRetryAfter)}}
}
