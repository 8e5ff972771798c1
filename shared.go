package caddysse

import (
	"maps"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/loglimit"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// hubs holds what outlives a configuration, keyed by the hub's name: keyed by
// its options, a changed option would strand the streams on the old hub.
var hubs = caddy.NewUsagePool()

// sharedHub is a hub and the parts of all configurations that use it.
type sharedHub struct {
	*hub.Hub
	log         *store.Lazy // the hub's
	storeConfig string      // what it was made from

	mu      sync.Mutex
	owners  []owner // that have started and not stopped, in this order
	streams map[*openStream]struct{}
	pollers map[*poll.Poller]string // with the rules' names
	topics  poll.TopicLeases        // of those that the pollers publish on

	forwarders map[string]ruleForwarder // by scope

	exit         sync.Once
	notPublished loglimit.Limiter
}

func newSharedHub(log *store.Lazy, storeConfig string, history store.History) *sharedHub {
	return &sharedHub{
		Hub:         hub.New(log, history),
		log:         log,
		storeConfig: storeConfig,
		streams:     make(map[*openStream]struct{}),
		pollers:     make(map[*poll.Poller]string),
	}
}

// Destruct implements [caddy.Destructor].
func (s *sharedHub) Destruct() error { return s.Close() }

// owner is a configuration that has the hub, and what it says of it.
type owner struct {
	app    *App
	config *HubConfig
}

// adopt makes a configuration that is being started one that has the hub. What
// it says of the hub is applied if it is the first, else when the one before
// stops: it may yet be rejected.
func (s *sharedHub) adopt(a *App, c *HubConfig) {
	s.mu.Lock()
	s.owners = append(s.owners, owner{a, c})
	first := len(s.owners) == 1
	s.mu.Unlock()
	if first {
		s.SetHistory(c.history())
	}
}

// release takes the hub from a configuration that stops, and applies what the
// one that is left says of it.
func (s *sharedHub) release(a *App) {
	s.mu.Lock()
	s.owners = slices.DeleteFunc(s.owners, func(o owner) bool { return o.app == a })
	s.mu.Unlock()
	if c := s.other(a); c != nil {
		s.SetHistory(c.history())
	}
}

// other is what another configuration says that has the hub: one that comes
// after a's or, if a's is rolled back, the one that stays. It is nil if there is
// none.
func (s *sharedHub) other(a *App) *HubConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range slices.Backward(s.owners) {
		if o.app != a {
			return o.config
		}
	}
	return nil
}

// enter counts a stream in, so that it can be seen and ended while it lasts,
// whatever has become of its configuration.
func (s *sharedHub) enter(o *openStream) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[o] = struct{}{}
	return func() {
		s.mu.Lock()
		delete(s.streams, o)
		s.mu.Unlock()
		o.mu.Lock()
		defer o.mu.Unlock()
		o.w = nil // from here on it is not ours
	}
}

// open are the streams that are open now.
func (s *sharedHub) open() []*openStream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.AppendSeq(make([]*openStream, 0, len(s.streams)), maps.Keys(s.streams))
}

// endAll ends the streams of every configuration: those of earlier ones, too,
// that are still on the move.
func (s *sharedHub) endAll(end func(*stream.Group)) {
	groups := make(map[*stream.Group]struct{})
	for _, o := range s.open() {
		groups[o.rule.group] = struct{}{}
	}
	for g := range groups {
		end(g)
	}
}

// register makes a rule's poller hear of writes, and forgets those that are over.
func (s *sharedHub) register(rule string, p *poll.Poller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.pollers, func(p *poll.Poller, _ string) bool { return p.Done() })
	s.pollers[p] = rule
}

// eachPoller calls f for the poller of each rule, those of earlier
// configurations too while they have views.
func eachPoller(f func(ruleID, *poll.Poller)) {
	hubs.Range(func(name, shared any) bool {
		s := shared.(*sharedHub)
		s.mu.Lock()
		pollers := maps.Clone(s.pollers)
		s.mu.Unlock()
		for p, rule := range pollers {
			if !p.Done() {
				f(ruleID{name.(string), rule}, p)
			}
		}
		return true
	})
}

// wrote tells the pollers, those of earlier configurations too, that a write
// to the paths of a host has succeeded.
func (s *sharedHub) wrote(hostname string, paths []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.pollers {
		p.Invalidate(hostname, paths...)
	}
}

var _ caddy.Destructor = (*sharedHub)(nil)
