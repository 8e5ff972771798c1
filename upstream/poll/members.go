package poll

import (
	"maps"
	"slices"
	"time"
)

// members are those whom the backend lets see a view's document, and as whom it
// is polled. They are guarded by the poller's mutex.
type members struct {
	byID map[string]*member
	list []*member
	turn int
	last *asker // who was asked as last, who may have left since
	// vouched is the id of who was last, if that was answered with the document.
	vouched string
	left    map[string]absent
	swept   time.Time // when those who left long ago were last forgotten
}

// member is one viewer, however many streams they have open.
type member struct {
	asker   *asker
	streams int
	place   int           // in the list
	since   uint64        // what was published after this position they may have
	vouched time.Time     // when the backend has last let them see the document
	revoked chan struct{} // closed when the backend has refused them
}

// absent is a member who has left, as far as it matters if they come back.
type absent struct {
	since uint64
	at    time.Time
}

// absence is how long a viewer may be away and still get what was published
// meanwhile, and not only the document as it is.
const absence = time.Minute

// maxAbsent is how many are remembered beside twice as many as there are
// members. Who isn't gets the document when they come back: anyone who may see
// it can come and go under any number of names.
const maxAbsent = 1000

func newMembers(creator *asker) *members {
	return &members{byID: make(map[string]*member), last: creator, vouched: creator.id, left: make(map[string]absent)}
}

// knows tells whether the viewer need not be asked about.
func (m *members) knows(a *asker) bool { return m.byID[a.id] != nil || m.vouched == a.id }

// enter adds a stream of a viewer, from which on they may have what is
// published after a position.
func (m *members) enter(a *asker, position uint64, now time.Time) *member {
	one := m.byID[a.id]
	if one == nil {
		one = &member{asker: a, place: len(m.list), since: position, vouched: now, revoked: make(chan struct{})}
		if was, ok := m.left[a.id]; ok && now.Sub(was.at) <= absence {
			one.since = was.since
		}
		delete(m.left, a.id)
		m.byID[a.id] = one
		m.list = append(m.list, one)
	}
	one.streams++
	return one
}

// leave takes one of a member's streams away.
func (m *members) leave(one *member, now time.Time) {
	if one.streams--; one.streams > 0 || m.byID[one.asker.id] != one {
		return // or they were refused
	}
	m.remove(one)
	m.remember(one, now)
}

// remember notes who has left, if there is room. It looks through all of them
// once in an absence only: as often as somebody leaves would hold up the poller.
func (m *members) remember(one *member, now time.Time) {
	if len(m.left) > 100 && now.Sub(m.swept) > absence {
		maps.DeleteFunc(m.left, func(_ string, was absent) bool { return now.Sub(was.at) > absence })
		m.swept = now
	}
	if len(m.left) < 2*len(m.list)+maxAbsent {
		m.left[one.asker.id] = absent{one.since, now}
	}
}

func (m *members) remove(one *member) {
	delete(m.byID, one.asker.id)
	last := m.list[len(m.list)-1]
	m.list[one.place], last.place = last, one.place
	m.list[len(m.list)-1] = nil
	m.list = m.list[:len(m.list)-1]
}

// next is whose request the next poll makes: that of the members in turn, or of
// the last one who was.
func (m *members) next(inTurn bool) *asker {
	if len(m.list) == 0 || !inTurn && m.byID[m.last.id] != nil {
		return m.last
	}
	m.turn++
	m.last = m.list[m.turn%len(m.list)].asker
	return m.last
}

// other is a member who is none of these, as far as their credentials tell; nil
// if there is no other. It begins to look at a random place: who is next to
// each other in the list may have come together.
func (m *members) other(these []opinion, start int) *asker {
	for i := range m.list {
		a := m.list[(start+i)%len(m.list)].asker
		if !slices.ContainsFunc(these, func(o opinion) bool { return o.as.isSameViewer(a) }) {
			return a
		}
	}
	return nil
}

// vouch notes that the backend has just let a viewer see the document.
func (m *members) vouch(a *asker, now time.Time) {
	m.last, m.vouched = a, a.id
	if one := m.byID[a.id]; one != nil {
		one.vouched = now
	}
}

// enterLocked makes the viewing one of a member, unless the view has ended.
func (viewing *Subscription) enterLocked() {
	v, p := viewing.view, viewing.poller
	if p.views[v.key] != v {
		return
	}
	var position uint64
	if last := p.hub.Last(v.topic()); last != nil && v.isCheckedLocked() {
		position = last.Seq
	}
	viewing.member = v.members.enter(viewing.asker, position, time.Now())
	v.viewers++
	v.idle.Stop()
}

// enterIfKnownLocked makes a viewer a member without a question, if none is
// needed.
func (viewing *Subscription) enterIfKnownLocked() {
	if v := viewing.view; !v.isCheckedLocked() || v.members.knows(viewing.asker) {
		viewing.enterLocked()
	}
}

// enter makes a viewer a member whom the backend lets in, unless this has
// turned out to be another's view.
func (viewing *Subscription) enter(t *target) {
	p := viewing.poller
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keyLocked(t) == viewing.view.key {
		viewing.enterLocked()
	}
}

func (viewing *Subscription) expel() {
	viewing.poller.mu.Lock()
	defer viewing.poller.mu.Unlock()
	viewing.expelLocked()
}

func (viewing *Subscription) expelLocked() {
	if viewing.member == nil {
		return
	}
	v := viewing.view
	v.members.leave(viewing.member, time.Now())
	viewing.member = nil
	if v.viewers--; v.viewers == 0 {
		viewing.poller.abandonLocked(v)
	}
}

// resumes tells whether the viewer may have all that has come after a position.
// Where the backend is asked about viewers that is what was published while it
// let them see the document.
func (viewing *Subscription) resumes(seq uint64) bool {
	viewing.poller.mu.Lock()
	defer viewing.poller.mu.Unlock()
	return !viewing.view.isCheckedLocked() || seq >= viewing.member.since
}

// isCheckedLocked tells whether viewers share whom the backend is asked about.
func (v *view) isCheckedLocked() bool { return v.shared && v.poller.config.Share != shareUnchecked }

func (v *view) isChecked() bool {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	return v.isCheckedLocked()
}

// nextAsker is whose request the next poll makes.
func (v *view) nextAsker() *asker {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	return v.members.next(v.isCheckedLocked())
}

// vouch notes what a poll has said about who it was made as.
func (v *view) vouch(as *asker, good bool) {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	if good {
		v.members.vouch(as, time.Now())
	} else {
		v.members.vouched = ""
	}
}

// revoke ends the streams of a member whom the backend refuses what it shows to
// another, unless nobody is asked about.
func (v *view) revoke(refused *asker) {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	one := v.members.byID[refused.id]
	if one == nil {
		return
	}
	v.members.remove(one)
	if v.isCheckedLocked() {
		close(one.revoked)
	}
}
