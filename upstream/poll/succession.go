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

// follow makes a view the newest of its key, and returns the one before, or nil. A
// view of an older configuration doesn't follow one of a newer.
func (s *succession) follow(key string, p *publisher) *publisher {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.newest[key]
	if before != nil && before.view.poller.number > p.view.poller.number {
		return nil
	}
	if s.newest == nil {
		s.newest = make(map[string]*publisher)
	}
	s.newest[key] = p
	return before
}

func (s *succession) forget(key string, p *publisher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.newest[key] == p {
		delete(s.newest, key)
	}
}

// succeed lets the view go on where the one of an earlier configuration stopped, if
// there is one, and its program made the same events. It is called before the
// view has viewers.
func (p *publisher) succeed() {
	config := p.view.poller.config
	if !config.isShaped() {
		return
	}
	p.followed = p.view.state.currentKey()
	before := config.Leases.shaped.follow(p.followed, p)
	if before == nil || !config.makesEventsOf(before.view.poller.config) {
		return
	}
	doc, stale, at, base, first := before.resign()
	if doc == nil {
		return
	}
	p.takeTopics(before.instance, before.endTopic, base)
	p.view.state.setShaped(doc, at, base, first)
	p.view.state.set(doc, at, stale)
}

// makesEventsOf reports whether a configuration makes the same events of a document
// as another one.
func (c *Config) makesEventsOf(other *Config) bool {
	return c.Send == other.Send && c.SendArgument == other.SendArgument && c.First == other.First &&
		c.Select == other.Select && c.Event == other.Event
}

// resign makes the view publish nothing any more, and returns its state: no document
// if that was finished. Its viewers move.
func (p *publisher) resign() (doc *document, stale, at *store.Entry, base uint64, first []*store.Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resigned = true
	p.view.moved.Set()
	s := &p.view.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.complete != nil {
		return nil, nil, nil, 0, nil
	}
	return s.doc, s.stale, s.at, s.base, slices.Clone(s.first)
}

// isReplaced reports whether the next configuration serves the view's viewers.
func (p *publisher) isReplaced() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.resigned || p.view.poller.isRetired()
}

// takeTopics makes the view publish on the topics of another one, whose newest event
// is at a position or before it. Where viewers are checked, those who are there already were not
// authorized for what was published before.
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
	forget := func() { p.view.poller.config.Leases.shaped.forget(p.followed, p) }
	if p.view.poller.isRetired() {
		time.AfterFunc(successionAge, forget)
	} else {
		forget()
	}
}
