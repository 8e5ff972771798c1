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
	byTopic map[string]*owned
	pollers int // that there have been
}

// owned is a topic that views publish on, or have a right to.
type owned struct {
	owners *TopicLeases
	topic  string
	views  int // guarded by the owners' mutex

	mu    sync.Mutex // held while something is published
	owner *view
	last  int // the number of the last owner's poller
}

// number is that of a new poller: a later configuration's is higher.
func (o *TopicLeases) number() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pollers++
	return o.pollers
}

func (o *TopicLeases) join(topic string) *owned {
	o.mu.Lock()
	defer o.mu.Unlock()
	t := o.byTopic[topic]
	if t == nil {
		if o.byTopic == nil {
			o.byTopic = make(map[string]*owned)
		}
		t = &owned{owners: o, topic: topic}
		o.byTopic[topic] = t
	}
	t.views++
	return t
}

// leave ends a view's part in the topic, which is another's to take then.
func (t *owned) leave(v *view) {
	t.mu.Lock()
	if t.owner == v {
		t.owner = nil
	}
	t.mu.Unlock()
	t.owners.mu.Lock()
	defer t.owners.mu.Unlock()
	if t.views--; t.views == 0 {
		delete(t.owners.byTopic, t.topic)
	}
}

// takeLocked makes the view the topic's owner, if it may be, and tells whether
// it is. A topic that nobody has any more is not taken back by a configuration
// that was replaced.
func (t *owned) takeLocked(v *view, first bool) bool {
	takes := v == t.owner
	if t.owner == nil {
		takes = !v.poller.isRetired() || v.poller.number >= t.last
	} else if !takes {
		takes = v.comesBefore(t.owner, first)
	}
	if takes {
		t.owner, t.last = v, v.poller.number
	}
	return takes
}

// comesBefore tells which of two views the topic is for: that of the
// configuration which is in force, or else of the later one. Of one
// configuration's it is the newest, from its first answer on.
func (v *view) comesBefore(other *view, first bool) bool {
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

// own makes the view its topic's owner, if it may be, and tells whether it is.
// Until release is called that doesn't change.
func (v *view) own() (owns bool, release func()) {
	first := v.owned == nil
	if first {
		v.owned = v.poller.config.Owners.join(v.topic())
	}
	v.owned.mu.Lock()
	return v.owned.takeLocked(v, first), v.owned.mu.Unlock
}

// disown ends what own has begun, for good.
func (v *view) disown() {
	if v.owned != nil {
		v.owned.leave(v)
	}
}
