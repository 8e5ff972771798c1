package access

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/internal/inflight"
	"github.com/caddy-sse/caddy-sse/internal/loglimit"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

const (
	// checkTimeout is how long the backend may take for an answer.
	checkTimeout = 10 * time.Second
	// openTimeout is how long a request waits for its answers, and their turn,
	// until its stream is opened without them.
	openTimeout = checkTimeout + time.Second
	// decisionTTL is how long an answer holds for others who ask the same.
	decisionTTL = time.Second
	// maxChecksInFlight is how many questions of a rule are under way at a time.
	maxChecksInFlight = 100
	// maxKeptDecisions is how many answers are kept for others.
	maxKeptDecisions = 1000
	// maxRetryAfter is how long the backend may have a viewer wait.
	maxRetryAfter = 2 * time.Minute
	// maxRefusalBytes is how many bytes of a refusal are passed on.
	maxRefusalBytes = 16 << 10
)

// Authorizer asks the backend who may watch. It is safe for concurrent use.
//
// Those who ask the same, with all that is sent the same, share one question
// and, for a second, its answer.
type Authorizer struct {
	digest   func(parts ...string) string
	log      *zap.Logger
	observer Observer
	slots    chan struct{} // taken by questions in flight

	calls inflight.Group[decision] // by a digest: no credential is in clear
	line  loglimit.Limiter         // of failures
}

// NewAuthorizer returns an authorizer, which tells the observer what it asks;
// nil: nobody. The digest must be one that nobody outside can compute.
func NewAuthorizer(digest func(parts ...string) string, log *zap.Logger, o Observer) *Authorizer {
	if o == nil {
		o = noopObserver{}
	}
	return &Authorizer{
		digest: digest, log: log, observer: o, slots: make(chan struct{}, maxChecksInFlight),
		calls: inflight.Group[decision]{TTL: decisionTTL, MaxKept: maxKeptDecisions},
	}
}

// request is what the backend has said: yes, if it is neither a refusal nor a
// failure.
type decision struct {
	refused *subrequest.Response
	failure *Failure
	err     error // the rule can't work
}

// undecided is for who has not waited for one.
var undecided = decision{failure: &Failure{Status: http.StatusGatewayTimeout}}

// Failure is that the backend can't tell now.
type Failure struct {
	// Status is the one that it has answered with, or the one that stands
	// for no answer: 502 or 504.
	Status int
	// RetryAfter is what it has asked for. Zero: nothing.
	RetryAfter time.Duration
}

// addURIs waits for the answer to one question.
func (a *Authorizer) check(ctx context.Context, v *Principal, uri string) decision {
	key := a.digest(append([]string{uri}, v.identity...)...)
	said, shared, err := a.calls.Do(ctx, key, func(ctx context.Context) (decision, error) {
		began := time.Now()
		said := a.request(ctx, v, uri)
		if ctx.Err() == nil {
			a.observer.Checked(said.outcome(), time.Since(began))
		}
		return said, nil
	})
	if shared {
		a.observer.Checked(Coalesced, 0)
	}
	if err != nil {
		return undecided
	}
	return said
}

// decision asks the backend when it is the question's turn.
func (a *Authorizer) request(ctx context.Context, v *Principal, uri string) decision {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return undecided
	}
	asking, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	req, err := v.request(asking, uri)
	if err != nil {
		return decision{err: err}
	}
	resp, err := v.requester.Do(req, maxRefusalBytes)
	switch {
	case errors.Is(err, subrequest.ErrTooLarge), errors.Is(err, subrequest.ErrEventStream): // which only what is let in can be
		return decision{}
	case errors.Is(err, subrequest.ErrNoResponse):
		return decision{err: err}
	case ctx.Err() != nil: // nobody waits
		return undecided
	case err != nil && asking.Err() != nil:
		return a.failure(v, http.StatusGatewayTimeout, nil, err)
	case err != nil:
		return a.failure(v, http.StatusBadGateway, nil, err)
	case resp.Status >= 200 && resp.Status < 300:
		return decision{}
	case subrequest.IsFailure(resp.Status):
		return a.failure(v, resp.Status, resp.Header, resp.Err)
	default:
		return decision{refused: resp}
	}
}

// failure tells the log at most once a minute.
func (a *Authorizer) failure(v *Principal, status int, header http.Header, err error) decision {
	if left, due := a.line.Allow(time.Now()); due {
		a.log.Warn("backend can't say who may watch: new streams wait, open ones go on",
			zap.String("host", v.host), zap.Int("status", status), zap.Error(err), zap.Int("not_logged_since", left))
	}
	return decision{failure: &Failure{Status: status, RetryAfter: subrequest.RetryAfter(header, time.Now(), maxRetryAfter)}}
}
