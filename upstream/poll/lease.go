package poll

import "sync"

// TopicLeases tells which view may publish on a topic. Views of one key share it:
// during a reload, one of the configuration that is replaced and one of the
// configuration that replaces it, whose backend may be another. Only one of
// them is the topic's owner, so that viewers of neither get an event twice, or
// the document of a backend that has been replaced after that of the one that
// has replaced it. Its zero value is ready to use, and it is safe for concurrent
// use.
type TopicLeases struct {
	mu      sync.Mutex
	byTopic map[string]*lease
	pollers int // that there have been
}

// lease is a topic that views publish on, or have a right to.
type lease struct {
	leases *TopicLeases
	topic  string
	views  int // guarded by the owners' mutex

	mu         sync.Mutex // held while something is published
	holder     *view
	lastPoller int // the number of the last owner's poller
}

// nextPollerNumber is that of a new poller: a later configuration's is higher.
func (o *TopicLeases) nextPollerNumber() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pollers++
	return o.pollers
}

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

// removeStream ends a view's part in the topic, which is another's to take then.
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

// acquireLocked makes the view the topic's owner, if it may be, and tells whether
// it is. A topic that nobody has any more is not taken back by a configuration
// that was replaced.
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

// precedes tells which of two views the topic is for: that of the
// configuration which is in force, or else of the later one. Of one
// configuration's it is the newest, from its first answer on.
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
