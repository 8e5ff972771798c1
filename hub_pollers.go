package caddysse

import (
	"maps"
	"net/http"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// addPoller adds a rule's poller to those that invalidate polls, and removes
// pollers that have ended.
func (s *sharedHub) addPoller(rule string, p *poll.Poller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.pollers, func(p *poll.Poller, _ string) bool { return p.Done() })
	s.pollers[p] = rule
	s.safeWrites.Store(false)
	for p := range s.pollers {
		if p.TakesSafeWrites() {
			s.safeWrites.Store(true)
		}
	}
}

// takesSafeWrites reports whether a rule takes requests with safe methods for
// writes.
func (s *sharedHub) takesSafeWrites() bool { return s.safeWrites.Load() }

// effects returns which views of each poller a request concerns, without the
// pollers that it doesn't concern.
func (s *sharedHub) effects(r *http.Request) map[*poll.Poller]poll.Effect {
	s.mu.Lock()
	defer s.mu.Unlock()
	effects := make(map[*poll.Poller]poll.Effect)
	for p := range s.pollers {
		if e := p.Effect(r); e != poll.NoViews {
			effects[p] = e
		}
	}
	return effects
}

// knowsSession reports whether a view is polled with one of a request's cookies.
func (s *sharedHub) knowsSession(r *http.Request) bool {
	if len(r.Header["Cookie"]) == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.pollers {
		if p.KnowsSession(r) {
			return true
		}
	}
	return false
}

// recheckSessions polls the views whose cookies a response changes.
func (s *sharedHub) recheckSessions(hostname string, cookies []string, response http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.pollers {
		p.RecheckSessions(hostname, cookies, response)
	}
}

// invalidateBy polls the views that a request concerns, by its effects. A poller
// that has come meanwhile has asked the backend since.
func (s *sharedHub) invalidateBy(effects map[*poll.Poller]poll.Effect, hostname string, paths []string) {
	for p, effect := range effects {
		p.InvalidateBy(effect, hostname, paths...)
	}
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
