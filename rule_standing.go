package caddysse

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/upstream/relay"
)

// standingKind is the kind of `relay` with URLs.
var standingKind = kind{
	option:   "relay",
	isSet:    func(h *Handler) bool { return h.Feeds != nil },
	name:     "relay",
	validate: validateStanding,
	new:      newStandingRule,
	takes:    streamOptions,
	refuses: map[string]string{
		"topic":     "the topic of a standing feed belongs in relay's block",
		"jwt":       standingTopics,
		"allow":     standingTopics,
		"authorize": standingTopics,
		"envelope":  standingTopics,
	},
	collectors: []prometheus.Collector{relayRepeatedTotal, standingCollector{}},
}

const standingTopics = "jwt, allow, authorize and envelope are for rules with topic: add a topic to relay's block, and a rule of its own that lets clients subscribe to it"

func validateStanding(h *Handler) error {
	if err := validateStreams(h); err != nil {
		return err
	}
	if h.Feeds.Topic != "" {
		for _, o := range sharedOptions {
			if slices.Contains(streamOptions, o.name) && o.isSet(h) {
				return errors.New("with topic in relay's block, this rule has no streams: move cors, heartbeat, retry, max_age, shutdown_event, encode and max_streams to the rule with topic")
			}
		}
	}
	return h.Feeds.Validate()
}

// standingRule reads standing feeds, and streams them if they have no topic of
// their own.
type standingRule struct {
	*ruleStreams
	handler *Handler
	feeds   *relay.StandingRule
}

func newStandingRule(h *Handler, r *rule) ruleKind {
	return &standingRule{ruleStreams: newRuleStreams(h, r), handler: h}
}

func (s *standingRule) provision(ctx caddy.Context) error {
	config := s.handler.Feeds
	server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if ok && s.placeUnknown == nil {
		config.Place = strings.Join(server.Listen, " ")
		config.Site = &url.URL{Scheme: "http", Host: s.place.host}
		if len(server.TLSConnPolicies) > 0 {
			config.Site.Scheme = "https"
		}
	}
	if err := config.Provision(caddy.NewReplacer()); err != nil {
		return err
	}
	if s.streams() {
		if err := s.ruleStreams.provision(ctx, s.handler, http.MethodGet); err != nil {
			return err
		}
	}
	s.feeds = &relay.StandingRule{
		Config: config, Hub: s.hub.Hub, Feeds: &s.hub.standing, Rule: s.id.name,
		Transport: relay.NewTransport(), Site: siteTransport{server}, Log: s.log, Observer: newStandingMetrics(s.id),
	}
	s.feeds.Prepare()
	s.app.tasks = append(s.app.tasks, s)
	return nil
}

// streams reports whether the rule has streams of its own.
func (s *standingRule) streams() bool { return s.handler.Feeds.Topic == "" }

func (s *standingRule) start() { s.feeds.Start() }
func (s *standingRule) stop()  { s.feeds.Stop() }

// serve streams the feeds to clients that ask for a stream, and passes all other
// requests to the next handler, also those for a path that is a feed.
func (s *standingRule) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch {
	case !s.streams() || isForFeed(r):
		return next.ServeHTTP(w, r)
	case s.cors.IsPreflight(r):
		return s.servePreflight(w, r, next)
	case r.Method == http.MethodGet && stream.Prefers(r.Header):
		return s.serveStream(w, r, next)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return passVarying(w, r, next)
	default:
		return next.ServeHTTP(w, r)
	}
}

func (s *standingRule) serveStream(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	s.cors.SetHeaders(w.Header(), r)
	addVary(w.Header(), "Accept")
	release, err := s.acquire(r, next)
	if err != nil {
		return s.refuse(w, r, err)
	}
	s.run(w, r, s.feeds.Source(stream.LastEventID(r)), release)
	return nil
}

var _ task = (*standingRule)(nil)
