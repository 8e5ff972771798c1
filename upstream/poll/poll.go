// Package poll makes a URL's document live: it asks the backend for it again
// and again on behalf of all its viewers, and publishes what has changed.
//
// What the viewers of one view share is exactly one poller. The view's key
// holds all of a request that can reach the backend and may tell viewers apart,
// so that by construction nobody gets what was answered to somebody else.
package poll

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/next"
)

// Caller makes the requests; see [next.Caller].
type Caller interface {
	Do(req *http.Request, maxBody int64) (*next.Response, error)
	User() string
	Vars() map[string]string
	Trusted() bool
}

// Poller holds the views of one rule. It is safe for concurrent use.
type Poller struct {
	config *Config
	hub    *hub.Hub
	log    *zap.Logger

	mu      sync.Mutex
	slots   chan struct{} // taken by polls in flight
	views   map[string]*view
	bases   map[string]int             // how many views there are of each base
	varies  map[string]map[string]bool // by a view's base: the hints that tell its viewers apart
	retired bool
}

// New returns a poller that publishes on the hub. The config must have been
// provisioned.
func New(c *Config, h *hub.Hub, log *zap.Logger) *Poller {
	return &Poller{
		config: c,
		hub:    h,
		log:    log,
		slots:  make(chan struct{}, c.MaxInFlight),
		views:  make(map[string]*view),
		bases:  make(map[string]int),
		varies: make(map[string]map[string]bool),
	}
}

// Viewing is one viewer's use of a view.
type Viewing struct {
	view   *view
	poller *Poller
	once   sync.Once
}

// Join starts to watch what the request asks for, and waits until the view has
// been polled once. It returns the backend's own answer if that is a refusal.
// It fails with a [refusal.Error] if the rule has no room for another view or
// the document can't be polled, with [next.ErrStream] if the backend answers
// with a stream of its own, and with the request's context's error if the
// viewer has left.
func (p *Poller) Join(r *http.Request, caller Caller) (*Viewing, *next.Response, error) {
	t := newTarget(r, caller, p.hub, p.config)
	for {
		viewing, err := p.join(t)
		if err != nil {
			return nil, nil, err
		}
		v := viewing.view
		select {
		case <-v.polled:
		case <-r.Context().Done():
			viewing.Leave()
			return nil, nil, r.Context().Err()
		}
		if refused, err := v.refused(); refused != nil || err != nil {
			viewing.Leave()
			return nil, refused, err
		}
		if v.admits(t) {
			return viewing, nil, nil
		}
		// The backend has said that this viewer's request may be answered
		// otherwise than the one that was polled.
		viewing.Leave()
	}
}

func (p *Poller) join(t *target) (*Viewing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := p.keyLocked(t)
	v := p.views[key]
	if v == nil {
		if len(p.views) >= p.config.MaxViews {
			return nil, &refusal.Error{
				Status:     http.StatusServiceUnavailable,
				Reason:     "too many documents are watched; try again later",
				RetryAfter: 5 * time.Second,
			}
		}
		v = newView(p, t, key, maps.Clone(p.varies[t.base]))
		p.views[key] = v
		p.bases[t.base]++
		go v.run()
	}
	v.viewers++
	v.idle.Stop()
	return &Viewing{view: v, poller: p}, nil
}

// do makes a request when it is its turn.
func (p *Poller) do(ctx context.Context, t *target, etag string) (*next.Response, error) {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(p.config.Timeout), errTimeout)
	defer cancel()
	return t.caller.Do(t.request(ctx, etag), p.config.MaxBody)
}

// Leave ends the viewing. It may be called more than once.
func (v *Viewing) Leave() {
	v.once.Do(func() { v.poller.leave(v.view) })
}

func (p *Poller) leave(v *view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v.viewers--
	if v.viewers == 0 {
		p.abandonLocked(v)
	}
}

// abandonLocked ends a view that nobody watches, after the linger.
func (p *Poller) abandonLocked(v *view) {
	if p.retired || p.config.Linger < 0 || p.views[v.key] != v {
		p.removeLocked(v)
		return
	}
	v.idle.Reset(time.Duration(p.config.Linger))
}

// expire is what a view's idle timer does.
func (p *Poller) expire(v *view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.viewers == 0 {
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
	v.idle.Stop()
	if p.views[v.key] != v {
		return
	}
	delete(p.views, v.key)
	base := v.target.base
	if p.bases[base]--; p.bases[base] == 0 { // what is known of it goes with its last view
		delete(p.bases, base)
		delete(p.varies, base)
	}
}

// Retire ends views as soon as nobody watches them, without linger: another
// configuration has taken over.
func (p *Poller) Retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	for _, v := range p.views {
		if v.viewers == 0 {
			p.removeLocked(v)
		}
	}
}

func (p *Poller) isRetired() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.retired
}

// Over tells that the poller is retired and its last view has ended.
func (p *Poller) Over() bool {
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
	return p.hub.Digest(t.key(p.varies[t.base])...)
}

// vary takes note of the hints by which the backend tells viewers of a view's
// URL apart.
func (p *Poller) vary(v *view, hints []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.views[v.key] != v {
		return // it has ended, and what is known goes with the last view
	}
	for _, name := range hints {
		known := p.varies[v.target.base]
		if known == nil {
			known = make(map[string]bool)
			p.varies[v.target.base] = known
		}
		known[name] = true
	}
}

// rekey moves a view to the key that it has since the backend's Vary is known.
// It returns false if another view is there already.
func (p *Poller) rekey(v *view) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := p.keyLocked(v.target)
	if p.views[key] != nil {
		return false
	}
	if p.views[v.key] == v {
		delete(p.views, v.key)
		p.views[key] = v
	}
	v.rename(key, maps.Clone(p.varies[v.target.base]))
	return true
}

// Wrote tells that a write to these paths of a host has succeeded: the views of
// the paths, of what they are part of and of what is part of them, are polled
// at once, and all of them if the rule says that a path concerns it. A poll
// that is already under way doesn't count as having seen it.
func (p *Poller) Wrote(hostname string, paths ...string) {
	if p.config.RefreshOff {
		return
	}
	all := p.config.refreshedBy(paths)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.views {
		if v.target.hostname == hostname && (all || v.target.related(paths)) {
			v.refresh()
		}
	}
}

// related tells whether one of the paths is the target's, above or below it.
// Nothing counts as below the root: a write to "/" would be one to everything.
func (t *target) related(paths []string) bool {
	for _, path := range paths {
		if within(path, t.path) || path != "/" && within(t.path, path) {
			return true
		}
	}
	return false
}

// within tells whether path is parent or below it.
func within(path, parent string) bool {
	rest, ok := strings.CutPrefix(strings.TrimSuffix(path, "/"), strings.TrimSuffix(parent, "/"))
	return ok && (rest == "" || rest[0] == '/')
}
