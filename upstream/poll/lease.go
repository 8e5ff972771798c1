package poll

import "sync"

// TopicLeases decides which view may publish on a topic. Views of one key share
// a topic: during a reload, one view of the old configuration and one of the
// new, whose backend may be another. Only the holder of the lease publishes, so
// that no viewer receives an event twice, or the old backend's document after
// the new one's. The zero value is ready to use, and safe for concurrent use.
type TopicLeases struct {
	mu      sync.Mutex
	byTopic map[string]*lease
	pollers int // that were created
	shaped  succession
}

// lease is the right to publish on one topic.
type lease struct {
	leases *TopicLeases
	topic  string
	views  int // guarded by the leases' mutex

	mu         sync.Mutex // held while something is published
	holder     *view
	lastPoller int // the number of the last holder's poller
}

// nextPollerNumber returns the number of a new poller. A later configuration has
// a higher one.
func (o *TopicLeases) nextPollerNumber() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pollers++
	return o.pollers
}

// join adds a view to those that share a topic.
func (o *TopicLeases) join(topic string) *lease {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.byTopic[topic]
	if t == nil {
		if o.byTopic == nil {
			o.byTopic = make(map[string]*lease)
		}
		t = &lease{leases: o, topic: topic}
		o.byTopic[topic] = t
	}
	t.views++
	return t
}

// leave removes a view from those that share the topic. If it holds the lease,
// another view may acquire it.
func (t *lease) leave(v *view) {
	t.mu.Lock()
	if t.holder == v {
		t.holder = nil
	}
	t.mu.Unlock()
	t.leases.mu.Lock()
	defer t.leases.mu.Unlock()
	if t.views--; t.views == 0 {
		delete(t.leases.byTopic, t.topic)
	}
}

// acquireLocked makes the view the holder of the lease, if it may be, and
// reports whether it is. A replaced configuration doesn't acquire a lease that a
// later one has given up.
func (t *lease) acquireLocked(v *view, first bool) bool {
	takes := v == t.holder
	if t.holder == nil {
		takes = !v.poller.isRetired() || v.poller.number >= t.lastPoller
	} else if !takes {
		takes = v.precedes(t.holder, first)
	}
	if takes {
		t.holder, t.lastPoller = v, v.poller.number
	}
	return takes
}

// precedes reports whether the view is preferred to another as the lease's
// holder: a view of the configuration in force, then one of a later
// configuration. Of two views of one configuration, it is the newer one, from
// its first response on.
func (v *view) precedes(other *view, first bool) bool {
	mine, its := v.poller, other.poller
	switch {
	case mine == its:
		return first
	case mine.isRetired() != its.isRetired():
		return its.isRetired()
	default:
		return mine.number > its.number
	}
}
