package caddysse

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/loglimit"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
	"github.com/caddy-sse/caddy-sse/upstream/relay"
)

// hubs holds the hubs by name. They outlive configurations. If the key held a
// hub's options, a changed option would leave the open streams on the old hub.
var hubs = caddy.NewUsagePool()

// eachHub calls f for each hub.
func eachHub(f func(name string, s *sharedHub)) {
	hubs.Range(func(name, shared any) bool {
		f(name.(string), shared.(*sharedHub))
		return true
	})
}

// sharedHub is a hub together with what the rules of all configurations keep
// on it.
type sharedHub struct {
	*hub.Hub
	log         *store.Lazy // the hub's
	storeConfig string      // the configuration of the log's store

	topicLeases     poll.TopicLeases // of the topics that the pollers publish on
	feeds           relay.Feeds      // of the relays
	standing        relay.StandingFeeds
	publishFailures loglimit.Limiter
	expelOnce       sync.Once

	mu     sync.Mutex
	owners []owner // the configurations that have started and not stopped, in this order

	streams     map[*openStream]struct{}
	noStreams   *sync.Cond               // signals that streams has become empty
	streamRules map[string]struct{}      // the names of rules that have, or had, streams
	pollers     map[*poll.Poller]string  // with their rules' names
	safeWrites  atomic.Bool              // see takesSafeWrites
	forwarders  map[string]ruleForwarder // by queue
	refusals    map[string]*refusalLog   // by rule name
}

func newSharedHub(log *store.Lazy, storeConfig string, history store.History) *sharedHub {
	s := &sharedHub{
		Hub:         hub.New(log, history),
		log:         log,
		storeConfig: storeConfig,
		streams:     make(map[*openStream]struct{}),
		streamRules: make(map[string]struct{}),
		pollers:     make(map[*poll.Poller]string),
		forwarders:  make(map[string]ruleForwarder),
		refusals:    make(map[string]*refusalLog),
	}
	s.noStreams = sync.NewCond(&s.mu)
	return s
}

// Destruct implements [caddy.Destructor].
func (s *sharedHub) Destruct() error {
	s.feeds.Close()
	return s.Close()
}

// owner is a configuration that uses the hub, and its options for the hub.
type owner struct {
	app    *App
	config *HubConfig
}

// adopt makes a starting configuration an owner. Its options take effect at once
// if it is the first owner. Otherwise they take effect when the one before
// stops: Caddy may still reject the new one.
func (s *sharedHub) adopt(a *App, c *HubConfig) {
	s.mu.Lock()
	s.owners = append(s.owners, owner{a, c})
	first := len(s.owners) == 1
	s.mu.Unlock()
	if first {
		s.SetHistory(c.history())
	}
}

// disown removes a stopping configuration from the owners, and applies the
// options of the newest that remains.
func (s *sharedHub) disown(a *App) {
	s.mu.Lock()
	s.owners = slices.DeleteFunc(s.owners, func(o owner) bool { return o.app == a })
	s.mu.Unlock()
	if c := s.otherOwner(a); c != nil {
		s.SetHistory(c.history())
	}
}

// otherOwner returns the options of the newest owner apart from a: the next
// configuration or, if Caddy rolls a back, the previous one. It returns nil if
// there is no other owner.
func (s *sharedHub) otherOwner(a *App) *HubConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range slices.Backward(s.owners) {
		if o.app != a {
			return o.config
		}
	}
	return nil
}

// refusalLog returns the log of a rule's refused webhooks. Like the rule's
// metrics, it outlives configurations.
func (s *sharedHub) refusalLog(rule string) *refusalLog {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.refusals[rule]
	if l == nil {
		l = newRefusalLog()
		s.refusals[rule] = l
	}
	return l
}

// refusalLogs returns the logs of all rules.
func (s *sharedHub) refusalLogs() []*refusalLog {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.refusals))
}

var _ caddy.Destructor = (*sharedHub)(nil)
