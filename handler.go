package caddysse

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/upstream/forward"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
	"github.com/caddy-sse/caddy-sse/upstream/publish"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler is one rule: which of the requests that reach it are answered with a
// stream of server-sent events, or feed one. All others go to the next handler
// untouched.
//
// A rule has one of `poll`, which makes the JSON of the next handlers live,
// `webhook` and `publish`, which publish what they receive, and `topics`, which
// lets clients watch what is published.
type Handler struct {
	// What the rule is called in metrics and by the admin API. Rules of one
	// name are counted together. Default: in a Caddyfile the rule's matcher,
	// such as `/api/*`; else "poll", "webhook", "publish" or "topic".
	Name string `json:"name,omitempty"`

	// The hub to publish on and read from. Default: "default".
	Hub string `json:"hub,omitempty"`

	// Makes documents of the next handlers live: a GET that asks for
	// text/event-stream gets the document and then its changes.
	Poll *poll.Config `json:"poll,omitempty"`

	// Publishes POST requests as events.
	Webhook *webhook.Webhook `json:"webhook,omitempty"`

	// Publishes what services that are trusted send by POST.
	Publish *publish.Publish `json:"publish,omitempty"`

	// The topics that a GET or HEAD which accepts text/event-stream watches.
	// Each may hold placeholders, and is left out if one of them is empty.
	Topics []string `json:"topics,omitempty"`

	// The topics that a client may choose through placeholders of its query,
	// path or headers. Between slashes, * stands for any characters; ** at the
	// end stands for one name or more. A topic that the client has a part in
	// choosing is refused with 403 unless a pattern matches it. Only without
	// any pattern may Authorize, or the claim of the client's JWT, take their
	// place.
	Allow []string `json:"allow,omitempty"`

	// The JSON Web Tokens that who watches the rule's topics must have one of.
	// The placeholder {http.auth.user.id} is then the token's `sub`, its claim
	// `topics`, if it has one, bounds what may be watched, and the stream ends
	// when it expires.
	JWT *access.JWT `json:"jwt,omitempty"`

	// Whether the data of each event says which topic it is from:
	// {"topic":…,"data":…}, for clients that watch several on one stream. Data
	// that is JSON stays so; text becomes a JSON string.
	Envelope bool `json:"envelope,omitempty"`

	// Has the backend asked whether a viewer may watch the topics. What the
	// client chooses by placeholders that are all in its URI needs no Allow.
	Authorize *access.Authorize `json:"authorize,omitempty"`

	// The origins whose pages may open the streams, with credentials, or "*"
	// for any page without credentials. Default: the same origin only.
	CORS []string `json:"cors,omitempty"`

	// How long a stream may be silent before a comment is sent. Default: 15s; at
	// least 1s, and below 30s, since HTTP/3 connections that are idle for so long
	// end.
	Heartbeat caddy.Duration `json:"heartbeat,omitempty"`

	// How long a client waits before it reconnects. Each is told a time
	// within half of it more or less, so that they don't all come at once.
	// Default: 3s.
	Retry caddy.Duration `json:"retry,omitempty"`

	// How long a stream lasts at most until its client is asked to reconnect:
	// it ends at a random moment in the second half of that. At least 1s.
	// Default, and what zero means: no bound.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// Whether clients are told, with an event `shutdown` just before their
	// streams end, that the server goes away. A reload is no reason for it.
	ShutdownEvent bool `json:"shutdown_event,omitempty"`

	// How many streams may be open at a time: of the rule, per client and per
	// user. Default: no bound.
	MaxStreams *access.Limits `json:"max_streams,omitempty"`

	// Whether the rule only has an eye on the writes that pass: those that
	// succeed have the documents polled that they may have changed. A rule
	// with `poll` does so for its own requests; the `refresh` option in a
	// Caddyfile makes rules like this one for the other paths that it names.
	Observe bool `json:"observe,omitempty"`

	app    *App
	hub    *sharedHub
	poller *poll.Poller
	topics *access.Topics
	cors   *access.CORS
	stream stream.Options
	group  *stream.Group
	limits *streamLimits

	authorizer *access.Authorizer
	envelopes  *stream.Envelopes

	metrics *ruleMetrics

	// Of webhooks: what their deliveries are known by, and what passes them on.
	scope     string
	server    *caddyhttp.Server
	forwarder *forward.Forwarder
	log       *zap.Logger
}

// CaddyModule returns the module's information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.sse", New: func() caddy.Module { return new(Handler) }}
}

