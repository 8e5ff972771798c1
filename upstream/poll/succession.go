package poll

import (
	"slices"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
)

// succession lets the shaped views of a new configuration go on where those of the
// one before stopped, so that a reload loses and repeats no event: the program needs
// the last document. The zero value is ready to use, and safe for concurrent use.
type succession struct {
	mu     sync.Mutex
	newest map[string]*publisher // by view key
}

// successionAge is how long a view of a replaced configuration has a successor
// after its end. Its clients reconnect within a few seconds.
const successionAge = time.Minute

// follow makes a view the newest of its key, and returns the one before, or nil. If
// that one is preferred to the view, follow returns it and false.
func (s *succession) follow(key string, p *publisher) (before *publisher, follows bool) {
	for {
		before = s.of(key)
		if before != nil && !p.view.precedes(before.view, true) {
			return before, false
		}
		if s.replace(key, before, p) {
			return before, true
		}
	}
}

// of returns the newest view of a key, or nil.
func (s *succession) of(key string) *publisher {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest[key]
}

// replace makes a view the newest of a key if another one, or none, still is.
func (s *succession) replace(key string, before, p *publisher) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest[key] != before {
		return false
	}
	if s.newest == nil {
		s.newest = make(map[string]*publisher)
	}
	s.newest[key] = p
	return true
}

func (s *succession) forget(key string, p *publisher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest[key] == p {
		delete(s.newest, key)
	}
}

// succeed lets the view go on where the one of another configuration stopped, if
// there is one, and its program made the same events. That one then is no view of its
// poller any more: if Caddy rejects the configuration of this view, clients that
// return begin another, which goes on where this one stopped. succeed is called before
// the view has viewers.
func (p *publisher) succeed() {
	config := p.view.poller.config
	if !config.isShaped() {
		return
	}
	p.followed = p.view.state.currentKey()
	before, follows := config.Leases.shaped.follow(p.followed, p)
	if !follows {
		if p.view.poller.isRetired() { // the other view's configuration is in force
			p.resign()
		}
		return
	}
	if before == nil || !config.makesEventsOf(before.view.poller.config) {
		return
	}
	last := before.resign()
	before.view.poller.remove(before.view)
	if last.doc == nil {
		return
	}
	s := &p.view.state
	s.setShaped(last.doc, last.at, last.newest, last.base, last.first)
	if !p.view.loop.keep(p.view.keptBytes(last.doc, nil)) {
		s.setShaped(nil, nil, nil, 0, nil)
		return
	}
	p.takeTopics(before.instance, before.endTopic, last.base)
	s.set(last.doc, last.at, last.stale)
}

// makesEventsOf reports whether a configuration makes the same events of a document
// as another one.
func (c *Config) makesEventsOf(other *Config) bool {
	return c.Send == other.Send && c.SendArgument == other.SendArgument && c.First == other.First &&
		c.Select == other.Select && c.Event == other.Event
}

// lastState is what a view's successor goes on with.
type lastState struct {
	doc               *document // nil if there was none, or it was finished
	stale, at, newest *store.Entry
	base              uint64
	first             []*store.Entry
}

// resign makes the view publish nothing any more, and returns its state. Its viewers
// move.
func (p *publisher) resign() lastState {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resigned = true
	p.view.moved.Set()
	s := &p.view.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.complete != nil {
		return lastState{}
	}
	return lastState{s.doc, s.stale, s.at, s.newest, s.base, slices.Clone(s.first)}
}

// isReplacedLocked reports whether the next configuration serves the view's viewers.
// The caller holds mu until it has published: the view may resign at any time.
func (p *publisher) isReplacedLocked() bool {
	return p.resigned || p.view.poller.isRetired()
}

// takeTopics makes the view publish on the topics of another one, whose newest event
// is at a position or before it. Where viewers are checked, those who are there already
// were not authorized for what was published before.
func (p *publisher) takeTopics(instance, endTopic string, newest uint64) {
	p.view.poller.mu.Lock()
	defer p.view.poller.mu.Unlock()
	p.instance, p.endTopic = instance, endTopic
	if p.view.isCheckedLocked() {
		for _, one := range p.view.viewers.list {
			one.since = max(one.since, newest)
		}
	}
}

// leaveSuccession is called when the view has ended.
func (p *publisher) leaveSuccession() {
	if p.followed == "" {
		return
	}
	s := &p.view.poller.config.Leases.shaped
	forget := func() { s.forget(p.followed, p) }
	if p.view.poller.isRetired() && s.of(p.followed) == p {
		time.AfterFunc(successionAge, forget)
	} else {
		forget()
	}
}
