package caddysse

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/upstream/forward"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// A rule stores what it keeps across configurations under a key, which is the
// same for the same rule after a reload. Each key begins with the addresses on
// which the rule's server listens and the rule's name. It ends with an ordinal,
// which distinguishes otherwise equal rules, or with a request's URL.

// limitsKey is the key under which the hub counts the open streams of a rule. It
// doesn't depend on the rule's options.
func (a *App) limitsKey(ctx caddy.Context, id ruleID) string {
	return a.numbered(fmt.Sprintf("%q %q", listenAddresses(ctx), id.name))
}

// pollScope is the scope of a poll rule's views. A rule with another
// configuration has other views. (If a reload changed the order of equal rules,
// each would continue with the views of another.)
func (a *App) pollScope(ctx caddy.Context, id ruleID, config *poll.Config) (string, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	return a.numbered(fmt.Sprintf("%q %q %s", listenAddresses(ctx), id.name, text)), nil
}

// webhookScope identifies a webhook rule, also after a restart and after other
// edits of the rule. Rules with equal parts share it.
func webhookScope(ctx caddy.Context, id ruleID, config *webhook.Webhook) string {
	return fmt.Sprintf("webhook %q %q %q", listenAddresses(ctx), id.name, config.Verify.Sender)
}

// deliveryScope is the scope of the idempotency keys of a rule's deliveries:
// the rule's and, in the place of an ordinal, the URL that the sender calls. A
// sender repeats a delivery to the same URL, whichever rules stand before its
// rule by then.
func deliveryScope(scope string, r *http.Request) string {
	return fmt.Sprintf("%s %q %q", scope, poll.Hostname(r.Host), originalRequest(r).URL.EscapedPath())
}

// forwardQueue names the queue of a rule's forwarded deliveries. If another rule
// takes the ordinal, or none, nothing is lost: see [unclaimedForwarding].
func (a *App) forwardQueue(h *hub.Hub, id ruleID, scope string) string {
	return forward.QueueOf(h, fmt.Sprintf("%s %d", scope, a.ordinal(scope+" "+id.hub)))
}

func (a *App) numbered(key string) string { return fmt.Sprintf("%s %d", key, a.ordinal(key)) }

// ordinal counts the rules of the configuration that have a key, from 1.
func (a *App) ordinal(key string) int {
	a.ordinals[key]++
	return a.ordinals[key]
}

// listenAddresses returns where the server of the rule being provisioned
// listens.
func listenAddresses(ctx caddy.Context) []string {
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		return server.Listen
	}
	return nil
}
