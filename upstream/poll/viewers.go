package poll

import (
	"maps"
	"slices"
	"time"
)

// viewers are those whom the backend lets see a view's document, and as whom it
// is polled. They are guarded by the poller's mutex.
type viewers struct {
	byID  map[string]*viewer
	list  []*viewer
	turns int
	last  *principal // who was asked as last, who may have left since
	// lastAuthorized is the id of who was last, if that was answered with the document.
	lastAuthorized string
	disconnected   map[string]disconnected
	swept          time.Time // when those who left long ago were last forgotten

	streams int         // of all viewers
	idle    *time.Timer // runs while there are none
}

// viewer is one viewer, however many streams they have open.
type viewer struct {
	principal    *principal
	streams      int
	index        int           // in the list
	since        uint64        // what was published after this position they may have
	authorizedAt time.Time     // when the backend has last let them see the document
	revoked      chan struct{} // closed when the backend has refused them
}

// disconnected is a member who has left, as far as it matters if they come back.
type disconnected struct {
	since uint64
	at    time.Time
}

// disconnectedFor is how long a viewer may be away and still get what was published
// meanwhile, and not only the document as it is.
const disconnectedFor = time.Minute

// maxDisconnected is how many are remembered beside twice as many as there are
// members. Who isn't gets the document when they come back: anyone who may see
// it can come and go under any number of names.
const maxDisconnected = 1000

func newViewers(creator *principal) *viewers {
	return &viewers{byID: make(map[string]*viewer), last: creator, lastAuthorized: creator.id, disconnected: make(map[string]disconnected)}
}

// isAuthorized tells whether the viewer need not be asked about.
func (m *viewers) isAuthorized(a *principal) bool {
	return m.byID[a.id] != nil || m.lastAuthorized == a.id
}

// add adds a stream of a viewer, from which on they may have what is
// published after a position.
func (m *viewers) add(a *principal, position uint64, now time.Time) *viewer {
	one := m.byID[a.id]
	if one == nil {
		one = &viewer{principal: a, index: len(m.list), since: position, authorizedAt: now, revoked: make(chan struct{})}
		if was, ok := m.disconnected[a.id]; ok && now.Sub(was.at) <= disconnectedFor {
			one.since = was.since
		}
		delete(m.disconnected, a.id)
		m.byID[a.id] = one
		m.list = append(m.list, one)
	}
	one.streams++
	return one
}

// removeStream takes one of a member's streams away.
func (m *viewers) removeStream(one *viewer, now time.Time) {
	if one.streams--; one.streams > 0 || m.byID[one.principal.id] != one {
		return // or they were refused
	}
	m.remove(one)
	m.remember(one, now)
}

// remember notes who has left, if there is room. It looks through all of them
// once in an absence only: as often as somebody leaves would hold up the poller.
func (m *viewers) remember(one *viewer, now time.Time) {
	if len(m.disconnected) > 100 && now.Sub(m.swept) > disconnectedFor {
		maps.DeleteFunc(m.disconnected, func(_ string, was disconnected) bool { return now.Sub(was.at) > disconnectedFor })
		m.swept = now
	}
	if len(m.disconnected) < 2*len(m.list)+maxDisconnected {
		m.disconnected[one.principal.id] = disconnected{one.since, now}
	}
}

func (m *viewers) remove(one *viewer) {
	delete(m.byID, one.principal.id)
	last := m.list[len(m.list)-1]
	m.list[one.index], last.index = last, one.index
	m.list[len(m.list)-1] = nil
	m.list = m.list[:len(m.list)-1]
}

// next is whose request the next poll makes: that of the members in turn, or of
// the last one who was.
func (m *viewers) next(inTurn bool) *principal {
	if len(m.list) == 0 || !inTurn && m.byID[m.last.id] != nil {
		return m.last
	}
	m.turns++
	m.last = m.list[m.turns%len(m.list)].principal
	return m.last
}

// otherThan is a member who is none of these, as far as their credentials tell; nil
// if there is no other. It begins to look at a random place: who is next to
// each other in the list may have come together.
func (m *viewers) otherThan(these []check, start int) *principal {
	for i := range m.list {
		a := m.list[(start+i)%len(m.list)].principal
		if !slices.ContainsFunc(these, func(o check) bool { return o.principal.isSameViewer(a) }) {
			return a
		}
	}
	return nil
}

// recordAuthorization notes that the backend has just let a viewer see the document.
func (m *viewers) setAuthorized(a *principal, now time.Time) {
	m.last, m.lastAuthorized = a, a.id
	if one := m.byID[a.id]; one != nil {
		one.authorizedAt = now
	}
}

// joinLocked makes the sub one of a member, unless the view has ended.
func (sub *Subscription) joinLocked() {
	v, p := sub.view, sub.poller
	if p.views[v.key] != v {
		return
	}
	var position uint64
	if last := p.hub.Last(v.publisher.topic()); last != nil && v.isCheckedLocked() {
		position = last.Seq
	}
	sub.viewer = v.viewers.add(sub.principal, position, time.Now())
	v.viewers.streams++
	v.viewers.idle.Stop()
}

// joinIfAuthorizedLocked makes a viewer a member without a question, if none is
// needed.
func (sub *Subscription) joinIfAuthorizedLocked() {
	if v := sub.view; !v.isCheckedLocked() || v.viewers.isAuthorized(sub.principal) {
		sub.joinLocked()
	}
}

// add makes a viewer a member whom the backend lets in, unless this has
// turned out to be another's view.
func (sub *Subscription) join(t *target) {
	p := sub.poller
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keyLocked(t) == sub.view.key {
		sub.joinLocked()
	}
}

func (sub *Subscription) leave() {
	sub.poller.mu.Lock()
	defer sub.poller.mu.Unlock()
	sub.leaveLocked()
}

func (sub *Subscription) leaveLocked() {
	if sub.viewer == nil {
		return
	}
	v := sub.view
	v.viewers.removeStream(sub.viewer, time.Now())
	sub.viewer = nil
	if v.viewers.streams--; v.viewers.streams == 0 {
		sub.poller.lingerLocked(v)
	}
}

// resumes tells whether the viewer may have all that has come after a position.
// Where the backend is asked about viewers that is what was published while it
// let them see the document.
func (sub *Subscription) resumes(seq uint64) bool {
	sub.poller.mu.Lock()
	defer sub.poller.mu.Unlock()
	return !sub.view.isCheckedLocked() || seq >= sub.viewer.since
}

// isCheckedLocked tells whether viewers share whom the backend is asked about.
func (v *view) isCheckedLocked() bool { return v.shared && v.poller.config.Share != shareUnchecked }

func (v *view) isChecked() bool {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	return v.isCheckedLocked()
}

// nextPrincipal is whose request the next poll makes.
func (v *view) nextPrincipal() *principal {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	return v.viewers.next(v.isCheckedLocked())
}

// recordAuthorization notes what a poll has said about who it was made as.
func (v *view) recordAuthorization(as *principal, good bool) {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	if good {
		v.viewers.setAuthorized(as, time.Now())
	} else {
		v.viewers.lastAuthorized = ""
	}
}

// revoke ends the streams of a member whom the backend refuses what it shows to
// another, unless nobody is asked about.
func (v *view) revoke(refused *principal) {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	one := v.viewers.byID[refused.id]
	if one == nil {
		return
	}
	v.viewers.remove(one)
	if v.isCheckedLocked() {
		close(one.revoked)
	}
}
