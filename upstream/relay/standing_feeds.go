package relay

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/hub"
)

// StandingFeeds holds the standing feeds of a hub's rules. It outlives
// configurations. Its zero value is ready to use. It is safe for concurrent use.
type StandingFeeds struct {
	mu    sync.Mutex
	byKey map[string]*standing
	rules map[string]bool // the names of those that have, or had, standing feeds
}

// StandingRule is a rule with standing feeds, in one configuration.
type StandingRule struct {
	Config    *StandingConfig // provisioned
	Hub       *hub.Hub
	Feeds     *StandingFeeds    // the hub's
	Rule      string            // its name
	Transport http.RoundTripper // for URLs; see [NewTransport]
	Site      http.RoundTripper // for paths of the rule's own site
	Log       *zap.Logger
	Observer  Observer

	started bool
	keys    func() []string
}

// Prepare must be called once before the other methods.
func (r *StandingRule) Prepare() { r.keys = sync.OnceValue(r.computeKeys) }

// computeKeys returns the names of the feeds. Feeds that differ in anything that
// decides about their events differ in their names. It needs the hub's log.
func (r *StandingRule) computeKeys() []string {
	config := *r.Config
	config.URLs, config.Headers = nil, nil
	text, err := json.Marshal(&config)
	if err != nil { // impossible: it has only texts and numbers
		panic(err)
	}
	header, _ := json.Marshal(config.header) // texts always marshal
	keys := make([]string, len(config.feeds))
	for i, u := range config.feeds {
		keys[i] = r.Hub.Digest("standing", u.String(), u.place, config.host, string(header), string(text))
	}
	return keys
}

// Start starts the rule's feeds, apart from those that run already for another rule
// or for an earlier configuration: they go on.
func (r *StandingRule) Start() {
	r.started = true
	for i, key := range r.keys() {
		r.Feeds.start(key, r, r.Config.feeds[i])
	}
}

// Stop ends the feeds that no other rule has, and waits for their goroutines.
func (r *StandingRule) Stop() {
	if !r.started {
		return
	}
	r.started = false
	var left []*standing
	for _, key := range r.keys() {
		if f := r.Feeds.leave(key, r); f != nil {
			f.cancel(errClosed)
			left = append(left, f)
		}
	}
	for _, f := range left {
		<-f.ended
	}
}

// nameLocked makes a rule's name known.
func (s *StandingFeeds) nameLocked(rule string) {
	if s.rules == nil {
		s.rules, s.byKey = make(map[string]bool), make(map[string]*standing)
	}
	s.rules[rule] = true
}

func (s *StandingFeeds) start(key string, r *StandingRule, u feedURL) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nameLocked(r.Rule)
	f := s.byKey[key]
	if f == nil {
		f = newStanding(key, r, u)
		f.setRules([]*StandingRule{r})
		s.byKey[key] = f
		go f.run()
		return
	}
	f.setRules(append(f.rules, r))
}

// leave removes a rule from those of a feed. It returns the feed, which nobody finds
// any more, if that was the last one.
func (s *StandingFeeds) leave(key string, r *StandingRule) *standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.byKey[key]
	if f == nil {
		return nil
	}
	rules := slices.DeleteFunc(slices.Clone(f.rules), func(other *StandingRule) bool { return other == r })
	if len(rules) == 0 {
		delete(s.byKey, key)
		return f
	}
	f.setRules(rules)
	return nil
}

func (s *StandingFeeds) find(key string) *standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byKey[key]
}

func (s *StandingFeeds) all() []*standing {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.byKey))
}

// StandingTotals sums up the standing feeds of a rule.
type StandingTotals struct{ Feeds, Stale int }

// Totals returns the sums by rule name, also of rules whose feeds have ended.
func (s *StandingFeeds) Totals() map[string]StandingTotals {
	totals := make(map[string]StandingTotals)
	s.mu.Lock()
	for name := range s.rules {
		totals[name] = StandingTotals{}
	}
	s.mu.Unlock()
	for _, f := range s.all() {
		info := f.info()
		t := totals[info.Rule]
		t.Feeds++
		if info.State == "stale" {
			t.Stale++
		}
		totals[info.Rule] = t
	}
	return totals
}

// List returns the feeds, the oldest first.
func (s *StandingFeeds) List() []Info {
	feeds := s.all()
	list := make([]Info, len(feeds))
	for i, f := range feeds {
		list[i] = f.info()
	}
	slices.SortFunc(list, func(a, b Info) int { return a.Began.Compare(b.Began) })
	return list
}
