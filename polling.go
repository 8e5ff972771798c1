package caddysse

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func (h *Handler) provisionPoll(ctx caddy.Context) error {
	scope, err := h.app.scope(ctx, h.name(), h.Poll)
	if err != nil {
		return err
	}
	h.Poll.Scope, h.Poll.Owners = scope, &h.hub.topics
	if err := h.Poll.Provision(); err != nil {
		return err
	}
	h.poller = poll.New(h.Poll, h.hub.Hub, h.log, h.metrics)
	h.hub.register(h.name(), h.poller)
	return nil
}

// servePoll streams the document that a request asks to watch, and lets all
// else pass, with an eye on what it changes. A POST that another site's page has
// sent passes, too: it is the backend's to refuse.
func (h *Handler) servePoll(w http.ResponseWriter, r *http.Request, nextHandler caddyhttp.Handler) error {
	switch {
	case r.Method == h.Poll.Method && stream.AsksFor(r.Header) && !h.cors.IsForeign(r):
		return h.watch(w, r, nextHandler)
	case !isSafe(r.Method):
		return h.passWrite(w, r, nextHandler)
	case h.Poll.Absorb && h.poller.Absorb(w, r, subrequest.New(r, nextHandler)):
		logFields(r, func(enc zapcore.ObjectEncoder) {
			enc.AddString("hub", h.hubName())
			enc.AddBool("absorbed", true)
		})
		return nil
	default:
		return nextHandler.ServeHTTP(w, r)
	}
}

func (h *Handler) watch(w http.ResponseWriter, r *http.Request, nextHandler caddyhttp.Handler) error {
	h.cors.Headers(w.Header(), r)
	w.Header().Add("Vary", "Accept")
	reason := stream.ClientLeft // or never came to be
	leave, err := h.enter(r, nextHandler)
	if err != nil {
		return h.refuse(w, r, err)
	}
	defer func() { leave(reason) }()
	done := boundBody(r)
	viewing, refused, err := h.poller.Subscribe(r, subrequest.New(r, nextHandler))
	done()
	switch {
	case r.Context().Err() != nil && !errors.As(err, new(*refusal.Error)):
		return nil // the viewer has left; over HTTP/1, a body that is late looks like that, too
	case errors.Is(err, subrequest.ErrEventStream):
		h.cors.Remove(w.Header()) // the backend's own are added
		return nextHandler.ServeHTTP(w, r)
	case err != nil:
		return h.refuse(w, r, err)
	case refused != nil && refused.Err != nil:
		return refused.Err // as for the viewer's own request, with the error routes
	case refused != nil:
		passRefusal(w, refused)
		return nil
	}
	defer viewing.Close()
	position := stream.LastEventID(r)
	if viewing.Finished(position) {
		w.Header().Set("Cache-Control", "no-store") // it is for this position only, and a cache may keep a 204
		w.WriteHeader(http.StatusNoContent)         // which ends an EventSource for good
		return nil
	}
	reason = h.serve(w, r, viewing.Source(position))
	return nil
}

// passRefusal answers with what the backend has said.
func passRefusal(w http.ResponseWriter, resp *subrequest.Response) {
	subrequest.CopyHeader(w.Header(), resp.Header)
	w.WriteHeader(resp.Status)
	_, _ = w.Write(resp.Body)
}
