package poll

import (
	"maps"
	"slices"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/signal"
)

// viewers are the principals that the backend authorizes for a view's document.
// Polls carry their credentials in rotation. The poller's mutex guards them.
type viewers struct {
	byID  map[string]*viewer // nil while they are few
	list  []*viewer
	polls int        // with each viewer's credentials in rotation
	last  *principal // of the last poll; it may have disconnected since
	// lastAuthorized is the id of last, if that poll returned the document.
	lastAuthorized string
	disconnected   map[string]disconnected // nil before the first
	swept          time.Time               // when old records were last removed

	streams int         // of all viewers
	idle    *time.Timer // runs while there are none; nil before the first such time
}

// viewer is one principal, however many streams it has open.
type viewer struct {
	principal    *principal
	streams      int
	index        int           // in the list
	since        uint64        // the viewer may receive what is published after this position
	authorizedAt time.Time     // when the backend last showed the document
	revoked      signal.Signal // set when the backend refuses the viewer
}

// disconnected is the record of a viewer without open streams, which may
// reconnect.
type disconnected struct {
	since uint64
	at    time.Time
}

// disconnectedFor is how long after it has disconnected a viewer still receives
// the events that it missed. Later it gets the document only.
const disconnectedFor = time.Minute

// maxDisconnected limits the records of disconnected viewers, in addition to two
// for each viewer. A viewer without a record gets the document when it reconnects.
// The limit is needed because one client can connect as any number of viewers.
const maxDisconnected = 1000

func newViewers(creator *principal) viewers {
	return viewers{last: creator, lastAuthorized: creator.id}
}

// few is how many viewers need no map.
const few = 8

// find returns a principal's viewer, or nil.
func (m *viewers) find(id string) *viewer {
	if m.byID != nil {
		return m.byID[id]
	}
	for _, one := range m.list {
		if one.principal.id == id {
			return one
		}
	}
	return nil
}

func (m *viewers) stopIdle() {
	if m.idle != nil {
		m.idle.Stop()
	}
}

// isAuthorized reports whether the principal needs no authorization check.
func (m *viewers) isAuthorized(a *principal) bool {
	return m.lastAuthorized == a.id || m.find(a.id) != nil
}

// add adds a stream of a principal, which may receive what is published after a
// position.
func (m *viewers) add(a *principal, position uint64, now time.Time) *viewer {
	one := m.find(a.id)
	if one == nil {
		one = &viewer{principal: a, index: len(m.list), since: position, authorizedAt: now}
		if was, ok := m.disconnected[a.id]; ok && now.Sub(was.at) <= disconnectedFor {
			one.since = was.since
		}
		delete(m.disconnected, a.id)
		m.list = append(m.list, one)
		m.indexLast()
	}
	one.streams++
	return one
}

// indexLast adds the last viewer to the map, if there are enough for one.
func (m *viewers) indexLast() {
	switch {
	case m.byID != nil:
		last := m.list[len(m.list)-1]
		m.byID[last.principal.id] = last
	case len(m.list) > few:
		m.byID = make(map[string]*viewer)
		for _, one := range m.list {
			m.byID[one.principal.id] = one
		}
	}
}

// removeStream removes one of a viewer's streams.
func (m *viewers) removeStream(one *viewer, now time.Time) {
	if one.streams--; one.streams > 0 || m.find(one.principal.id) != one {
		return // the backend has refused it
	}
	m.remove(one)
	m.remember(one, now)
}

// remember records a disconnected viewer, if there is room. It removes old
// records at most once in disconnectedFor: a walk through all of them on every
// disconnect would block the poller.
func (m *viewers) remember(one *viewer, now time.Time) {
	if len(m.disconnected) > 100 && now.Sub(m.swept) > disconnectedFor {
		maps.DeleteFunc(m.disconnected, func(_ string, was disconnected) bool { return now.Sub(was.at) > disconnectedFor })
		m.swept = now
	}
	if m.disconnected == nil {
		m.disconnected = make(map[string]disconnected)
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

// next returns the principal of the next poll. With rotate it is the next viewer's,
// otherwise the last one as long as it is a viewer.
func (m *viewers) next(rotate bool) *principal {
	if len(m.list) == 0 || !rotate && m.find(m.last.id) != nil {
		return m.last
	}
	m.polls++
	m.last = m.list[m.polls%len(m.list)].principal
	return m.last
}

// otherThan returns a viewer's principal with other credentials than those of
// the checks, or nil. It starts at a random place: neighbours in the list may
// have come together.
func (m *viewers) otherThan(these []check, start int) *principal {
	for i := range m.list {
		a := m.list[(start+i)%len(m.list)].principal
		if !slices.ContainsFunc(these, func(o check) bool { return o.principal.isSameViewer(a) }) {
			return a
		}
	}
	return nil
}

// setAuthorized records that the backend has just shown the document to a
// principal.
func (m *viewers) setAuthorized(a *principal, now time.Time) {
	m.last, m.lastAuthorized = a, a.id
	if one := m.find(a.id); one != nil {
		one.authorizedAt = now
	}
}

// joinLocked adds the subscription's viewer to the view, unless the view has
// ended.
func (sub *Subscription) joinLocked() {
	v, p := sub.view, sub.poller
	if v.removed {
		return
	}
	var position uint64
	if last := p.hub.Last(v.publisher.topic()); last != nil && v.isCheckedLocked() {
		position = last.Seq
	}
	sub.viewer = v.viewers.add(sub.principal, position, time.Now())
	v.viewers.streams++
	v.viewers.stopIdle()
}

// joinIfAuthorizedLocked adds the viewer without an authorization check, if none
// is needed.
func (sub *Subscription) joinIfAuthorizedLocked() {
	if v := sub.view; !v.isCheckedLocked() || v.viewers.isAuthorized(sub.principal) {
		sub.joinLocked()
	}
}

// join adds a viewer that the backend has authorized, unless its requests belong
// to another view by now.
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

// resumes reports whether the viewer may receive everything after a position. In a
// view that checks its viewers, it must have been authorized since then.
func (sub *Subscription) resumes(seq uint64) bool {
	sub.poller.mu.Lock()
	defer sub.poller.mu.Unlock()
	return !sub.view.isCheckedLocked() || seq >= sub.viewer.since
}

// isCheckedLocked reports whether the backend authorizes each viewer of the
// view.
func (v *view) isCheckedLocked() bool { return v.shared && v.poller.config.Share != shareUnchecked }

func (v *view) isChecked() bool {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	return v.isCheckedLocked()
}

// nextPrincipal returns the principal of the next poll.
func (v *view) nextPrincipal() *principal {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	return v.viewers.next(v.isCheckedLocked())
}

// recordAuthorization records whether a poll authorized the principal that it
// was made as.
func (v *view) recordAuthorization(as *principal, good bool) {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	if good {
		v.viewers.setAuthorized(as, time.Now())
	} else {
		v.viewers.lastAuthorized = ""
	}
}

// revoke removes a viewer that the backend refuses. If viewers are checked, it
// ends the viewer's streams.
func (v *view) revoke(refused *principal) {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	one := v.viewers.find(refused.id)
	if one == nil {
		return
	}
	v.viewers.remove(one)
	if v.isCheckedLocked() {
		one.revoked.Set()
	}
}
