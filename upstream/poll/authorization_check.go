package poll

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// check is the backend's response to a request as one principal.
type check struct {
	principal *principal
	resp      *subrequest.Response
	err       error
	unlike    bool // the response is another page than the document
}

// isGood reports whether the response is a document, or confirms one.
func (o check) isGood() bool {
	return o.err == nil && !o.unlike && (isDocument(o.resp.Status) || o.resp.Status == http.StatusNotModified)
}

// refuses reports whether the backend refuses the principal.
func (o check) refuses() bool {
	return o.err == nil && !subrequest.IsFailure(o.resp.Status) && !o.isGood()
}

// maxChecks is as how many principals the view is polled before a refusal counts
// for the whole view.
const maxChecks = 3

// confirmRefusal polls as other viewers after a response that is no document: it
// may be about the principal and not about the document. It returns the response
// that counts for the view. Viewers that the backend refuses lose the view, if
// it doesn't refuse all.
func (v *view) confirmRefusal(first check, since validators) check {
	said := []check{first}
	for len(said) < maxChecks && !v.loop.hasEnded() {
		if first.err != nil && len(said) > 1 {
			break // each may take as long as that one has
		}
		other := v.otherPrincipal(said)
		if other == nil {
			break
		}
		o := check{principal: other}
		o.resp, o.err = v.check(other, since)
		o.unlike = v.isUnlike(o.resp)
		said = append(said, o)
		if o.isGood() {
			break
		}
	}
	return v.decide(said)
}

// otherPrincipal returns a viewer's principal that was not checked yet, or nil.
func (v *view) otherPrincipal(than []check) *principal {
	v.poller.mu.Lock()
	defer v.poller.mu.Unlock()
	return v.viewers.otherThan(than, rand.Int())
}

// decide returns the check that counts: the last one if it is good, otherwise
// one in which the backend failed, otherwise a refusal; one by which the
// document is gone only if all say so. Refused viewers lose the view, unless all
// are refused.
func (v *view) decide(said []check) check {
	if v.loop.hasEnded() {
		return check{principal: said[0].principal, err: context.Canceled}
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
				if isTemporaryRedirect(o.resp.Status) {
					v.recordRedirect()
				}
				v.revoke(o.principal)
			}
		}
	}
	return counts
}

// checkFailure is why the backend couldn't decide whether a viewer may share the
// view. Such a viewer gets a view of its own that says stale, and reconnects
// when the backend responds again.
type checkFailure struct {
	status int
	err    error
	header http.Header
}

// newCheckFailure returns the failure of a response, or of an error without one.
func newCheckFailure(resp *subrequest.Response, err error) *checkFailure {
	switch {
	case err != nil:
		return &checkFailure{err: err}
	case isDocument(resp.Status): // but another page
		return &checkFailure{header: resp.Header}
	}
	return &checkFailure{status: resp.Status, header: resp.Header}
}

// errUndecided is the error of a view that can't be shared since the backend
// fails.
var errUndecided = errors.New("the backend doesn't answer")

// authorize asks the backend whether a viewer may share the view. It makes the
// viewer's own request, which differs from the view's polls in nothing but the
// principal and the hints. It returns the backend's response if that is a
// refusal. A failure authorizes nobody.
func (sub *Subscription) authorize(ctx context.Context, t *target) (*subrequest.Response, error) {
	v := sub.view
	// A request of its own: nothing of the viewer's connection is about it.
	asking, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	resp, err := v.authorizationCheck(asking, t, sub.principal)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case isPermanent(err):
		return nil, notStreamable(err)
	case v.isUndecided(check{resp: resp, err: err}):
		sub.checkFailure = newCheckFailure(resp, err)
		return nil, nil
	case isDocument(resp.Status) && !v.isUnlike(resp):
		return nil, nil
	}
	if refused := v.refusalInstead(resp); refused != nil {
		return nil, refused
	}
	return resp, nil
}
