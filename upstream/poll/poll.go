// Package poll makes a URL's document live: it asks the backend for it again
// and again on behalf of all its viewers, and publishes what has changed.
//
// What the viewers of one view share is exactly one poller. The view's key
// holds all of a request that can reach the backend and may tell viewers apart,
// so that by construction nobody gets what was answered to somebody else.
package poll

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/loglimit"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// Requester makes the requests; see [subrequest.Requester].
type Requester interface {
	Do(req *http.Request, maxBody int64) (*subrequest.Response, error)
	User() string
	Vars() map[string]string
	ViaTrustedProxy() bool
	OriginalPath() string
	ClientNetwork() string
}

// Poller holds the views of one rule. It is safe for concurrent use.
type Poller struct {
	config   *Config
	hub      *hub.Hub
	log      *zap.Logger
	observer Observer
	failures *outageLog

	slots      chan struct{} // taken by requests in flight
	checkSlots chan struct{} // taken by those among them that are no polls

	publishFailures loglimit.Limiter

	number int // among those that publish on the same topics

	warnMaxViews, warnMaxViewsPerClient sync.Once // that a bound is met: each once, or strangers would fill the log

	mu        sync.Mutex
	views     map[string]*view
	byPath    pathIndex            // the same by their paths
	clients   map[string]int       // how many views each client has brought about
	resources map[string]*resource // by target.shared, while there are views of it
	retired   bool
}

// New returns a poller that publishes on the hub, and tells the observer what
// it does; nil: nobody. The config must have been provisioned.
func New(c *Config, h *hub.Hub, log *zap.Logger, o Observer) *Poller {
	if o == nil {
		o = noopObserver{}
	}
	return &Poller{
		config:     c,
		hub:        h,
		log:        log,
		observer:   o,
		slots:      make(chan struct{}, c.MaxInFlight),
		checkSlots: make(chan struct{}, (c.MaxInFlight+1)/2),
		failures:   newOutageLog(log),
		number:     c.Leases.nextPollerNumber(),
		views:      make(map[string]*view),
		clients:    make(map[string]int),
		resources:  make(map[string]*resource),
	}
}

// Subscription is one viewer's use of a view.
type Subscription struct {
	view      *view
	poller    *Poller
	principal *principal
	viewer    *viewer // nil until the backend lets the viewer in
	once      sync.Once

	checkFailure *checkFailure // set if the backend can't tell now
}

// Subscribe starts to watch what the request asks for, and waits until the view has
// been polled once and the backend lets the viewer in. It returns the
// backend's own answer if that is a refusal. It fails with a [refusal.Error] if
// the rule has no room for another view, the request's body is too large or the
// document can't be polled, with [subrequest.ErrEventStream] if the backend answers with a
// stream of its own, and with the request's context's error if the viewer has
// left. The request's body is put back.
func (p *Poller) Subscribe(r *http.Request, caller Requester) (*Subscription, *subrequest.Response, error) {
	body, err := p.config.query(r)
	if err != nil {
		return nil, nil, err
	}
	t := newTarget(r, body, caller, p.hub, p.config)
	for range maxAttempts {
		sub, refused, err := p.attempt(r.Context(), t)
		switch {
		case refused != nil || err != nil:
			return nil, refused, err
		case sub.viewer != nil:
			return sub, nil, nil
		case sub.checkFailure != nil:
			t = t.unshared(sub.checkFailure)
		}
	}
	return nil, nil, &refusal.Error{
		Status:     http.StatusServiceUnavailable,
		Kind:       refusal.BackendUndecided,
		Reason:     "whose document this is changes all the time; try again later",
		RetryAfter: 5 * time.Second,
	}
}

// maxAttempts bounds how often a viewer is sent to another view before a stream
// has begun.
const maxAttempts = 10

// attempt joins the view that is the viewer's as far as is known. A sub
// that is no member was about another one, as it turned out, and is over.
func (p *Poller) attempt(ctx context.Context, t *target) (*Subscription, *subrequest.Response, error) {
	sub, err := p.findView(t)
	if err != nil {
		return nil, nil, err
	}
	settled := false
	defer func() {
		if !settled {
			sub.Close()
		}
	}()
	refused, err := sub.await(ctx, t)
	settled = refused == nil && err == nil && sub.viewer != nil
	return sub, refused, err
}