// Provision sets the rule up. It starts nothing: the configuration may still be
// rejected.
func (h *Handler) Provision(ctx caddy.Context) error {
	h.log = ctx.Logger()
	if err := errors.Join(h.check(), h.checkWatching()); err != nil {
		return err
	}
	if err := h.provisionHub(ctx); err != nil {
		return err
	}
	if h.Observe {
		return nil
	}
	if err := registerMetrics(ctx.GetMetricsRegistry()); err != nil {
		return err
	}
	h.metrics = metricsOf(h)
	if err := errors.Join(h.provisionStream(ctx), h.provisionLimits(ctx)); err != nil {
		return err
	}
	switch {
	case h.Poll != nil:
		return h.provisionPoll(ctx)
	case h.Webhook != nil:
		return h.provisionWebhook(ctx)
	case h.Publish != nil:
		return h.provisionPublish()
	default:
		return h.provisionTopics()
	}
}

// check finds options that don't go together.
func (h *Handler) check() error {
	switch {
	case h.Publish != nil:
		return h.checkPublish()
	case h.JWT != nil && len(h.Topics) == 0:
		return errors.New("jwt is for who watches topics: it needs topic (a poll asks the backend as the viewer, and publish has a jwt of its own)")
	case h.Poll != nil && h.Webhook != nil:
		return errors.New("poll and webhook can't share a rule: write two")
	case h.Poll != nil && len(h.Topics) > 0:
		return errors.New("a poll's topics are its URLs: leave out topic")
	case h.Webhook != nil && len(h.Topics) > 0:
		return errors.New("a webhook's topic belongs into its block; a rule that lets clients watch topics is one of its own")
	case h.Observe && (h.Poll != nil || h.Webhook != nil || len(h.Topics) > 0):
		return errors.New("a rule that observes writes does nothing else: leave out poll, webhook and topics")
	case h.Observe:
		return nil
	case h.Poll == nil && h.Webhook == nil && len(h.Topics) == 0:
		return errors.New("a rule needs poll, webhook, publish or topic")
	case len(h.Allow) > 0 && len(h.Topics) == 0:
		return errors.New("allow bounds the topics that a client may choose: it needs topic")
	case h.Webhook != nil && (len(h.CORS) > 0 || h.Heartbeat != 0 || h.Retry != 0 || h.MaxAge != 0 || h.ShutdownEvent):
		return errors.New("a webhook rule has no streams: leave out cors, heartbeat, retry, max_age and shutdown_event")
	case h.Heartbeat < 0 || h.Retry < 0 || h.MaxAge < 0:
		return errors.New("heartbeat, retry and max_age can't be negative")
	case h.Heartbeat > 0 && time.Duration(h.Heartbeat) < time.Second, h.MaxAge > 0 && time.Duration(h.MaxAge) < time.Second:
		return errors.New("heartbeat and max_age are at least 1s")
	case time.Duration(h.Heartbeat) >= maxHeartbeat:
		return fmt.Errorf("heartbeat %v is too long: HTTP/3 connections end when they are idle for %v", time.Duration(h.Heartbeat), maxHeartbeat)
	}
	return nil
}

// maxHeartbeat is QUIC's idle timeout in Caddy, which sends no keep-alives.
const maxHeartbeat = 30 * time.Second

// hasStreams tells whether clients can watch here.
func (h *Handler) hasStreams() bool { return h.Poll != nil || len(h.Topics) > 0 }

func (h *Handler) hubName() string { return cmp.Or(h.Hub, defaultHub) }

func (h *Handler) provisionHub(ctx caddy.Context) error {
	app, err := ctx.App("sse")
	if err != nil {
		return err
	}
	h.app = app.(*App)
	h.hub, err = h.app.hub(h.hubName())
	return err
}

// writeTimeout is how long one write to a client may take, and how long what
// was sent may stay unacknowledged. Tests change it.
var writeTimeout = 30 * time.Second

func (h *Handler) provisionStream(ctx caddy.Context) (err error) {
	h.group = new(stream.Group)
	h.stream = stream.Options{
		Heartbeat: cmp.Or(time.Duration(h.Heartbeat), stream.DefaultHeartbeat),
		Retry:     cmp.Or(time.Duration(h.Retry), stream.DefaultRetry),
		MaxAge:    time.Duration(h.MaxAge),

		ShutdownEvent: h.ShutdownEvent,
		WriteTimeout:  writeTimeout,
	}
	method := http.MethodGet
	if h.Poll != nil {
		method = h.Poll.Method
	}
	if h.cors, err = access.NewCORS(h.CORS, method); err != nil {
		return err
	}
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return nil
	}
	if server.WriteTimeout > 0 {
		h.log.Warn("the server's write timeout ends every stream at that age: leave it out, or set write_idle instead",
			zap.Duration("timeout", time.Duration(server.WriteTimeout)))
	}
	// An app's Stop comes too late: on exit Caddy first waits for all
	// requests to end.
	server.RegisterOnShutdown(h.shutdown)
	rememberConnections(server)
	return nil
}

