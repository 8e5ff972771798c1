package caddysse

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/forward"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

func (h *Handler) provisionWebhook(ctx caddy.Context) error {
	if err := h.Webhook.Provision(caddy.NewReplacer()); err != nil {
		return err
	}
	h.scope = h.app.webhookScope(ctx, h)
	return h.provisionForwarding(ctx)
}

// serveWebhook publishes a POST, and answers what a sender asks before it
// sends any.
func (h *Handler) serveWebhook(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.isPassed(r) {
		return next.ServeHTTP(w, r)
	}
	if r.Method != http.MethodPost {
		answer, err := h.Webhook.Handshake(r, replacer(r))
		switch {
		case err != nil:
			return h.refuseWebhook(w, r, err)
		case answer == nil:
			return passOn(w, r, next, refuseMethod(http.MethodPost))
		}
		return h.greet(w, answer)
	}
	done := boundBody(r)
	delivery, err := h.Webhook.Receive(w, r, replacer(r))
	done()
	if err != nil {
		return h.refuseWebhook(w, r, err)
	}
	if delivery.Answer != nil {
		return h.greet(w, delivery.Answer)
	}
	if h.Webhook.Forward == webhook.ForwardSync {
		return h.forward(w, r, next, delivery)
	}
	outcome, refused := h.deliver(r, delivery)
	if refused != nil {
		return h.refuseWebhook(w, r, refused)
	}
	ids := outcome.IDs
	if delivery.NoBody {
		ids = nil
	}
	return acknowledge(w, delivery.Status, ids)
}

// greet answers a handshake.
func (h *Handler) greet(w http.ResponseWriter, answer *webhook.HandshakeResponse) error {
	h.metrics.received(webhook.Handshake)
	answer.Write(w)
	return nil
}

// deliver publishes what a request has become, all of it or nothing, unless it
// was published before, and counts it. A sender that comes again because it had
// no answer may have been in time for the event only: the views are polled
// again as well.
func (h *Handler) deliver(r *http.Request, delivery *webhook.Delivery) (hub.Outcome, *refusal.Error) {
	messages, err := h.messages(r, delivery)
	var outcome hub.Outcome
	if err == nil {
		outcome, err = h.hub.PublishAll(messages, h.Webhook.IdempotencyKey(h.scope, delivery))
	}
	if err != nil {
		h.notPublished(len(messages), err)
		return outcome, &refusal.Error{
			Status: http.StatusServiceUnavailable, Reason: "the event can't be stored; send it again later",
			RetryAfter: 5 * time.Second, Err: err, Kind: string(webhook.NotStored),
		}
	}
	if len(outcome.IDs) > 0 && forward.IsMessage(outcome.IDs[0]) { // which is nothing to the sender
		outcome.IDs = outcome.IDs[1:]
	}
	if delivery.Refused != nil {
		h.noteRefusal(r, delivery.Refused)
		return outcome, nil
	}
	h.metrics.received(resultOf(delivery, outcome))
	h.pollViews(r, delivery.Refresh)
	return outcome, nil
}

// messages are what is stored of a delivery: what is published and, before
// that, what the app is to get in the background.
func (h *Handler) messages(r *http.Request, delivery *webhook.Delivery) ([]hub.Message, error) {
	if h.Webhook.Forward != webhook.ForwardAsync {
		return delivery.Messages, nil
	}
	queued, err := h.queued(r, delivery.Body)
	return append([]hub.Message{queued}, delivery.Messages...), err
}

func resultOf(delivery *webhook.Delivery, outcome hub.Outcome) webhook.Result {
	switch {
	case outcome.Duplicate:
		return webhook.Duplicate
	case len(delivery.Messages)+len(delivery.Refresh) == 0:
		return webhook.Dropped
	}
	return webhook.Accepted
}

// refuseWebhook refuses, and takes note of it for the operator.
func (h *Handler) refuseWebhook(w http.ResponseWriter, r *http.Request, err error) error {
	h.noteRefusal(r, err)
	return h.refuse(w, r, err)
}

// webhookScope names the deliveries of a rule apart from those of any other:
// where it listens, what it is called, whose deliveries it takes, and which one
// it is of those that are alike. It is the same after a reload and a restart,
// whatever else is changed about the rule.
func (a *App) webhookScope(ctx caddy.Context, h *Handler) string {
	scope := fmt.Sprintf("webhook %q %q %q", listens(ctx), h.name(), h.Webhook.Verify.Sender)
	return fmt.Sprintf("%s %d", scope, a.ordinal(scope+" "+h.hubName()))
}

// pollViews has the views polled that a webhook concerns.
func (h *Handler) pollViews(r *http.Request, views []webhook.RefreshTarget) {
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
