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
	// askTimeout is how long the backend may take for an answer.
	askTimeout = 10 * time.Second
	// openWait is how long a request waits for its answers, and their turn,
	// until its stream is opened without them.
	openWait = askTimeout + time.Second
	// shareFor is how long an answer holds for others who ask the same.
	shareFor = time.Second
	// maxInFlight is how many questions of a rule are under way at a time.
	maxInFlight = 100
	// maxShared is how many answers are kept for others.
	maxShared = 1000
	// maxRetryAfter is how long the backend may have a viewer wait.
	maxRetryAfter = 2 * time.Minute
	// maxRefusal is how many bytes of a refusal are passed on.
	maxRefusal = 16 << 10
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

	calls inflight.Group[answer] // by a digest: no credential is in clear
	line  loglimit.Limiter       // of failures
}

// NewAuthorizer returns an authorizer, which tells the observer what it asks;
// nil: nobody. The digest must be one that nobody outside can compute.
func NewAuthorizer(digest func(parts ...string) string, log *zap.Logger, o Observer) *Authorizer {
	if o == nil {
		o = nobodyObserves{}
	}
	return &Authorizer{
		digest: digest, log: log, observer: o, slots: make(chan struct{}, maxInFlight),
		calls: inflight.Group[answer]{TTL: shareFor, MaxKept: maxShared},
	}
}

// answer is what the backend has said: yes, if it is neither a refusal nor a
// failure.
type answer struct {
	refused *subrequest.Response
	failed  *Failure
	err     error // the rule can't work
}

// noAnswer is for who has not waited for one.
var noAnswer = answer{failed: &Failure{Status: http.StatusGatewayTimeout}}

// Failure is that the backend can't tell now.
type Failure struct {
	// Status is the one that it has answered with, or the one that stands
	// for no answer: 502 or 504.
	Status int
	// RetryAfter is what it has asked for. Zero: nothing.
	RetryAfter time.Duration
}

// ask waits for the answer to one question.
func (a *Authorizer) ask(ctx context.Context, v *Principal, uri string) answer {
	key := a.digest(append([]string{uri}, v.parts...)...)
	said, shared, err := a.calls.Do(ctx, key, func(ctx context.Context) (answer, error) {
		began := time.Now()
		said := a.answer(ctx, v, uri)
		if ctx.Err() == nil {
			a.observer.Asked(said.outcome(), time.Since(began))
		}
		return said, nil
	})
	if shared {
		a.observer.Asked(Coalesced, 0)
	}
	if err != nil {
		return noAnswer
	}
	return said
}

// answer asks the backend when it is the question's turn.
func (a *Authorizer) answer(ctx context.Context, v *Principal, uri string) answer {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return noAnswer
	}
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := v.request(asking, uri)
	if err != nil {
		return answer{err: err}
	}
	resp, err := v.caller.Do(req, maxRefusal)
	switch {
	case errors.Is(err, subrequest.ErrTooLarge), errors.Is(err, subrequest.ErrEventStream): // which only what is let in can be
		return answer{}
	case errors.Is(err, subrequest.ErrNoResponse):
		return answer{err: err}
	case ctx.Err() != nil: // nobody waits
		return noAnswer
	case err != nil && asking.Err() != nil:
		return a.failed(v, http.StatusGatewayTimeout, nil, err)
	case err != nil:
		return a.failed(v, http.StatusBadGateway, nil, err)
	case resp.Status >= 200 && resp.Status < 300:
		return answer{}
	case subrequest.IsFailure(resp.Status):
		return a.failed(v, resp.Status, resp.Header, resp.Err)
	default:
		return answer{refused: resp}
	}
}

// failed tells the log at most once a minute.
func (a *Authorizer) failed(v *Principal, status int, header http.Header, err error) answer {
	if left, due := a.line.Allow(time.Now()); due {
		a.log.Warn("backend can't say who may watch: new streams wait, open ones go on",
			zap.String("host", v.host), zap.Int("status", status), zap.Error(err), zap.Int("not_logged_since", left))
	}
	return answer{failed: &Failure{Status: status, RetryAfter: subrequest.RetryAfter(header, time.Now(), maxRetryAfter)}}
}
