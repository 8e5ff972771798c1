package caddysse

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// serveTopics streams what is published on the rule's topics.
func (h *Handler) serveTopics(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return passOn(w, r, next, refuseMethod(http.MethodGet, http.MethodHead, http.MethodOptions))
	}
	if !stream.Accepts(r.Header) {
		return passOn(w, r, next, refuseAccept)
	}
	h.cors.Headers(w.Header(), r)
	viewer, refused := h.viewer(r)
	if refused != nil {
		return h.refuse(w, r, refused)
	}
	topics, refused := h.topics.Of(r, replacer(r), viewer)
	if refused != nil {
		return h.refuse(w, r, refused)
	}
	return h.watchTopics(w, r, next, topics, viewer)
}

// checkWatching finds options about who may watch that don't go with the rest.
func (h *Handler) checkWatching() error {
	switch {
	case (h.Webhook != nil || h.Publish != nil || h.Observe) && h.MaxStreams != nil:
		return errors.New("max_streams bounds streams, and this rule has none: leave it out")
	case h.Poll != nil && h.Authorize != nil:
		return errors.New("a poll asks the backend as the viewer anyway: leave out authorize")
	case h.Authorize != nil && len(h.Topics) == 0:
		return errors.New("authorize is for rules with topic: leave it out")
	case h.Envelope && len(h.Topics) == 0:
		return errors.New("envelope says which topic an event is from: it needs topic")
	}
	return nil
}

// provisionTopics sets up what clients watch, and who may.
func (h *Handler) provisionTopics() (err error) {
	h.envelopes = new(stream.Envelopes)
	covered, err := h.provisionJWT()
	if err != nil {
		return err
	}
	if h.Authorize != nil {
		if err := h.Authorize.Provision(); err != nil {
			return err
		}
		covered = append(covered, h.Authorize.Template().Placeholders()...)
		h.authorizer = access.NewAuthorizer(h.hub.Digest, h.log, h.metrics)
	}
	h.topics, err = access.NewTopics(h.Topics, h.Allow, covered...)
	return err
}

// watchTopics streams the topics to a client who may choose them, if there is
// room and the backend lets them, until their token ends. The viewer is nil if
// the rule asks for none.
func (h *Handler) watchTopics(w http.ResponseWriter, r *http.Request, nextHandler caddyhttp.Handler, topics []string, viewer *access.Token) error {
	reason := stream.ClientLeft // or never came to be
	if r.Method != http.MethodHead {
		leave, err := h.enter(r, nextHandler)
		if err != nil {
			return h.refuse(w, r, err)
		}
		defer func() { leave(reason) }()
	}
	permit, answered, err := h.authorize(w, r, nextHandler)
	if answered {
		return err
	}
	defer permit.End()
	if r.Method == http.MethodHead {
		return h.answerHead(w, r, permit)
	}
	src := stream.Subscribe(h.hub.Hub, topics, stream.LastEventID(r))
	if viewer != nil {
		src.Until = viewer.Expires
	}
	src.Granted, src.Revoked = permit.Granted, permit.Revoked
	if h.Envelope {
		src.Frame = h.envelopes.On(topics)
	}
	if permit.Failure != nil {
		src.First = append(src.First, undecided(permit.Failure, src.Cursor))
	}
	reason = h.serve(w, r, src)
	return nil
}

// authorize asks the backend whether the client may watch what they ask for. It
// answers the request if they may not.
func (h *Handler) authorize(w http.ResponseWriter, r *http.Request, nextHandler caddyhttp.Handler) (permit *access.Grant, answered bool, err error) {
	if h.Authorize == nil {
		return access.AlwaysGranted(), false, nil
	}
	questions, refused := h.topics.AuthorizationURIs(r, replacer(r), h.Authorize.Template())
	if refused != nil {
		return nil, true, h.refuse(w, r, refused)
	}
	viewer := access.NewPrincipal(r, subrequest.New(r, nextHandler))
	permit, answer, err := h.authorizer.Authorize(r.Context(), viewer, questions, time.Duration(h.Authorize.Recheck))
	switch {
	case err != nil:
		h.log.Error("backend can't be asked who may watch", zap.Error(err))
		return nil, true, h.refuse(w, r, &refusal.Error{Status: http.StatusBadGateway, Kind: refusal.Unwatchable, Reason: "it can't be told who may watch this: " + err.Error(), Err: err})
	case answer != nil && answer.Err != nil:
		return nil, true, answer.Err // as for the viewer's own request, with the error routes
	case answer != nil:
		passRefusal(w, uncacheable(answer))
		return nil, true, nil
	case r.Context().Err() != nil: // the client has left
		permit.End()
		return nil, true, nil
	}
	return permit, false, nil
}

// uncacheable is an answer to another URL than the one it is given for, and to
// this viewer alone.
func uncacheable(answer *subrequest.Response) *subrequest.Response {
	alone := *answer // which others share
	alone.Header = answer.Header.Clone()
	alone.Header.Set("Cache-Control", "no-store")
	return &alone
}

// answerHead answers with what the stream would begin with.
func (h *Handler) answerHead(w http.ResponseWriter, r *http.Request, permit *access.Grant) error {
	if permit.Failure != nil {
		return h.refuse(w, r, &refusal.Error{
			Status: http.StatusServiceUnavailable, Kind: refusal.BackendCanNotTell, Reason: "the backend can't say now who may watch this",
			RetryAfter: max(permit.Failure.RetryAfter, 5*time.Second),
		})
	}
	stream.WriteHeader(w)
	return nil
}

// undecided tells a client that the backend can't say yet whether they may
// watch, and where they are until then.
func undecided(f *access.Failure, c *hub.Cursor) *store.Entry {
	stale := stream.Stale(time.Now(), f.Status)
	stale.ID = c.Position()
	frame, err := stale.Encode()
	if err != nil { // a position is an id, and JSON text
		panic(err)
	}
	return &store.Entry{Frame: frame}
}
