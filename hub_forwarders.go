package caddysse

import (
	"maps"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/upstream/forward"
)

// ruleForwarder is the forwarder of a rule of that name.
type ruleForwarder struct {
	*forward.Forwarder
	rule string
}

// startForwarder starts the forwarder of a queue. The queue's forwarder of the
// configuration before finishes the attempts under way first.
func (s *sharedHub) startForwarder(o forward.Options) *forward.Forwarder {
	f := forward.New(s.Hub, o)
	go f.Run(s.replaceForwarder(o.Rule, f))
	return f
}

// stopForwarder leaves the deliveries to the next configuration, or to the next
// start of the process.
func (s *sharedHub) stopForwarder(f *forward.Forwarder, log *zap.Logger) {
	if !s.isCurrentForwarder(f) { // the next one waits for the attempts under way
		f.Stop(time.Minute, false)
		return
	}
	f.Stop(exitGracePeriod, true)
	s.removeForwarder(f)
	if n := f.Pending(); n > 0 && !caddy.Exiting() {
		log.Warn("no configuration has the hub any more, and deliveries to the app are left; they are made when one has it again, if its store still holds them",
			zap.String("rule", f.Rule), zap.Int("deliveries", n))
	}
}

// replaceForwarder makes a forwarder the current one of its queue. It returns
// the one before, if there is one.
func (s *sharedHub) replaceForwarder(rule string, f *forward.Forwarder) (before *forward.Forwarder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before = s.forwarders[f.Queue].Forwarder
	s.forwarders[f.Queue] = ruleForwarder{f, rule}
	return before
}

func (s *sharedHub) isCurrentForwarder(f *forward.Forwarder) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forwarders[f.Queue].Forwarder == f
}

func (s *sharedHub) removeForwarder(f *forward.Forwarder) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forwarders[f.Queue].Forwarder == f {
		delete(s.forwarders, f.Queue)
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

// forwardQueues returns the queues that hold deliveries or dead letters, or may
// yet receive some from rules of earlier configurations, with the names of their
// rules.
func (s *sharedHub) forwardQueues() map[string]string {
	queues := forward.Queues(s.Hub)
	s.mu.Lock()
	defer s.mu.Unlock()
	for queue, one := range s.forwarders {
		queues[queue] = one.rule
	}
	return queues
}
