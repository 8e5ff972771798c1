package caddysse

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/stream"
)

// checkWatching finds options about who may watch that don't go with the rest.
func (h *Handler) checkWatching() error {
	if (h.Webhook != nil || h.Observe) && h.MaxStreams != nil {
		return errors.New("max_streams bounds streams, and this rule has none: leave it out")
	}
	return nil
}

// watchTopics streams the topics to a client who may choose them, if there is
// room and they may watch them.
func (h *Handler) watchTopics(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, topics []string) error {
	if r.Method == http.MethodHead {
		stream.WriteHeader(w)
		return nil
	}
	reason := stream.ClientLeft // or never came to be
	leave, err := h.enter(r, next)
	if err != nil {
		return h.refuse(w, r, err)
	}
	defer func() { leave(reason) }()
	reason = h.serve(w, r, stream.Follow(h.hub.Hub, topics, stream.LastEventID(r)))
	return nil
}
