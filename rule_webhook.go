package caddysse

import (
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/loglimit"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/forward"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

var webhookKind = kind{
	option:   "webhook",
	isSet:    func(h *Handler) bool { return h.Webhook != nil },
	parse:    (*Handler).parseWebhook,
	name:     "webhook",
	validate: func(h *Handler) error { return h.Webhook.Validate() },
	new:      newWebhookRule,
	refuses: map[string]string{
		"topic": "a webhook's topic belongs in its block; a rule that lets clients subscribe to topics is one of its own",
	},
	collectors: []prometheus.Collector{webhooksTotal, forwardsTotal, pendingCollector{}},
}

// webhookRule publishes webhooks, and forwards them to the app if it is
// configured to.
type webhookRule struct {
	*rule
	*webhook.Webhook
	scope   string // names the rule; see webhookScope
	metrics *webhookMetrics
	async   *asyncForwarding // nil: the rule doesn't forward in the background
	renamed loglimit.Limiter
}

func newWebhookRule(h *Handler, r *rule) ruleKind {
	return &webhookRule{rule: r, Webhook: h.Webhook, metrics: newWebhookMetrics(r.id, h.Webhook.Forward == webhook.ForwardAsync)}
}

func (h *webhookRule) provision(ctx caddy.Context) error {
	if err := h.Webhook.Provision(caddy.NewReplacer()); err != nil {
		return err
	}
	h.scope = h.webhookScope(h.Webhook)
	if h.Forward != webhook.ForwardAsync {
		return nil
	}
	return h.provisionAsync(ctx)
}

func (h *webhookRule) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch {
	case h.isForwarded(r):
		return next.ServeHTTP(w, r)
	case r.Method != http.MethodPost:
		return h.serveHandshake(w, r, next)
	}
	done := limitBodyTime(r)
	delivery, err := h.Receive(w, r, replacer(r))
	done()
	switch {
	case err != nil:
		return h.refuse(w, r, err)
	case delivery.HandshakeResponse != nil:
		delivery.Release()
		return h.answerHandshake(w, delivery.HandshakeResponse)
	}
	defer delivery.Release()
	if h.Forward == webhook.ForwardSync {
		return h.forwardSync(w, r, next, delivery)
	}
	return h.serveDelivery(w, r, delivery)
}

// serveHandshake responds to requests with other methods than POST, by which
// some senders check the endpoint before they send webhooks.
func (h *webhookRule) serveHandshake(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	response, err := h.Handshake(r, replacer(r))
	switch {
	case err != nil:
		return h.refuse(w, r, err)
	case response == nil:
		return passOrRefuse(w, r, next, refuseMethod(http.MethodPost))
	}
	return h.answerHandshake(w, response)
}

func (h *webhookRule) answerHandshake(w http.ResponseWriter, response *webhook.HandshakeResponse) error {
	h.metrics.received(webhook.Handshake)
	response.Write(w)
	return nil
}

func (h *webhookRule) serveDelivery(w http.ResponseWriter, r *http.Request, delivery *webhook.Delivery) error {
	outcome, refused := h.publish(r, delivery)
	if refused != nil {
		return h.refuse(w, r, refused)
	}
	ids := outcome.IDs
	if delivery.NoBody {
		ids = nil
	}
	return acknowledge(w, delivery.Status, ids)
}

// publish publishes a delivery's events, all or none, unless an earlier
// delivery has done so. It polls the views that the delivery names even then:
// the sender may have repeated the delivery because the first attempt stored
// the events and failed later.
func (h *webhookRule) publish(r *http.Request, delivery *webhook.Delivery) (hub.Outcome, *refusal.Error) {
	outcome, err := h.store(r, delivery)
	if err != nil {
		return outcome, &refusal.Error{
			Status: http.StatusServiceUnavailable, Reason: "the event can't be stored; send it again later",
			RetryAfter: 5 * time.Second, Err: err, Kind: string(webhook.NotStored),
		}
	}
	if delivery.Refused != nil {
		h.recordRefusal(r, delivery.Refused)
		return outcome, nil
	}
	h.metrics.received(resultOf(delivery, outcome))
	h.pollViews(r, delivery.Refresh)
	return outcome, nil
}

