// Package poll makes a URL's document live: it asks the backend for it again
// and again on behalf of all its viewers, and publishes what has changed.
//
// What the viewers of one view share is exactly one poller. The view's key
// holds all of a request that can reach the backend and may tell viewers apart,
// so that by construction nobody gets what was answered to somebody else.
package poll

import (
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/fair"
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
	Original() subrequest.Original
	ClientIP() string
	ClientIPHeaders() []string
	ClientNetwork() string
}

// Poller holds the views of one rule. It is safe for concurrent use.
type Poller struct {
	config   *Config
	hub      *hub.Hub
	log      *zap.Logger
	observer Observer
	failures *outageLog

	finished finished // those who have been told that their document is finished

	slots   *fair.Slots // of max_in_flight
	workers workers
	work    *semaphore.Weighted // bytes of documents
	memory  memory

	addressChecks addressChecks

	publishFailures, delays loglimit.Limiter

	recentWrites recentWrites

	number int // among those that publish on the same topics

	warnMaxViews, warnMaxViewsPerClient, warnMaxMemory sync.Once // that a bound is met: each once, or strangers would fill the log
	warnUseless                                        sync.Once // that validators are

	mu          sync.Mutex
	views       map[string]*view
	byPath      pathIndex            // the same by their paths
	sessions    sessions             // those with cookies
	clients     map[string]int       // how many views each client has created
	differences map[string]bool      // headers that the log has named; see compareLocked
	resources   map[string]*resource // by target.shared, while there are views of it
	headers     recentHeaders
	restless    map[string]bool // paths of documents that change with every poll; see isFirstRestless
	retired     bool
}

// New returns a poller that publishes on the hub, and reports to the observer;
// nil: to none. The config must have been provisioned.
func New(c *Config, h *hub.Hub, log *zap.Logger, o Observer) *Poller {
	if o == nil {
		o = noopObserver{}
	}
	return &Poller{
		config:      c,
		hub:         h,
		log:         log,
		observer:    o,
		slots:       fair.NewSlots(c.MaxInFlight),
		workers:     workers{most: 2 * c.MaxInFlight},
		work:        semaphore.NewWeighted(maxWork(c)),
		memory:      memory{max: c.MaxMemory},
		failures:    newOutageLog(log),
		number:      c.Leases.nextPollerNumber(),
		views:       make(map[string]*view),
		clients:     make(map[string]int),
		sessions:    make(sessions),
		differences: make(map[string]bool),
		resources:   make(map[string]*resource),
	}
}

// findView returns a subscription to the view of a request. It starts the view
// if there is none.
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
	if t.client() != sub.view.client {
		sub.view.loop.share()
	}
	sub.joinIfAuthorizedLocked()
	return sub, nil
}

// checkLimitsLocked refuses another view beyond the rule's limits.
func (p *Poller) checkLimitsLocked(t *target) error {
	switch {
	case len(p.views) >= p.config.MaxViews:
		p.warnMaxViews.Do(func() {
			p.log.Warn("max_views is reached, new documents are refused: raise it, or have more viewers share", zap.Int("max_views", p.config.MaxViews))
		})
		return &refusal.Error{
			Status:     http.StatusServiceUnavailable,
			Kind:       refusal.MaxViews,
			Reason:     "too many documents are polled; try again later",
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
			Reason:     "too many documents are polled from your address; try again later",
			RetryAfter: time.Duration(max(p.config.Linger, caddy.Duration(5*time.Second))),
		}
	case p.memory.isFull():
		return p.refuseMemory()
	}
	return nil
}

func (p *Poller) startLocked(t *target, key string) *view {
	known := p.resources[t.shared]
	if known == nil {
		known = new(resource)
		p.resources[t.shared] = known
	}
	known.stopExpiry()
	known.views++
	t.header = p.headers.share(t.header)
	v := newView(p, t, known, key, p.sharesLocked(t))
	p.views[key] = v
	p.byPath.add(v)
	p.compareLocked(v)
	if !v.shared {
		p.sessions.add(v)
	}
	p.clients[v.client]++
	p.workers.enter()
	v.loop.begin()
	return v
}

// lingerLocked ends a view without viewers after the linger.
func (p *Poller) lingerLocked(v *view) {
	if p.retired || p.config.Linger < 0 || v.removed {
		p.removeLocked(v)
		return
	}
	if v.viewers.idle == nil {
		v.viewers.idle = time.AfterFunc(time.Duration(p.config.Linger), func() { p.expire(v) })
		return
	}
	v.viewers.idle.Reset(time.Duration(p.config.Linger))
}

// expire ends a view whose linger is over.
func (p *Poller) expire(v *view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.viewers.streams == 0 {
		p.removeLocked(v)
	}
}

// remove removes a view that has ended, so that the next viewer starts another.
func (p *Poller) remove(v *view) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.removeLocked(v)
}

func (p *Poller) removeLocked(v *view) {
	v.loop.end()
	v.viewers.stopIdle()
	if v.removed {
		return
	}
	v.removed = true
	delete(p.views, v.key)
	p.byPath.remove(v)
	p.sessions.remove(v)
	if p.clients[v.client]--; p.clients[v.client] == 0 {
		delete(p.clients, v.client)
	}
	if v.resource.views--; v.resource.views == 0 {
		p.retireResourceLocked(v.target.shared, v.resource)
	}
}

// Retire ends each view as soon as it has no viewers, without linger, since
// another configuration has replaced the poller's. Viewers whose backend fails
// move to it at once. The caller moves the others.
func (p *Poller) Retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	for _, v := range p.views {
		if v.viewers.streams == 0 {
			p.removeLocked(v)
		} else if v.state.isStale() {
			v.moved.Set()
		}
	}
	for key, known := range p.resources {
		if known.views == 0 {
			known.stopExpiry()
			delete(p.resources, key)
		}
	}
}

func (p *Poller) isRetired() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.retired
}

// Done reports whether the poller is retired and its last view has ended.
func (p *Poller) Done() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.retired && len(p.views) == 0
}

// Views returns the number of views.
func (p *Poller) Views() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.views)
}
