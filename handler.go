package caddysse

import (
	"cmp"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
	"github.com/caddy-sse/caddy-sse/upstream/publish"
	"github.com/caddy-sse/caddy-sse/upstream/relay"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler is one rule. It responds to some of the requests that reach it with a
// stream of server-sent events, or publishes them as events. It passes all
// other requests to the next handler unchanged.
//
// A rule has exactly one of these: `poll` makes JSON documents of the next
// handlers live, `relay` relays their streams, `feeds` reads feeds that the
// configuration names, `webhook` and `publish` publish the requests that they receive,
// `topics` streams what is published, `multiplex` streams several URLs at once, and
// `observe` polls documents that other requests change.
type Handler struct {
	// The name of the rule in metrics and in the admin API. They count rules with
	// the same name together. Default: in a Caddyfile the rule's matcher,
	// such as `/api/*`; otherwise "poll", "webhook", "publish", "relay", "multiplex" or
	// "topic".
	Name string `json:"name,omitempty"`

	// The hub on which the rule publishes, or from which its streams read.
	// Default: "default".
	Hub string `json:"hub,omitempty"`

	// Makes JSON documents of the next handlers live: a GET request that asks
	// for text/event-stream receives the document and then its changes.
	Poll *poll.Config `json:"poll,omitempty"`

	// Publishes the webhooks that senders such as GitHub or Stripe POST.
	Webhook *webhook.Webhook `json:"webhook,omitempty"`

	// Relays streams that the next handlers respond with, such as event streams
	// and NDJSON, so that clients can resume and share them.
	Relay *relay.Config `json:"relay,omitempty"`

	// Streams several URLs of the site to a client with one stream.
	Multiplex *Multiplex `json:"multiplex,omitempty"`

	// Reads feeds that the configuration names, without viewers, and publishes their
	// events. In a Caddyfile, this is `relay` with URLs.
	Feeds *relay.StandingConfig `json:"feeds,omitempty"`

	// Publishes the events that trusted services POST.
	Publish *publish.Publish `json:"publish,omitempty"`

	// Streams the events of these topics to GET requests that accept
	// text/event-stream. A topic may contain placeholders; the stream leaves
	// it out if one of them is empty.
	Topics []string `json:"topics,omitempty"`

	// Limits the topics that a client may choose through placeholders of its
	// query, path or headers. The rule refuses other topics with 403. `*`
	// matches any characters between slashes, `**` at the end one segment or
	// more. Topics with such placeholders require patterns, unless `authorize`
	// or the topics claim of `jwt` covers the placeholders. Patterns apply in
	// any case.
	Allow []string `json:"allow,omitempty"`

	// Requires subscribers to present a valid JWT. The token's `sub` claim
	// becomes the placeholder {http.auth.user.id}, its `topics` claim (if
	// present) limits the topics, and the stream ends when the token expires.
	JWT *access.JWT `json:"jwt,omitempty"`

	// Wraps the data of each event as {"topic":…,"data":…}, for clients that
	// subscribe to several topics with one stream. JSON data is embedded as it
	// is; other text becomes a JSON string. Default: false.
	Envelope bool `json:"envelope,omitempty"`

	// Sets what a new subscriber of `topics` first gets of the events that were
	// published before: `all` that the history holds, the `last` events, or `none`.
	// A client whose position is not in the history gets the same, after `reset`.
	// Default: none.
	Replay string `json:"replay,omitempty"`

	// The number of events of `replay last`.
	ReplayLast int `json:"replay_last,omitempty"`

	// Asks the backend whether a client may subscribe to the topics. Topics
	// that the client chooses by placeholders of this option's URI need no
	// `allow`.
	Authorize *access.Authorize `json:"authorize,omitempty"`

	// Permits pages of these origins to open the streams, with credentials, or
	// with "*" pages of any origin, without credentials. Default: the same
	// origin only.
	CORS []string `json:"cors,omitempty"`

	// Sends a heartbeat after this time without an event: the stream's `retry`
	// field again. Default: 15s. At least 1s and less than 30s, after which
	// idle HTTP/3 connections end.
	Heartbeat caddy.Duration `json:"heartbeat,omitempty"`

	// Makes the heartbeat an event of this name with the data `{}`, without an
	// id, by which a page can see that its stream is alive. It is sent at each
	// interval of `heartbeat`, also while other events are sent. Default: empty,
	// the heartbeat is no event.
	HeartbeatEvent string `json:"heartbeat_event,omitempty"`

	// How long clients wait before they reconnect. Each client receives a
	// random time from half of it to one and a half, so that they don't all
	// reconnect at once. Default: 3s.
	Retry caddy.Duration `json:"retry,omitempty"`

	// Limits the duration of a stream. It ends at a random time in the second
	// half of this period, and its client reconnects. At least 1s. Default: 0,
	// no limit.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// Sends an event `shutdown` to clients before the server exits. A reload
	// sends none. Default: false.
	ShutdownEvent bool `json:"shutdown_event,omitempty"`

	// The content codings in which clients that accept them receive the streams.
	// Only "gzip" is possible. Each event is compressed once, for all streams;
	// events below 256 bytes, and those that it would shorten by less than an
	// eighth, are sent as they are. Default: none.
	Encode []string `json:"encode,omitempty"`

	// Limits how many streams may be open at a time: of the rule, per client
	// and per user. Default: no limits.
	MaxStreams *access.Limits `json:"max_streams,omitempty"`

	// Passes requests to the next handler. After a successful unsafe request,
	// rules with `poll` poll the documents at once that it may have changed. A
	// rule with `poll` does so for its own requests; in a Caddyfile, its option
	// `refresh` adds rules like this one for other paths. Default: false.
	Observe bool `json:"observe,omitempty"`

	kind ruleKind

	// namedMatcher returns the matchers of a name in a Caddyfile.
	namedMatcher func(d *caddyfile.Dispenser) (caddy.ModuleMap, error)
}

// CaddyModule returns the module's information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.sse", New: func() caddy.Module { return new(Handler) }}
}

// Provision sets the rule up. It starts nothing: Caddy may still reject the
// configuration.
func (h *Handler) Provision(ctx caddy.Context) error {
	kind, err := findKind(h)
	if err != nil {
		return err
	}
	rule, err := newRule(ctx, ruleID{cmp.Or(h.Hub, defaultHub), cmp.Or(h.Name, kind.name)})
	if err != nil {
		return err
	}
	h.kind = kind.new(h, rule)
	if err := h.kind.provision(ctx); err != nil {
		return err
	}
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		server.RegisterOnShutdown(h.kind.shutdown)
	}
	return nil
}

// Cleanup releases the resources of Provision. While streams are open, the last
// one releases the rest.
func (h *Handler) Cleanup() error {
	if h.kind == nil {
		return nil
	}
	return h.kind.cleanup()
}

// ServeHTTP implements [caddyhttp.MiddlewareHandler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return h.kind.serve(w, r, next)
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.CleanerUpper          = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