// store appends a delivery's events to the hub's log. If the rule forwards in
// the background, the same append stores the request.
func (h *webhookRule) store(r *http.Request, delivery *webhook.Delivery) (outcome hub.Outcome, err error) {
	messages := delivery.Messages
	defer func() {
		if err != nil {
			h.logPublishFailure(len(messages), err)
		}
	}()
	key := h.IdempotencyKey(deliveryScope(h.scope, r), delivery)
	dropped := droppedKey(key)
	if h.async != nil && !h.hasForwarded(key, dropped) {
		request, err := h.async.storedRequest(r, delivery.Body)
		messages = append([]hub.Message{request}, messages...)
		if err != nil {
			return outcome, err
		}
	}
	if delivery.IsDropped() {
		if key = dropped; len(messages) == 0 {
			return outcome, nil
		}
	}
	outcome, err = h.hub.PublishAll(messages, key)
	if err == nil && !outcome.Duplicate {
		h.logRenamed(delivery.Renamed)
	}
	if len(outcome.IDs) > 0 && forward.IsMessage(outcome.IDs[0]) { // not the sender's
		outcome.IDs = outcome.IDs[1:]
	}
	return outcome, err
}

// logRenamed logs that an event has another name than it was given, once a minute.
func (h *webhookRule) logRenamed(renamed []webhook.Renamed) {
	if len(renamed) == 0 {
		return
	}
	if suppressed, ok := h.renamed.Allow(time.Now()); ok {
		h.log.Warn("an event can't have the name that it was given, and has another one: in the page, listen for that",
			zap.String("rule", h.id.name), zap.String("given", renamed[0].Given), zap.String("name", renamed[0].Name), zap.Int("not_logged_since", suppressed))
	}
}

// droppedKey returns the key of a delivery that the rule drops and only forwards
// to the app. The key is another one than that of the same delivery under a rule
// that wants it: such a rule publishes the delivery when the sender repeats it.
func droppedKey(key hub.IdempotencyKey) hub.IdempotencyKey {
	if key.ID != "" {
		key.ID = "dropped " + key.ID
	}
	return key
}

// hasForwarded reports whether the rule has stored a request for the app under one
// of the keys.
func (h *webhookRule) hasForwarded(keys ...hub.IdempotencyKey) bool {
	return slices.ContainsFunc(keys, func(key hub.IdempotencyKey) bool {
		_, before := h.hub.PublishedBefore(key)
		return before
	})
}

// resultOf returns the metric label of a delivery that is not refused.
func resultOf(delivery *webhook.Delivery, outcome hub.Outcome) webhook.Result {
	switch {
	case delivery.IsDropped():
		return webhook.Dropped
	case outcome.Duplicate:
		return webhook.Duplicate
	}
	return webhook.Accepted
}

// pollViews polls the views that a delivery names.
func (h *webhookRule) pollViews(r *http.Request, targets []webhook.RefreshTarget) {
	paths := make(map[string][]string) // by host
	for _, target := range targets {
		host := target.Host
		if host == "" {
			host = r.Host
		}
		paths[poll.Hostname(host)] = append(paths[poll.Hostname(host)], target.Path)
	}
	for host, paths := range paths {
		h.hub.invalidate(host, paths)
	}
}

// acknowledge responds to the sender with the ids of its events. Zero is the
// usual status; some senders accept only one status as success.
func acknowledge(w http.ResponseWriter, status int, ids []string) error {
	var response any
	switch len(ids) {
	case 0: // the rule's options have left nothing to publish
		if status == 0 {
			status = http.StatusNoContent
		}
	case 1:
		response = map[string]string{"id": ids[0]}
	default:
		response = map[string][]string{"ids": ids}
	}
	if status == 0 {
		status = http.StatusAccepted
	}
	if status == http.StatusNoContent || response == nil {
		w.WriteHeader(status)
		return nil
	}
	body, err := json.Marshal(response)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the event is published even if the sender has left
	return nil
}
