package poll

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// check is what the backend has answered to one viewer.
type check struct {
	principal *principal
	resp      *subrequest.Response
	err       error
}

// isGood tells whether the answer is a document, or that it is as before.
func (o check) isGood() bool {
	return o.err == nil && (isDocument(o.resp.Status) || o.resp.Status == http.StatusNotModified)
}

// refuses tells whether the answer is that there is nothing to see, for whoever
// has asked.
func (o check) refuses() bool {
	return o.err == nil && !subrequest.IsFailure(o.resp.Status) && !o.isGood()
}

// maxChecks is how many viewers are asked as before an answer that is no
// document is one about the view.
const maxChecks = 3

// confirmRefusal asks as other viewers, since an answer that is no document may be
// about who has asked and not about what was asked for. It returns the answer
// that is about the view. Those whom the backend refuses, though not all others,
// lose it.
func (v *view) confirmRefusal(first check, since validators) check {
	said := []check{first}
	for len(said) < maxChecks && v.ctx.Err() == nil {
		if first.err != nil && len(said) > 1 {
			break // each may take as long as that one has
		}
		other := v.otherPrincipal(said)
		if other == nil {
			break
		}
		o := check{principal: other}
		o.resp, o.err = v.poller.check(v.ctx, v.target, other, since)
		said = append(said, o)
		if o.isGood() {
			break
		}
	}
	return v.decide(said)
}

func (v *view) otherPrincipal(than []check) *principal {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	return v.viewers.otherThan(than, rand.Int())
}

// decide returns the opinion that counts: the last if it is good, else one that
// the backend fails, else one that it refuses, and that the document is gone
// only if all say so. Where not all are refused, those who are lose the view.
func (v *view) decide(said []check) check {
	if v.ctx.Err() != nil {
		return check{said[0].principal, nil, context.Cause(v.ctx)}
	}
	counts, refused := said[len(said)-1], 0
	for _, o := range said {
		switch {
		case o.refuses():
			refused++
			if counts.refuses() && !isGone(o.resp.Status) {
				counts = o
			}
		case !counts.isGood():
			counts = o
		}
	}
	if refused < len(said) {
		for _, o := range said {
			if o.refuses() {
				v.revoke(o.principal)
			}
		}
	}
	return counts
}

// checkFailure is why the backend couldn't tell whether a viewer may share. Such
// a viewer is polled for alone: they are told that the backend fails, and come
// back when it can be asked.
type checkFailure struct {
	status int
	err    error
	header http.Header
}

func newCheckFailure(resp *subrequest.Response, err error) *checkFailure {
	if err != nil {
		return &checkFailure{err: err}
	}
	return &checkFailure{status: resp.Status, header: resp.Header}
}

// errUndecided is the error of a view that can't be shared since the backend
// doesn't answer.
var errUndecided = errors.New("the backend doesn't answer")

// authorize asks the backend as a viewer who is about to share what others are shown,
// and in no other way than the others are polled for. It returns the backend's
// answer if that is a refusal. An answer that fails lets nobody in.
func (sub *Subscription) authorize(ctx context.Context) (*subrequest.Response, error) {
	v := sub.view
	// A request of its own: nothing of the viewer's connection is about it.
	asking, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	resp, err := v.poller.authorizationCheck(asking, v.target, sub.principal)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case isPermanent(err):
		return nil, notStreamable(err)
	case err != nil:
		sub.checkFailure = &checkFailure{err: err}
		return nil, nil
	case subrequest.IsFailure(resp.Status):
		sub.checkFailure = &checkFailure{status: resp.Status, header: resp.Header}
		return nil, nil
	case isDocument(resp.Status):
		v.poller.learn(v, resp.Header, false)
		return nil, nil
	}
	return resp, nil
}
