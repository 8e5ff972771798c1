package poll

import "sync"

// Owners tells which view may publish on a topic. Views of one key share it:
// during a reload, one of the configuration that is replaced and one of the
// configuration that replaces it, whose backend may be another. Only one of
// them is the topic's owner, so that viewers of neither get an event twice, or
// the document of a backend that has been replaced after that of the one that
// has replaced it. Its zero value is ready to use, and it is safe for concurrent
// use.
type Owners struct {
	mu      sync.Mutex
	byTopic map[string]*owned
}

// owned is a topic that views publish on, or have a right to.
type owned struct {
	owners *Owners
	topic  string
	views  int // guarded by the owners' mutex

	mu    sync.Mutex // held while something is published
	owner *view
}

func (o *Owners) join(topic string) *owned {
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
// it is. The newest comes before others when it has its first answer, and one
// whose configuration is in force before one whose isn't any more.
func (t *owned) takeLocked(v *view, first bool) bool {
	if t.owner == nil || t.owner == v || v.comesBefore(t.owner, first) {
		t.owner = v
	}
	return t.owner == v
}

func (v *view) comesBefore(other *view, first bool) bool {
	if first {
		return !v.poller.isRetired() || other.poller.isRetired()
	}
	return !v.poller.isRetired() && other.poller.isRetired()
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
