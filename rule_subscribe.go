package caddysse

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

var subscribeKind = kind{
	option:     "topic",
	isSet:      func(h *Handler) bool { return len(h.Topics) > 0 },
	parse:      func(h *Handler, d *caddyfile.Dispenser) error { return words(&h.Topics)(d) },
	name:       "topic",
	validate:   validateSubscribe,
	new:        newSubscribeRule,
	takes:      append([]string{"jwt", "allow", "authorize", "envelope", "replay"}, streamOptions...),
	collectors: []prometheus.Collector{authorizeTotal, recheckTotal, authorizeDuration},
}

// topicsClaim is the default claim that lists the topics which a token grants.
const topicsClaim = "topics"

// subscribeRule streams the events of topics.
type subscribeRule struct {
	*ruleStreams
	tokens     *ruleTokens
	handler    *Handler
	topics     *access.Topics
	authorizer *access.Authorizer // nil: the rule has no authorize
	envelopes  *stream.Envelopes
}

func newSubscribeRule(h *Handler, r *rule) ruleKind {
	return &subscribeRule{
		ruleStreams: newRuleStreams(h, r),
		tokens:      &ruleTokens{r, h.JWT},
		handler:     h,
		envelopes:   new(stream.Envelopes),
	}
}

func (s *subscribeRule) provision(ctx caddy.Context) error {
	if err := s.ruleStreams.provision(ctx, s.handler, http.MethodGet); err != nil {
		return err
	}
	if s.tokens.jwt != nil {
		if err := s.tokens.provision(topicsClaim); err != nil {
			return err
		}
	}
	if config := s.handler.Authorize; config != nil {
		if err := config.Provision(); err != nil {
			return err
		}
		s.authorizer = access.NewAuthorizer(s.hub.Digest, s.log, newAuthorizeMetrics(s.id))
	}
	s.warnOfUnreachedBan()
	var err error
	s.topics, err = compileTopics(s.handler)
	return err
}

// The values of [Handler].Replay.
const (
	replayAll  = "all"
	replayLast = "last"
	replayNone = "none"
)

func (h *Handler) validateReplay() error {
	switch {
	case !slices.Contains([]string{"", replayAll, replayLast, replayNone}, h.Replay):
		return fmt.Errorf("replay %q is unknown: write replay all, replay last 10 or replay none", h.Replay)
	case (h.Replay == replayLast) != (h.ReplayLast > 0):
		return errors.New("replay last needs the number of events: write for example replay last 10")
	}
	return nil
}

// replayed returns how many of the history's events a new subscriber gets; negative
// for all.
func (h *Handler) replayed() int {
	if h.Replay == replayAll {
		return -1
	}
	return h.ReplayLast
}

// warnOfUnreachedBan logs that handlers behind the rule may refuse clients by
// their addresses: no request of a stream gets there.
func (s *subscribeRule) warnOfUnreachedBan() {
	if s.authorizer == nil && s.placeUnknown == nil && s.place.addressDecides {
		s.log.Warn("what refuses clients by their addresses stands behind the rule, and its streams don't get there: put both in a route block, the refusal first",
			zap.String("rule", s.id.name))
	}
}

func validateSubscribe(h *Handler) error {
	if err := validateStreams(h); err != nil {
		return err
	}
	if err := h.validateReplay(); err != nil {
		return err
	}
	if h.JWT != nil {
		if err := h.JWT.Validate(); err != nil {
			return err
		}
	}
	if h.Authorize != nil {
		if err := h.Authorize.Validate(); err != nil {
			return err
		}
	}
	_, err := compileTopics(h)
	return err
}

func compileTopics(h *Handler) (*access.Topics, error) {
	var covered []string // the placeholders that need no allow
	if h.JWT != nil {
		covered = append(covered, access.CoveredByToken)
	}
	if h.Authorize != nil {
		uri, err := access.NewURITemplate(h.Authorize.URI)
		if err != nil {
			return nil, err
		}
		covered = append(covered, uri.Placeholders()...)
	}
	return access.NewTopics(h.Topics, h.Allow, covered...)
}

