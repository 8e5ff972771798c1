package caddysse

import (
	"maps"
	"slices"

	"github.com/caddy-sse/caddy-sse/upstream/forward"
)

// ruleForwarder is the forwarder of a rule of that name.
type ruleForwarder struct {
	*forward.Forwarder
	rule string
}

// replaceForwarder makes a forwarder the current one of its scope. It returns
// the one before, if there is one.
func (s *sharedHub) replaceForwarder(rule string, f *forward.Forwarder) (before *forward.Forwarder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before = s.forwarders[f.Scope].Forwarder
	s.forwarders[f.Scope] = ruleForwarder{f, rule}
	return before
}

func (s *sharedHub) isCurrentForwarder(f *forward.Forwarder) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forwarders[f.Scope].Forwarder == f
}

func (s *sharedHub) removeForwarder(f *forward.Forwarder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forwarders[f.Scope].Forwarder == f {
		delete(s.forwarders, f.Scope)
	}
}

// eachForwarder calls f for the current forwarder of each rule.
func eachForwarder(f func(ruleID, *forward.Forwarder)) {
	eachHub(func(name string, s *sharedHub) {
		s.mu.Lock()
		all := slices.Collect(maps.Values(s.forwarders))
		s.mu.Unlock()
		for _, one := range all {
			if !one.Done() {
				f(ruleID{name, one.rule}, one.Forwarder)
			}
		}
	})
}
