package caddysse

import (
	"maps"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
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
	owners  []*App // those that have started and not stopped
	streams map[*openStream]struct{}
	pollers map[*poll.Poller]string // with the rules' names
	topics  poll.Owners             // of those that the pollers publish on

	forwarders map[string]ruleForwarder // by scope
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

func (s *sharedHub) adopt(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owners = append(s.owners, a)
}

func (s *sharedHub) release(a *App) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owners = slices.DeleteFunc(s.owners, func(o *App) bool { return o == a })
}

// hasOther tells whether another configuration has the hub: one that comes
// after a's or, if a's is rolled back, the one that stays.
func (s *sharedHub) hasOther(a *App) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.owners, func(o *App) bool { return o != a })
}

// register makes a rule's poller hear of writes, and forgets those that are over.
func (s *sharedHub) register(rule string, p *poll.Poller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.pollers, func(p *poll.Poller, _ string) bool { return p.Over() })
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
			if !p.Over() {
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
		p.Wrote(hostname, paths...)
	}
}

var _ caddy.Destructor = (*sharedHub)(nil)
