package caddysse

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

const nothingElse = "a rule that observes unsafe requests does nothing else: leave out poll, webhook and topics"

var observeKind = kind{
	option: "observe",
	isSet:  func(h *Handler) bool { return h.Observe },
	name:   "observe",
	new:    func(_ *Handler, r *rule) ruleKind { return &observeRule{r} },
	// It ignores these.
	takes:   []string{"allow", "cors", "heartbeat", "retry", "max_age", "shutdown_event"},
	refuses: map[string]string{"topic": nothingElse},
}

// observeRule passes all requests and polls the documents that unsafe ones may
// have changed.
type observeRule struct{ *rule }

func (o *observeRule) provision(caddy.Context) error { return nil }

func (o *observeRule) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if !o.mayWrite(r) {
		return next.ServeHTTP(w, r)
	}
	return o.passWrite(w, r, next)
}
