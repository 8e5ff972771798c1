package caddysse

import (
	"encoding/json"
	"fmt"
	"net/http"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// A rule stores what it keeps across configurations under a key, which is the
// same for the same rule after a reload. Each key has the rule's name and its
// place. The same requests reach rules that share a key.

// keptPlace returns the place of a rule that keeps something. In an unknown
// place, the rule keeps it until the next reload.
func (r *rule) keptPlace() place {
	if r.placeUnknown != nil {
		r.log.Warn("the rule keeps nothing across reloads: the module doesn't know its place among Caddy's routes",
			zap.String("rule", r.id.name), zap.Error(r.placeUnknown))
		r.placeUnknown = nil
	}
	return r.place
}

// limitsKey is the key under which the hub counts the open streams of a rule. It
// doesn't depend on the rule's options.
func (r *rule) limitsKey() string { return fmt.Sprintf("%s %q", r.keptPlace().routes, r.id.name) }

// pollScope is the scope of a poll rule's views. A rule with another
// configuration has other views. The handlers before the rule count, too: they
// may have kept clients from the documents in the history.
func (r *rule) pollScope(config *poll.Config) (string, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	at := r.keptPlace()
	return fmt.Sprintf("%s %s %q %s", at.routes, at.passed, r.id.name, text), nil
}

// webhookScope identifies a webhook rule, also after a restart and after other
// edits of the rule.
func (r *rule) webhookScope(config *webhook.Webhook) string {
	return fmt.Sprintf("webhook %s %q %q", r.keptPlace().routes, r.id.name, config.Verify.Sender)
}

// deliveryScope is the scope of the idempotency keys of a rule's deliveries:
// the rule's and the URL that the sender calls, to which it repeats a delivery.
func deliveryScope(scope string, r *http.Request) string {
	return fmt.Sprintf("%s %q %q", scope, poll.Hostname(r.Host), originalRequest(r).URL.EscapedPath())
}
