package caddysse

import (
	"maps"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// addPoller adds a rule's poller to those that invalidate polls, and removes
// pollers that have ended.
func (s *sharedHub) addPoller(rule string, p *poll.Poller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.pollers, func(p *poll.Poller, _ string) bool { return p.Done() })
	s.pollers[p] = rule
}

// eachPoller calls f for the poller of each rule, also for those of earlier
// configurations that still have views.
func eachPoller(f func(ruleID, *poll.Poller)) {
	eachHub(func(name string, s *sharedHub) {
		s.mu.Lock()
		pollers := maps.Clone(s.pollers)
		s.mu.Unlock()
		for p, rule := range pollers {
			if !p.Done() {
				f(ruleID{name, rule}, p)
			}
		}
	})
}

// invalidate polls the views of these paths of a host at once, also those of
// earlier configurations.
func (s *sharedHub) invalidate(hostname string, paths []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.pollers {
		p.Invalidate(hostname, paths...)
	}
}
