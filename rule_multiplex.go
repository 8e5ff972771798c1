package caddysse

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/stream"
)

var multiplexKind = kind{
	option: "multiplex",
	isSet:  func(h *Handler) bool { return h.Multiplex != nil },
	parse:  (*Handler).parseMultiplex,
	name:   "multiplex",
	validate: func(h *Handler) error {
		if err := validateStreams(h); err != nil {
			return err
		}
		return h.Multiplex.Validate()
	},
	new:   newMultiplexRule,
	takes: streamOptions,
	refuses: map[string]string{
		"topic":     "a multiplexed stream has the topics of its URLs: write topic in a rule of its own",
		"jwt":       "each URL of a multiplexed stream has the checks of its own rule: write jwt there",
		"authorize": "each URL of a multiplexed stream has the checks of its own rule: write authorize there",
	},
	collectors: []prometheus.Collector{multiplexedTotal},
}

// Multiplex streams several URLs of the site to a client with one stream. The client
// names them by parameters `url` of its query. Each URL passes through the site's
// routes with the client's own headers, as if the client had opened it alone; a rule
// with `poll` or `topics` there makes it live.
type Multiplex struct {
	// How many URLs a stream may have. Default: 20. At most 100.
	MaxURLs int `json:"max_urls,omitempty"`
}

const (
	defaultMaxURLs = 20
	limitMaxURLs   = 100
)

// Validate returns an error if an option is out of range.
func (m *Multiplex) Validate() error {
	if m.MaxURLs < 0 || m.MaxURLs > limitMaxURLs {
		return errors.New("max_urls must be from 1 to 100")
	}
	return nil
}

func (h *Handler) parseMultiplex(d *caddyfile.Dispenser) error {
	h.Multiplex = new(Multiplex)
	if args := d.RemainingArgs(); len(args) > 0 {
		return d.Errf("multiplex takes no value, got %s: its clients name the URLs, such as ?url=/v1/orders", strings.Join(args, " "))
	}
	return parseChecked(d, "multiplex", h.Multiplex, options{"max_urls": count(&h.Multiplex.MaxURLs)}, (*Multiplex).Validate)
}

// multiplexRule combines streams of the site's other rules.
type multiplexRule struct {
	*ruleStreams
	handler   *Handler
	envelopes stream.Envelopes
	opened    map[multiplexResult]prometheus.Counter
}

func newMultiplexRule(h *Handler, r *rule) ruleKind {
	return &multiplexRule{ruleStreams: newRuleStreams(h, r), handler: h}
}

func (m *multiplexRule) provision(ctx caddy.Context) error {
	m.opened = counters(multiplexedTotal, m.id, multiplexResults)
	return m.ruleStreams.provision(ctx, m.handler, http.MethodGet)
}

func (m *multiplexRule) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch {
	case m.cors.IsPreflight(r):
		return m.servePreflight(w, r, next)
	case partOf(r) != nil:
		return m.refuse(w, r, refusal.Newf(http.StatusLoopDetected, "a multiplexed stream can't be one of several: name its URLs themselves"))
	case r.Method != http.MethodGet:
		return passOrRefuse(w, r, next, refuseMethod(http.MethodGet, http.MethodOptions))
	case !stream.Accepts(r.Header):
		return passOrRefuse(w, r, next, refuseAccept)
	}
	m.cors.SetHeaders(w.Header(), r)
	urls, refused := multiplexedURLs(r.URL.RawQuery, cmp.Or(m.handler.Multiplex.MaxURLs, defaultMaxURLs))
	if refused != nil {
		return m.refuseUnread(w, r, refused)
	}
	release, err := m.acquire(r, next)
	if err != nil {
		return m.refuseUnread(w, r, err)
	}
	return m.serveURLs(w, r, urls, release)
}

// serveURLs streams the URLs that are not refused. release releases the stream's
// slot.
func (m *multiplexRule) serveURLs(w http.ResponseWriter, r *http.Request, urls []multiplexedURL, release func(stream.Reason)) error {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		release(stream.ClientLeft)
		return m.refuse(w, r, refusal.Newf(http.StatusInternalServerError, "no stream is possible here: the site's routes are unknown"))
	}
	opening := m.open(w, r, server, urls)
	if opening.hasTokenInURL() {
		m.skipLog(r)
	}
	if r.Context().Err() != nil { // the client has left
		opening.end(stream.ClientLeft)
		release(stream.ClientLeft)
		return nil
	}
	combined := stream.Multiplex(m.hub.Hub, opening.parts(), stream.LastEventID(r), &m.envelopes)
	end := func(reason stream.Reason) {
		combined.Close()
		opening.end(reason)
		release(reason)
	}
	if combined.Finished() {
		end(stream.ClientLeft)
		writeFinished(w)
		return nil
	}
	options := m.options
	options.MaxAge = opening.maxAge(options.MaxAge)
	m.runStream(w, r, combined.Source(), &options, opening.paths(), end)
	return nil
}

// refuseUnread refuses a request whose URLs no rule has seen. A query of one of them may
// hold a token.
func (m *multiplexRule) refuseUnread(w http.ResponseWriter, r *http.Request, err error) error {
	if query, failed := url.QueryUnescape(r.URL.RawQuery); failed != nil || strings.Contains(query, "?") {
		m.skipLog(r)
	}
	return m.refuse(w, r, err)
}

// skipLog keeps a request with a token in one of its URLs out of the access log, in
// which its own line without the query takes its place.
func (m *multiplexRule) skipLog(r *http.Request) {
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	logged := *r
	logged.RequestURI = r.URL.EscapedPath()
	logged.Header = r.Header.Clone()
	logged.Header.Del("Referer")
	m.log.Info("multiplexed stream, without the token in its query", zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: &logged}))
}
