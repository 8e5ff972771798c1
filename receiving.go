package caddysse

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// serveWebhook publishes a POST, and answers what a sender asks before it
// sends any.
func (h *Handler) serveWebhook(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.Method != http.MethodPost {
		answer, err := h.Webhook.Handshake(r, replacer(r))
		switch {
		case err != nil:
			return h.refuse(w, r, err)
		case answer == nil:
			return passOn(w, r, next, refuseMethod(http.MethodPost))
		}
		answer.Write(w)
		return nil
	}
	delivery, err := h.Webhook.Receive(w, r, replacer(r))
	if err != nil {
		return h.refuse(w, r, err)
	}
	if delivery.Answer != nil {
		delivery.Answer.Write(w)
		return nil
	}
	ids, err := h.publish(delivery.Messages)
	if err != nil {
		h.log.Error("event not published", zap.Error(err))
		return h.refuse(w, r, &refusal.Error{
			Status: http.StatusServiceUnavailable, Reason: "the event can't be stored; send it again later",
			RetryAfter: 5 * time.Second, Err: err,
		})
	}
	h.pollViews(r, delivery.Refresh)
	return acknowledge(w, delivery.Status, ids)
}

// publish publishes in order, and returns the ids that the events have got.
func (h *Handler) publish(messages []webhook.Message) (ids []string, err error) {
	for _, message := range messages {
		entry, _, err := h.hub.Publish(message.Topics, message.Event)
		if err != nil {
			return nil, err
		}
		ids = append(ids, entry.ID)
	}
	return ids, nil
}

// pollViews has the views polled that a webhook concerns.
func (h *Handler) pollViews(r *http.Request, views []webhook.View) {
	paths := make(map[string][]string) // by host
	for _, view := range views {
		host := view.Host
		if host == "" {
			host = r.Host
		}
		paths[poll.Hostname(host)] = append(paths[poll.Hostname(host)], view.Path)
	}
	for host, paths := range paths {
		h.hub.wrote(host, paths)
	}
}

// acknowledge tells the sender what its events are called. Some senders take
// one status only for success.
func acknowledge(w http.ResponseWriter, status int, ids []string) error {
	var answer any
	switch len(ids) {
	case 0: // nothing to publish, by the rule's own word
		if status == 0 {
			status = http.StatusNoContent
		}
	case 1:
		answer = map[string]string{"id": ids[0]}
	default:
		answer = map[string][]string{"ids": ids}
	}
	if status == 0 {
		status = http.StatusAccepted
	}
	if status == http.StatusNoContent || answer == nil {
		w.WriteHeader(status)
		return nil
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the event is published whether the sender hears it or not
	return nil
}
