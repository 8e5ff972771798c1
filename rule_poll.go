package caddysse

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

var pollKind = kind{
	option: "poll",
	isSet:  func(h *Handler) bool { return h.Poll != nil },
	parse:  (*Handler).parsePoll,
	name:   "poll",
	validate: func(h *Handler) error {
		if err := validateStreams(h); err != nil {
			return err
		}
		return h.Poll.Validate()
	},
	new:   newPollRule,
	takes: streamOptions,
	refuses: map[string]string{
		"topic":     "a poll's topics are its URLs: leave out topic",
		"jwt":       "a poll asks the backend as the viewer: leave out jwt",
		"authorize": "a poll asks the backend as the viewer anyway: leave out authorize",
	},
	collectors: []prometheus.Collector{pollsTotal, pollDuration, pollSavedBytes, absorbedTotal, viewCollector{}},
}

// pollRule makes documents of the next handlers live.
type pollRule struct {
	*ruleStreams
	handler *Handler
	poller  *poll.Poller // nil until it is provisioned
}

func newPollRule(h *Handler, r *rule) ruleKind {
	return &pollRule{ruleStreams: newRuleStreams(h, r), handler: h}
}

func (p *pollRule) provision(ctx caddy.Context) error {
	config := p.handler.Poll
	if err := p.ruleStreams.provision(ctx, p.handler, config.StreamMethod()); err != nil {
		return err
	}
	scope, err := p.pollScope(config)
	if err != nil {
		return err
	}
	config.Scope, config.Leases, config.AddressDecides = scope, &p.hub.topicLeases, p.place.addressDecides
	if err := config.LoadMatchers(ctx); err != nil {
		return err
	}
	if err := config.Provision(); err != nil {
		return err
	}
	p.poller = poll.New(config, p.hub.Hub, p.log, newPollMetrics(p.id))
	p.hub.addPoller(p.id.name, p.poller)
	return nil
}

// shutdown retires the poller after the streams: it sends its viewers where
// the group's streams go.
func (p *pollRule) shutdown() {
	p.ruleStreams.shutdown()
	p.poller.Retire()
}

func (p *pollRule) cleanup() error {
	if p.poller != nil {
		p.poller.Retire()
	}
	return p.ruleStreams.cleanup()
}

// serve streams a document to clients that ask for a stream, answers some
// requests from the last poll, and passes all others to the next handler. A
// POST that a page of another origin has sent passes, too: the backend decides.
func (p *pollRule) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	config := p.handler.Poll
	switch {
	case p.cors.IsPreflight(r):
		return p.servePreflight(w, r, next)
	case r.Method == config.StreamMethod() && stream.Prefers(r.Header) && !p.cors.IsUntrustedOrigin(r):
		return p.serveStream(w, r, next)
	case p.mayWrite(r):
		return p.passWrite(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error { return p.pass(w, r, next) }))
	default:
		return p.pass(w, r, next)
	}
}

// pass passes a request that gets no stream.
func (p *pollRule) pass(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch config := p.handler.Poll; {
	case config.StreamMethod() == http.MethodGet && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		return p.passRead(w, r, next)
	default:
		return next.ServeHTTP(w, r)
	}
}

// passRead passes a request for a document that is no stream to the next handler,
// or answers it from the last poll.
func (p *pollRule) passRead(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	return passVarying(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		if p.handler.Poll.Absorb && p.poller.Absorb(w, r, p.requester(r, next)) {
			p.logAbsorbed(r)
			return nil
		}
		return next.ServeHTTP(w, r)
	}))
}

func (p *pollRule) logAbsorbed(r *http.Request) {
	logFields(r, func(enc zapcore.ObjectEncoder) {
		enc.AddString("hub", p.id.hub)
		enc.AddBool("absorbed", true)
	})
}

func (p *pollRule) serveStream(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	p.cors.SetHeaders(w.Header(), r)
	addVary(w.Header(), "Accept")
	release, err := p.acquire(r, next)
	if err != nil {
		return p.refuse(w, r, err)
	}
	begun := false
	defer func() {
		if !begun {
			release(stream.ClientLeft)
		}
	}()
	done := limitBodyTime(r)
	requester := p.requester(r, next)
	offer := requester.Offer(w, r, p.cors.RemoveHeaders) // the backend adds its own
	viewing, refused, err := p.poller.Subscribe(r, requester)
	done()
	if taken, err := offer.End(); taken {
		if viewing != nil {
			viewing.Close()
		}
		if errors.Is(err, subrequest.ErrAborted) {
			panic(http.ErrAbortHandler) // as the handler did
		}
		return err
	}
	if viewing == nil {
		return p.serveNoStream(w, r, next, refused, err)
	}
	position := stream.LastEventID(r)
	switch {
	case r.Context().Err() != nil: // the client has left
		viewing.Close()
	case viewing.Finished(position):
		partOf(r).setFinished(viewing.FinishedTopic())
		viewing.Close()
		writeFinished(w)
	default:
		begun = true
		p.run(w, r, viewing.Source(position), func(reason stream.Reason) {
			viewing.Close()
			release(reason)
		})
	}
	return nil
}

// writeFinished tells a client that it need not come back: an EventSource doesn't
// reconnect after a 204.
func writeFinished(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store") // it is for this position only, and a cache may store a 204
	w.WriteHeader(http.StatusNoContent)
}

// serveNoStream responds to a client that gets no stream: with the backend's
// refusal, or because of an error.
func (p *pollRule) serveNoStream(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, refused *subrequest.Response, err error) error {
	var finished *poll.FinishedError
	switch {
	case r.Context().Err() != nil && !errors.As(err, new(*refusal.Error)):
		return nil // the client has left; over HTTP/1, a late body looks the same
	case errors.Is(err, subrequest.ErrConnectionAborted):
		panic(http.ErrAbortHandler) // as the handler did
	case errors.As(err, &finished):
		partOf(r).setFinished(finished.Topic)
		writeFinished(w)
		return nil
	case errors.Is(err, subrequest.ErrEventStream):
		p.cors.RemoveHeaders(w.Header()) // the backend adds its own
		return next.ServeHTTP(w, r)
	case err != nil:
		return p.refuse(w, r, err)
	default:
		return writeResponse(w, refused)
	}
}

// writeResponse responds to the client with the response to a subrequest. It
// returns an error of the backend, so that Caddy's error routes handle it as they
// handle those of the client's own requests.
func writeResponse(w http.ResponseWriter, resp *subrequest.Response) error {
	if resp.Err != nil {
		return resp.Err
	}
	subrequest.CopyHeader(w.Header(), resp.Header)
	w.WriteHeader(resp.Status)
	_, _ = w.Write(resp.Body)
	return nil
}