// await waits until it is known whether the viewer may watch. It returns the
// backend's answer, or an error, if they may not; else the sub is a member,
// or the viewer belongs elsewhere.
func (sub *Subscription) await(ctx context.Context, t *target) (*subrequest.Response, error) {
	v := sub.view
	select {
	case <-v.polled:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	refused, to, err := v.state.refused()
	switch {
	case (refused != nil || err != nil) && to != sub.principal.id: // somebody else
		sub.leave()
		return sub.authorize(ctx)
	case errors.Is(err, errUndecided):
		sub.leave()
		sub.checkFailure = v.state.checkFailure
		return nil, nil
	case refused != nil || err != nil:
		return refused, err
	case !v.admits(t) || v.isEmpty():
		// The backend has said that this viewer's request may be answered
		// otherwise than the one that was polled, or as one to another view.
		sub.leave()
		return nil, nil
	case sub.viewer != nil:
		return nil, nil
	}
	refused, err = sub.authorize(ctx)
	if refused == nil && err == nil && sub.checkFailure == nil {
		sub.join(t)
	}
	return refused, err
}

func (p *Poller) findView(t *target) (*Subscription, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := p.keyLocked(t)
	sub := &Subscription{view: p.views[key], poller: p, principal: t.principal}
	if sub.view == nil {
		if err := p.checkLimitsLocked(t); err != nil {
			return nil, err
		}
		sub.view = p.startLocked(t, key)
	}
	sub.joinIfAuthorizedLocked()
	return sub, nil
}

// checkLimitsLocked refuses one view more than there may be.
func (p *Poller) checkLimitsLocked(t *target) error {
	switch {
	case len(p.views) >= p.config.MaxViews:
		p.warnMaxViews.Do(func() {
			p.log.Warn("as many documents are watched as the rule allows, others are refused: raise max_views, or have more viewers share", zap.Int("max_views", p.config.MaxViews))
		})
		return &refusal.Error{
			Status:     http.StatusServiceUnavailable,
			Kind:       refusal.MaxViews,
			Reason:     "too many documents are watched; try again later",
			RetryAfter: 5 * time.Second,
		}
	case p.clients[t.client()] >= p.config.MaxViewsPerClient:
		p.warnMaxViewsPerClient.Do(func() {
			p.log.Warn("a client watches as many documents as one may: if it is a proxy, name it in trusted_proxies, or raise max_views_per_client",
				zap.String("client", t.client()), zap.Int("max_views_per_client", p.config.MaxViewsPerClient))
		})
		return &refusal.Error{
			Status:     http.StatusTooManyRequests,
			Kind:       refusal.MaxViewsClient,
			Reason:     "too many documents are watched from your address; try again later",
			RetryAfter: time.Duration(max(p.config.Linger, caddy.Duration(5*time.Second))),
		}
	}
	return nil
}

func (p *Poller) startLocked(t *target, key string) *view {
	known := p.resources[t.shared]
	if known == nil {
		known = newResource()
		p.resources[t.shared] = known
	}
	known.expiry.Stop()
	known.views++
	v := newView(p, t, key, p.sharesLocked(t), maps.Clone(known.varies))
	p.views[key] = v
	p.byPath.add(v)
	p.clients[v.client]++
	go v.loop.run()
	return v
}

// authorizationCheck asks whether a viewer may share. There are fewer of them at a time
// than polls: strangers ask them, and the polls must have their turn.
func (p *Poller) authorizationCheck(ctx context.Context, t *target, as *principal) (*subrequest.Response, error) {
	select {
	case p.checkSlots <- struct{}{}:
		defer func() { <-p.checkSlots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return p.check(ctx, t, as, validators{})
}

// check makes a request to learn whether a viewer may share.
func (p *Poller) check(ctx context.Context, t *target, as *principal, since validators) (*subrequest.Response, error) {
	started := time.Now()
	resp, err := p.send(ctx, t, as, since)
	p.observer.Polled(Asked, time.Since(started))
	return resp, err
}

// send makes a request when it is its turn.
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

// Close ends the sub. It may be called more than once.
func (v *Subscription) Close() {
	v.once.Do(v.leave)
}

// lingerLocked ends a view that nobody watches, after the linger.
func (p *Poller) lingerLocked(v *view) {
	if p.retired || p.config.Linger < 0 || p.views[v.key] != v {
		p.removeLocked(v)
		return
	}
	v.viewers.idle.Reset(time.Duration(p.config.Linger))
}

// expire is what a view's idle timer does.
func (p *Poller) expire(v *view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.viewers.streams == 0 {
		p.removeLocked(v)
	}
}

// remove takes a view that has ended out, so that the next viewer asks anew.
func (p *Poller) remove(v *view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removeLocked(v)
}

func (p *Poller) removeLocked(v *view) {
	v.cancel()
	v.viewers.idle.Stop()
	if p.views[v.key] != v {
		return
	}
	delete(p.views, v.key)
	p.byPath.remove(v)
	if p.clients[v.client]--; p.clients[v.client] == 0 {
		delete(p.clients, v.client)
	}
	known := p.resources[v.target.shared]
	if known.views--; known.views == 0 {
		p.retireResourceLocked(v.target.shared, known)
	}
}

// Retire ends views as soon as nobody watches them, without linger: another
// configuration has taken over. Viewers of a document whose backend fails are
// sent there at once, and the others should be by who has retired the poller.
func (p *Poller) Retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	for _, v := range p.views {
		if v.viewers.streams == 0 {
			p.removeLocked(v)
		} else if v.state.isStale() {
			v.move()
		}
	}
	for key, known := range p.resources {
		if known.views == 0 {
			known.expiry.Stop()
			delete(p.resources, key)
		}
	}
}

func (p *Poller) isRetired() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.retired
}

// Done tells that the poller is retired and its last view has ended.
func (p *Poller) Done() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.retired && len(p.views) == 0
}