// Cleanup gives back what Provision has taken. Streams may still be open: what
// they need goes with the last of them.
func (h *Handler) Cleanup() error {
	if h.poller != nil {
		h.poller.Retire()
	}
	if h.JWT != nil {
		h.JWT.Cleanup()
	}
	if h.Publish != nil {
		h.Publish.Cleanup()
	}
	return h.limits.release()
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if jwt := h.tokens(); jwt != nil {
		return h.withCredential(jwt, w, r, next)
	}
	return h.answer(w, r, next)
}

func (h *Handler) answer(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch {
	case h.Observe && isSafe(r.Method):
		return next.ServeHTTP(w, r)
	case h.Observe:
		return h.passWrite(w, r, next)
	case h.Webhook != nil:
		return h.serveWebhook(w, r, next)
	case h.Publish != nil:
		return h.servePublish(w, r, next)
	case h.cors.Preflight(w, r):
		return nil
	case h.Poll != nil:
		return h.servePoll(w, r, next)
	default:
		return h.serveTopics(w, r, next)
	}
}

// serve runs a stream to its end, and adds what became of it to the access log.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, src stream.Source) stream.Reason {
	open := newOpenStream(h, w, r, src.Cursor)
	leave := h.hub.enter(open)
	defer leave()
	defer boundPeer(r, h.stream.WriteTimeout)()
	ended := h.metrics.opened(r.ProtoMajor, src.Start)
	src.Stop = &open.stopped
	options := h.stream
	options.Observer = open
	if _, idle := caddyhttp.IdleTimeoutsFromContext(r.Context()); idle != nil {
		defer idle.Override(options.WriteTimeout, 0, 0)()
		options.WriteTimeout = 0
	}
	summary := stream.Summary{Reason: stream.WriteFailed} // should the writer panic
	defer func() { ended(summary.Reason) }()
	summary = stream.Serve(w, r, src, h.group, &options)
	if summary.Reason == stream.StoreFailed {
		h.log.Error("stream ended", zap.String("reason", string(summary.Reason)), zap.Error(summary.Err))
	}
	logFields(r, func(enc zapcore.ObjectEncoder) {
		enc.AddString("hub", h.hubName())
		enc.AddInt("events", summary.Events)
		enc.AddInt64("bytes", summary.Bytes)
		enc.AddString("start", startName(src.Start))
		enc.AddString("reason", string(summary.Reason))
	})
	return summary.Reason
}

// logFields adds what became of a request to its line in the access log.
func logFields(r *http.Request, add func(enc zapcore.ObjectEncoder)) {
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Set(zap.Object("sse", zapcore.ObjectMarshalerFunc(func(enc zapcore.ObjectEncoder) error {
			add(enc)
			return nil
		})))
	}
}

// refuse answers with the reason, or lets Caddy handle an error that is none
// of the client's business.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, err error) error {
	var refused *refusal.Error
	if !errors.As(err, &refused) {
		return caddyhttp.Error(http.StatusInternalServerError, err)
	}
	h.log.Debug("request refused", zap.Int("status", refused.Status), zap.String("reason", refused.Reason), zap.Error(refused.Err))
	h.metrics.refused(refused.Status, h.kindOf(refused))
	refused.Write(w, r)
	return nil
}

// kindOf is what a refusal is counted as: one of a few, whatever is asked for.
func (h *Handler) kindOf(refused *refusal.Error) string {
	switch {
	case h.Webhook != nil:
		return string(webhook.ResultOf(refused))
	case refused.Kind != "":
		return refused.Kind
	default:
		return strings.ReplaceAll(strings.ToLower(http.StatusText(refused.Status)), " ", "_")
	}
}

// notPublished tells the log, once a minute for each hub: a full disk has it
// happen with each request.
func (h *Handler) notPublished(events int, err error) {
	if left, due := h.hub.notPublished.Allow(time.Now()); due {
		h.log.Error("events not published", zap.String("hub", h.hubName()), zap.String("rule", h.name()),
			zap.Int("events", events), zap.Error(err), zap.Int("not_logged_since", left))
	}
}

// clientIP is the client's address, as far as proxies are trusted to know it.
func clientIP(r *http.Request) string {
	address, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return address
}

func replacer(r *http.Request) *caddy.Replacer {
	return r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
