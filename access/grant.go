package access

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// Pauses of a viewer who waits for a backend that fails.
const (
	initialBackoff = time.Second
	maxBackoff     = 15 * time.Second
)

// Grant is what lets a stream be, for as long as the backend says so.
type Grant struct {
	// Failure is set when the backend could not tell yet: the viewer waits
	// until Granted is closed.
	Failure *Failure
	// AlwaysGranted is closed when the backend lets the viewer in. Nil: it has.
	Granted <-chan struct{}
	// Revoked is closed when the backend refuses the viewer.
	Revoked <-chan struct{}

	authorizer *Authorizer
	principal  *Principal
	uris       []string
	recheck    time.Duration
	granted    chan struct{}
	revoked    chan struct{}
	ctx        context.Context
	end        context.CancelFunc

	mu      sync.Mutex
	timer   *time.Timer   // nil when nothing is left to ask
	backoff time.Duration // the next one, while the viewer waits
}

// AlwaysGranted is a permit that needs no question.
func AlwaysGranted() *Grant { return &Grant{end: func() {}} }

// Authorize asks the questions as the viewer. It returns a permit, which must be
// ended, or the backend's refusal, or why the rule can't work. The backend is
// asked again after at most recheck, and then again and again; zero: once is
// enough.
//
// A backend that fails refuses nobody: it is asked until it answers. What it
// has granted before holds.
func (a *Authorizer) Authorize(ctx context.Context, v *Principal, questions []string, recheck time.Duration) (*Grant, *subrequest.Response, error) {
	first, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	said := a.checkAll(first, v, questions)
	if said.err != nil || said.refused != nil {
		return nil, said.refused, said.err
	}
	p := &Grant{
		Failure:    said.failure,
		authorizer: a,
		principal:  v,
		uris:       questions,
		recheck:    recheck,
		revoked:    make(chan struct{}),
		backoff:    initialBackoff,
	}
	p.Revoked = p.revoked
	p.ctx, p.end = context.WithCancel(context.Background())
	if said.failure != nil {
		p.granted = make(chan struct{})
		p.Granted = p.granted
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.scheduleLocked(said.failure)
	return p, nil, nil
}

// checkAll asks all the questions at once. The first refusal counts, then what
// makes the rule impossible, then a failure.
func (a *Authorizer) checkAll(ctx context.Context, v *Principal, questions []string) decision {
	if len(questions) == 1 {
		return a.check(ctx, v, questions[0])
	}
	answers := make([]decision, len(questions))
	var asking sync.WaitGroup
	for i, uri := range questions {
		asking.Go(func() { answers[i] = a.check(ctx, v, uri) })
	}
	asking.Wait()
	var all decision
	for _, one := range answers {
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

// scheduleLocked sets the time of the next question, if there is to be one. It
// is spread, so that viewers who came together don't ask together.
func (p *Grant) scheduleLocked(failed *Failure) {
	wait := p.recheck/2 + jitter(p.recheck/2)
	switch {
	case p.granted != nil: // waiting
		wait = max(p.backoff/2+jitter(p.backoff), failed.RetryAfter)
		p.backoff = min(2*p.backoff, maxBackoff)
	case p.recheck <= 0:
		return
	}
	p.timer = time.AfterFunc(wait, p.recheckNow)
}

func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

// recheckNow asks once more. It runs on a goroutine of its own, which is there only
// while it asks: a permit that waits costs a timer.
func (p *Grant) recheckNow() {
	p.authorizer.observer.Rechecked()
	said := p.authorizer.checkAll(p.ctx, p.principal, p.uris)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.ctx.Err() != nil:
		return
	case said.refused != nil, said.err != nil && p.granted != nil:
		close(p.revoked)
		return
	case said.err != nil: // as good as a failure: it was let in before
	case said.failure == nil && p.granted != nil:
		close(p.granted)
		p.granted = nil
	}
	p.scheduleLocked(said.failure)
}

// End gives the permit back.
func (p *Grant) End() {
	p.end()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
}
