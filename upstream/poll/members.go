package poll

import (
	"context"
	"errors"
	"net/http"

	"github.com/caddy-sse/caddy-sse/upstream/next"
)

// members are those whom the backend lets see a view's document, and as whom it
// is polled. They are guarded by the poller's mutex.
type members struct {
	byID map[string]*member
	list []*member
	turn int
	last *asker // who was asked as last, who may have left since
	// since is the last position on the topic from before the view, and from
	// before somebody was refused.
	since uint64
}

// member is one viewer, however many streams they have open.
type member struct {
	asker   *asker
	streams int
	place   int           // in the list
	revoked chan struct{} // closed when the backend has refused them
}

func newMembers(creator *asker) *members {
	return &members{byID: make(map[string]*member), last: creator}
}

// knows tells whether the viewer need not be asked about.
func (m *members) knows(a *asker) bool { return m.byID[a.id] != nil || m.last.id == a.id }

func (m *members) enter(a *asker) *member {
	one := m.byID[a.id]
	if one == nil {
		one = &member{asker: a, place: len(m.list), revoked: make(chan struct{})}
		m.byID[a.id] = one
		m.list = append(m.list, one)
	}
	one.streams++
	return one
}

// resumes tells whether a viewer may have all that has come after a position:
// in a view whose viewers are asked about only if nobody has been refused
// since. It may have been this viewer, who gets the document as it is now and
// nothing of what it was in between.
func (v *view) resumes(seq uint64) bool {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	return !v.isCheckedLocked() || seq > v.members.since
}

// barLocked keeps what is published from now on from who has been refused until now.
// The caller holds the poller's mutex.
func (v *view) barLocked() {
	if last := v.poller.hub.Last(v.topic()); last != nil {
		v.members.since = last.Seq
	}
}

// leave takes one of a member's streams away.
func (m *members) leave(one *member) {
	if one.streams--; one.streams == 0 {
		m.remove(one)
	}
}

func (m *members) remove(one *member) {
	if m.byID[one.asker.id] != one {
		return // it was refused, and may be a member anew
	}
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

// other is a member beside a; nil if there is none.
func (m *members) other(a *asker) *asker {
	for i := range min(len(m.list), 2) {
		if one := m.list[(m.turn+1+i)%len(m.list)]; one.asker.id != a.id {
			return one.asker
		}
	}
	return nil
}

// enterIfKnownLocked makes a viewer a member without a question, if none is needed.
// The caller holds the poller's mutex.
func (viewing *Viewing) enterIfKnownLocked() {
	v := viewing.view
	if !v.isCheckedLocked() || v.members.knows(viewing.asker) {
		viewing.member = v.members.enter(viewing.asker)
	}
}

// enter makes a viewer a member whom the backend lets in.
func (viewing *Viewing) enter() {
	viewing.poller.mu.Lock()
	defer viewing.poller.mu.Unlock()
	viewing.member = viewing.view.members.enter(viewing.asker)
}

func (viewing *Viewing) expel() {
	viewing.poller.mu.Lock()
	defer viewing.poller.mu.Unlock()
	viewing.expelLocked()
}

func (viewing *Viewing) expelLocked() {
	if viewing.member != nil {
		viewing.view.members.leave(viewing.member)
		viewing.member = nil
	}
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

func (v *view) otherAsker(than *asker) *asker {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	return v.members.other(than)
}

// revoke ends the streams of a member whom the backend refuses what it shows to
// another, unless nobody is asked about.
func (v *view) revoke(refused, another *asker) {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	if one := v.members.byID[refused.id]; one != nil {
		v.members.remove(one)
		if v.isCheckedLocked() {
			close(one.revoked)
			v.barLocked()
		}
	}
	if v.members.last.id == refused.id {
		v.members.last = another
	}
}

// secondOpinion asks as another viewer, since an answer that is no document may
// be about who has asked and not about what was asked for. It returns the
// answer that is about the view.
func (v *view) secondOpinion(as, other *asker, resp *next.Response, err error) (*next.Response, error) {
	second, secondErr := v.poller.asked(v.ctx, v.target, other, v.since)
	refused, secondRefused := refuses(resp, err), refuses(second, secondErr)
	switch {
	case v.ctx.Err() != nil:
		return nil, context.Cause(v.ctx)
	case refused && !secondRefused:
		v.revoke(as, other)
	case secondRefused && !refused:
		v.revoke(other, as)
		return resp, err
	case refused && isGone(second.Status): // which it is only if both say so
		return resp, err
	}
	return second, secondErr
}

// refuses tells whether the answer is that there is nothing to see, for whoever
// has asked.
func refuses(resp *next.Response, err error) bool {
	return err == nil && !failing(resp.Status) && !isGood(resp, err)
}

// isGood tells whether the answer is a document, or that it is as before.
func isGood(resp *next.Response, err error) bool {
	return err == nil && (isDocument(resp.Status) || resp.Status == http.StatusNotModified)
}

// unanswered is why the backend couldn't tell whether a viewer may share. Such
// a viewer is polled for alone: they are told that the backend fails, and come
// back when it can be asked.
type unanswered struct {
	status int
	err    error
	header http.Header
}

// errUnanswered is the error of a view that can't be shared since the backend
// doesn't answer.
var errUnanswered = errors.New("the backend doesn't answer")

// ask asks the backend as a viewer who is about to share what others are shown,
// and in no other way than the others are polled for. It returns the backend's
// answer if that is a refusal. An answer that fails lets nobody in.
func (viewing *Viewing) ask(ctx context.Context) (*next.Response, error) {
	v := viewing.view
	resp, err := v.poller.asked(ctx, v.target, viewing.asker, validators{})
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case misconfigured(err):
		return nil, unwatchable(err)
	case err != nil:
		viewing.unanswered = &unanswered{err: err}
		return nil, nil
	case failing(resp.Status):
		viewing.unanswered = &unanswered{status: resp.Status, header: resp.Header}
		return nil, nil
	case isDocument(resp.Status):
		v.poller.learn(v, resp.Header, false)
		return nil, nil
	}
	return resp, nil
}
