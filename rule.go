package caddysse

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// ruleKind serves the requests of one rule. Each kind of rule has a type that
// implements it. Embedding [*rule] provides shutdown and cleanup for kinds
// that have nothing of their own to end.
type ruleKind interface {
	// provision sets the rule up. It starts nothing: Caddy may still reject
	// the configuration.
	provision(ctx caddy.Context) error

	// serve responds to a request or passes it to the next handler.
	serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error

	// shutdown is called when the rule's server begins to shut down, on a
	// reload and on exit. App.Stop would be too late: on exit Caddy first
	// waits for all requests to end.
	shutdown()

	// cleanup releases the resources of provision, also after provision has
	// failed. Streams may still be open.
	cleanup() error
}

// rule holds the fields that all kinds of rules share.
type rule struct {
	id  ruleID
	app *App
	hub *sharedHub
	log *zap.Logger

	placeholders []string // which subrequests repeat

	place        place
	placeUnknown error // why the place is unknown; see keptPlace
}

// ruleID names a rule in metrics, logs and the admin API. Rules with the same
// name share it.
type ruleID struct{ hub, name string }

func newRule(ctx caddy.Context, id ruleID) (*rule, error) {
	module, err := ctx.App("sse")
	if err != nil {
		return nil, err
	}
	app := module.(*App)
	hub, err := app.hub(id.hub)
	if err != nil {
		return nil, err
	}
	place, unknown := app.placeOf(ctx)
	return &rule{id: id, app: app, hub: hub, log: ctx.Logger(), placeholders: app.placeholdersOfHandlers(ctx), place: place, placeUnknown: unknown}, nil
}

// requester returns a requester for the client of req.
func (r *rule) requester(req *http.Request, next caddyhttp.Handler) *subrequest.Requester {
	return subrequest.New(req, next, r.placeholders...)
}

// shutdown ends the hub's streams if no configuration takes them over.
func (r *rule) shutdown() { r.hub.shutdown(r.app, new(stream.Group)) }

func (r *rule) cleanup() error { return nil }

// refuse responds with a refusal. It returns any other error to Caddy, so that
// the client doesn't see its text.
func (r *rule) refuse(w http.ResponseWriter, req *http.Request, err error) error {
	return r.refuseAs(w, req, err, refusalKind)
}

// refuseAs is like refuse and counts the refusal under the kind that kindOf
// returns.
func (r *rule) refuseAs(w http.ResponseWriter, req *http.Request, err error, kindOf func(*refusal.Error) string) error {
	var refused *refusal.Error
	if !errors.As(err, &refused) {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	r.log.Debug("request refused", zap.Int("status", refused.Status), zap.String("reason", refused.Reason), zap.Error(refused.Err))
	refusalsTotal.WithLabelValues(r.id.hub, r.id.name, strconv.Itoa(refused.Status), kindOf(refused)).Inc()
	partOf(req).setReason(refused.Reason)
	refused.Write(w, req)
	return nil
}

// refusalKind returns the metric label of a refusal: its kind or, by default,
// its status in words. Clients can't add labels.
func refusalKind(refused *refusal.Error) string {
	if refused.Kind != "" {
		return refused.Kind
	}
	return strings.ReplaceAll(strings.ToLower(http.StatusText(refused.Status)), " ", "_")
}

// logPublishFailure logs once a minute for each hub: when a disk is full, each
// request fails.
func (r *rule) logPublishFailure(events int, err error) {
	if suppressed, ok := r.hub.publishFailures.Allow(time.Now()); ok {
		r.log.Error("events not published", zap.String("hub", r.id.hub), zap.String("rule", r.id.name),
			zap.Int("events", events), zap.Error(err), zap.Int("not_logged_since", suppressed))
	}
}

// logFields adds fields to the request's line in the access log.
func logFields(r *http.Request, add func(enc zapcore.ObjectEncoder)) {
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.Object("sse", zapcore.ObjectMarshalerFunc(func(enc zapcore.ObjectEncoder) error {
			add(enc)
			return nil
		})))
	}
}

// clientIP returns the client's address. If the server trusts the proxies in
// between, this is the address that they report.
func clientIP(r *http.Request) string {
	address, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return address
}

// originalRequest returns a request as it was before handlers rewrote it.
func originalRequest(r *http.Request) http.Request {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		return original
	}
	return *r
}

func replacer(r *http.Request) *caddy.Replacer {
	return r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
}
