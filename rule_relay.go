package caddysse

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/relay"
)

var relayKind = kind{
	option: "relay",
	isSet:  func(h *Handler) bool { return h.Relay != nil },
	parse:  (*Handler).parseRelay,
	name:   "relay",
	validate: func(h *Handler) error {
		if err := validateStreams(h); err != nil {
			return err
		}
		return h.Relay.Validate()
	},
	new:   newRelayRule,
	takes: streamOptions,
	refuses: map[string]string{
		"topic":     "a relay's topics are its requests: leave out topic",
		"jwt":       "a relay asks the backend as the viewer: leave out jwt",
		"authorize": "a relay asks the backend as the viewer anyway: leave out authorize",
	},
	collectors: []prometheus.Collector{relayRequestsTotal, relayEventsTotal, relayCollector{}},
}

// relayRule relays streams of the next handlers.
type relayRule struct {
	*ruleStreams
	handler *Handler
	relay   *relay.Relay // nil until it is provisioned
}

func newRelayRule(h *Handler, r *rule) ruleKind {
	return &relayRule{ruleStreams: newRuleStreams(h, r), handler: h}
}

func (l *relayRule) provision(ctx caddy.Context) error {
	if err := l.ruleStreams.provision(ctx, l.handler, http.MethodPost); err != nil {
		return err
	}
	config := l.handler.Relay
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	at := l.keptPlace()
	config.Place = fmt.Sprintf("%s %s %q", at.routes, at.passed, l.id.name)
	config.Scope = config.Place + " " + string(text)
	config.AddressDecides = at.addressDecides
	history := l.app.Hubs[l.id.hub].history()
	config.MaxAheadEvents = max(history.MaxEvents/2, 1)
	if err := config.Provision(); err != nil {
		return err
	}
	config.MaxAhead = min(config.MaxAhead, max(history.MaxBytes/4, 1))
	l.relay = relay.New(config, l.hub.Hub, &l.hub.feeds, l.id.name, l.log, newRelayMetrics(l.id))
	return nil
}

// shutdown retires the relay after the streams: its feeds go on, and ask the backend
// again only with the next configuration.
func (l *relayRule) shutdown() {
	l.ruleStreams.shutdown()
	l.relay.Retire()
}

func (l *relayRule) cleanup() error {
	if l.relay != nil {
		l.relay.Retire()
	}
	return l.ruleStreams.cleanup()
}

// serve relays the response to a client that asks for a stream, and any event stream
// that answers a POST: clients of language models ask for JSON. It passes all other
// requests to the next handler.
func (l *relayRule) serve(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	asks := stream.Prefers(r.Header)
	switch token := resumeToken(r); {
	case l.cors.IsPreflight(r):
		return l.servePreflight(w, r, next)
	case asks && partOf(r) != nil:
		return l.refuse(w, r, refusal.Newf(http.StatusNotImplemented, "a relayed stream can't be one of several: open it alone"))
	case token != "" && asks:
		return l.serveResume(w, r, next, token)
	case r.Method == http.MethodGet && asks:
		return l.serveStream(w, r, next, true)
	case r.Method == http.MethodPost && len(r.Header["Upgrade"]) == 0 && (asks || l.relay.Fits(r)):
		return l.serveStream(w, r, next, asks)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		return passVarying(w, r, next)
	default:
		return next.ServeHTTP(w, r)
	}
}

// resumeToken returns the token of the URL from which the viewer of a POST resumes.
func resumeToken(r *http.Request) string {
	if r.Method != http.MethodGet || r.URL.RawQuery == "" {
		return ""
	}
	if token := r.URL.Query().Get(relay.ResumeParameter); relay.IsToken(token) {
		return token
	}
	return ""
}

func (l *relayRule) serveStream(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, asks bool) error {
	release, err := l.acquire(r, next)
	if err != nil {
		return l.refuseStream(w, r, err)
	}
	done := limitBodyTime(r)
	sub, err := l.relay.Open(w, r, l.requester(r, next), asks)
	done()
	if sub == nil {
		release(stream.ClientLeft) // no stream has begun
		return l.serveNoStream(w, r, err)
	}
	l.serveSubscription(w, r, sub, release)
	return nil
}

// serveNoStream ends a request whose response the backend has written, or to which
// there is none.
func (l *relayRule) serveNoStream(w http.ResponseWriter, r *http.Request, err error) error {
	var refused *refusal.Error
	switch {
	case errors.As(err, &refused):
		return l.refuseStream(w, r, err)
	case r.Context().Err() != nil:
		return nil // the client has left
	case errors.Is(err, subrequest.ErrConnectionAborted), errors.Is(err, subrequest.ErrAborted):
		panic(http.ErrAbortHandler) // as the handler did
	default:
		return err
	}
}

func (l *relayRule) refuseStream(w http.ResponseWriter, r *http.Request, err error) error {
	l.cors.SetHeaders(w.Header(), r)
	return l.refuse(w, r, err)
}

// serveResume resumes the stream of a POST.
func (l *relayRule) serveResume(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler, token string) error {
	release, err := l.acquire(r, next)
	if err != nil {
		return l.refuseStream(w, r, err)
	}
	sub, found, err := l.relay.Resume(r, l.requester(r, next), token)
	switch {
	case sub != nil:
		l.serveSubscription(w, r, sub, release)
		return nil
	case found:
		release(stream.ClientLeft)
		return l.refuseStream(w, r, err)
	}
	release(stream.ClientLeft)
	return l.serveForgotten(w, r)
}

// forgottenID is the id of the reset in response to a resume that is too late. Its
// client knows all that there is to know.
const forgottenID = "relay.forgotten"

// serveForgotten tells a client that its stream can't be resumed any more.
func (l *relayRule) serveForgotten(w http.ResponseWriter, r *http.Request) error {
	l.cors.SetHeaders(w.Header(), r)
	if stream.LastEventID(r) == forgottenID {
		writeFinished(w)
		return nil
	}
	frame, err := event.Event{ID: forgottenID, Name: "reset", Data: []byte(`{"reason":"the stream is not kept any more"}`)}.Encode()
	if err != nil {
		return err
	}
	stream.WriteHeader(w, r, new(stream.Options))
	_, _ = w.Write(frame) // the client asks again if it has left
	return nil
}

// serveSubscription streams a feed, unless the client has all of it. release releases
// the stream's slot.
func (l *relayRule) serveSubscription(w http.ResponseWriter, r *http.Request, sub *relay.Subscription, release func(stream.Reason)) {
	end := func(reason stream.Reason) {
		sub.Close()
		release(reason)
	}
	if r.Context().Err() != nil { // the client has left
		end(stream.ClientLeft)
		return
	}
	l.setHeaders(w.Header(), r, sub)
	if sub.Finished() {
		end(stream.ClientLeft)
		writeFinished(w)
		return
	}
	l.run(w, r, sub.Source(), end)
}

// setHeaders adds the headers of the backend's response to a viewer's, and those of
// cors, if the rule has any, in place of the backend's.
func (l *relayRule) setHeaders(h http.Header, r *http.Request, sub *relay.Subscription) {
	sub.SetHeader(h)
	if len(l.handler.CORS) > 0 {
		l.cors.RemoveHeaders(h)
		l.cors.SetHeaders(h, r)
		if h.Get("Content-Location") != "" {
			h.Add("Access-Control-Expose-Headers", "Content-Location")
		}
	}
	if r.Method == http.MethodGet {
		addVary(h, "Accept")
	}
}