// Views is how many views are polled.
func (p *Poller) Views() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.views)
}

func (p *Poller) key(t *target) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keyLocked(t)
}

// keyLocked is what viewers who share a view have in common.
func (p *Poller) keyLocked(t *target) string {
	var varies map[string]bool
	if known := p.resources[t.shared]; known != nil {
		varies = known.varies
	}
	return p.hub.Digest(t.key(p.sharesLocked(t), varies)...)
}

// sharesLocked tells whether all share who may see the document.
func (p *Poller) sharesLocked(t *target) bool {
	known := p.resources[t.shared]
	return p.config.Share != "" || known != nil && known.cacheability == cacheable
}

// learn takes note of what a response says about whose it is.
func (p *Poller) learn(v *view, h http.Header, notModified bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.views[v.key] != v {
		return // it has ended, and what is known goes with the last view
	}
	known := p.resources[v.target.shared]
	known.addVary(candidatesIn(h))
	if p.config.varyBy == nil && !(notModified && h.Get("Cache-Control") == "") {
		known.setPublic(isCacheableForAll(h))
	}
}

// rekey moves a view to the key that it has since more is known of it. It
// returns false if another view is there already.
func (p *Poller) rekey(v *view) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := p.keyLocked(v.target)
	if p.views[v.key] != v || p.views[key] != nil {
		return false
	}
	delete(p.views, v.key)
	p.views[key] = v
	v.renameLocked(key, p.sharesLocked(v.target), maps.Clone(p.resources[v.target.shared].varies))
	return true
}

// Invalidate tells that a write to these paths of a host has succeeded: the views of
// the paths, of what they are part of and of what is part of them, are polled
// at once, and all of them if the rule says that a path concerns it. A poll
// that is already under way doesn't count as having seen it.
func (p *Poller) Invalidate(hostname string, paths ...string) {
	if p.config.RefreshOff && !p.config.Absorb {
		return
	}
	see := func(v *view) { v.loop.refresh() }
	if p.config.RefreshOff { // no reason to poll, but what was polled before is too old to be absorbed
		see = func(v *view) { v.state.recordWrite() }
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.config.refreshedBy(paths) {
		for _, v := range p.views {
			if v.target.hostname == hostname {
				see(v)
			}
		}
		return
	}
	for _, path := range paths {
		p.byPath.related(hostname, path, see)
	}
}

// within tells whether path is parent or below it.
func within(path, parent string) bool {
	rest, ok := strings.CutPrefix(strings.TrimSuffix(path, "/"), strings.TrimSuffix(parent, "/"))
	return ok && (rest == "" || rest[0] == '/')
}