func (s *subscribeRule) cleanup() error {
	s.tokens.cleanup()
	return s.ruleStreams.cleanup()
}

func (s *subscribeRule) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return s.tokens.serve(w, r, func(w http.ResponseWriter, r *http.Request) error {
		switch {
		case s.cors.IsPreflight(r):
			return s.servePreflight(w, r, next)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			return passOrRefuse(w, r, next, refuseMethod(http.MethodGet, http.MethodHead, http.MethodOptions))
		case !stream.Accepts(r.Header):
			return passOrRefuse(w, r, next, refuseAccept)
		}
		return s.serveTopics(w, r, next)
	})
}

// serveTopics streams the topics that the client chooses, if its token permits
// them.
func (s *subscribeRule) serveTopics(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	s.cors.SetHeaders(w.Header(), r)
	token, refused := s.tokens.check(r)
	if refused != nil {
		return s.refuse(w, r, refused)
	}
	topics, refused := s.topics.Requested(r, replacer(r), token)
	if refused != nil {
		return s.refuse(w, r, refused)
	}
	return s.serveStream(w, r, next, topics, token)
}

// serveStream streams the topics if there is a slot and the backend permits
// them. The token is nil if the rule needs none.
func (s *subscribeRule) serveStream(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, topics []string, token *access.Token) error {
	if r.Method == http.MethodHead {
		grant, err := s.authorize(w, r, next)
		if grant == nil {
			return err
		}
		defer grant.End()
		return s.respondToHead(w, r, grant)
	}
	release, err := s.acquire(r, next)
	if err != nil {
		return s.refuse(w, r, err)
	}
	begun := false
	defer func() {
		if !begun {
			release(stream.ClientLeft)
		}
	}()
	grant, err := s.authorize(w, r, next)
	if grant == nil {
		return err
	}
	begun = true
	s.run(w, r, s.source(r, topics, token, grant), func(reason stream.Reason) {
		grant.End()
		release(reason)
	})
	return nil
}

// source is the stream of the topics, until the token expires or the grant is
// revoked.
func (s *subscribeRule) source(r *http.Request, topics []string, token *access.Token, grant *access.Grant) stream.Source {
	src := stream.SubscribeReplaying(s.hub.Hub, topics, stream.LastEventID(r), s.handler.replayed())
	if token != nil {
		src.Expires = token.Expires
	}
	src.Granted, src.Revoked = grant.Granted, grant.Revoked
	if s.handler.Envelope {
		src.Wrap = s.envelopes.ForTopics(topics)
	}
	if grant.Failure != nil {
		src.Initial = append(src.Initial, staleEntry(grant.Failure, src.Cursor))
	}
	return src
}

// respondToHead responds with the status and headers of the stream.
func (s *subscribeRule) respondToHead(w http.ResponseWriter, r *http.Request, grant *access.Grant) error {
	if grant.Failure != nil {
		return s.refuse(w, r, &refusal.Error{
			Status: http.StatusServiceUnavailable, Kind: refusal.BackendUndecided, Reason: "the backend can't authorize the subscription now",
			RetryAfter: max(grant.Failure.RetryAfter, 5*time.Second),
		})
	}
	stream.WriteHeader(w, r, &s.options)
	return nil
}

// staleEntry returns the event for a client whose authorization check has failed.
// Its id is the client's position until a check succeeds.
func staleEntry(f *access.Failure, c *hub.Cursor) *store.Entry {
	stale := stream.Stale(time.Now(), f.Status)
	stale.ID = c.Position()
	frame, err := stale.Encode()
	if err != nil { // impossible: a position is a valid id, and the data is JSON
		panic(err)
	}
	return &store.Entry{Frame: frame}
}
