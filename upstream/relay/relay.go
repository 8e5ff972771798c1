// Package relay puts the hub between a backend's stream and its viewers.
//
// A feed is one request to the backend and its response, or a GET and the responses
// to which it reconnects. Its goroutine calls the next handlers; what they write is
// decoded at once, shaped, and published on a topic of the feed's own. So the
// backend is read no faster than the store takes the events and, unless viewers share
// the feed, not further than a bound beyond its viewer. Viewers read from the hub, like all streams: they
// can leave and come back, and a reload moves them, while the feed goes on.
//
// The first response to a feed's request decides whether it is a stream. Any other
// response passes to the client that has asked, as it comes.
//
// An event's id is the feed's token, which nobody can guess, and a number. With the
// id, a viewer with the same credentials resumes the feed; a POST is resumed from a
// URL with the token. A feed that has ended is remembered for a while.
//
// A standing feed is one that the configuration names: see [StandingRule]. It has no
// viewer whose request decides, its events go to a topic of the feed's own and
// perhaps to another one, and only the rules that have it end it.
package relay

import (
	"context"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/body"
	"github.com/caddy-sse/caddy-sse/internal/loglimit"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// Relay relays the streams of one rule. It is safe for concurrent use.
type Relay struct {
	config   *Config
	hub      *hub.Hub
	feeds    *Feeds
	rule     string
	log      *zap.Logger
	observer Observer

	failures loglimit.Limiter // in the log
}

// Observer counts what a relay does. It must be safe for concurrent use.
type Observer interface {
	// Requested is called when a request to the backend has ended.
	Requested(Result)
	// Published is called with the number of events.
	Published(events int)
	// Repeated is called with the number of events that a standing feed has sent
	// again, and that were published before.
	Repeated(events int)
}

// Result is the outcome of a request to the backend.
type Result string

// The results of requests to the backend.
const (
	Completed  Result = "completed"   // the stream has ended as its format does
	BrokenOff  Result = "broken_off"  // the stream has not
	Detached   Result = "detached"    // no viewer has come back in time
	PassedOn   Result = "passed"      // it was no stream
	Failed     Result = "failed"      // the backend can't respond now
	Unanswered Result = "no_response" // a handler has aborted, or responded with nothing
)

// Results lists all results.
var Results = []Result{Completed, BrokenOff, Detached, PassedOn, Failed, Unanswered}

// New returns a relay. The config must have been provisioned. feeds holds those of
// the hub.
func New(c *Config, h *hub.Hub, feeds *Feeds, rule string, log *zap.Logger, o Observer) *Relay {
	feeds.addRule(rule)
	return &Relay{config: c, hub: h, feeds: feeds, rule: rule, log: log, observer: o}
}

// Retire makes the feeds wait for a viewer of the next configuration before they ask
// the backend again.
func (r *Relay) Retire() { r.feeds.retire(r) }

// Open opens the stream that a request asks for. It joins or resumes a feed, or asks
// the backend. asked says that the client asks for an event stream; otherwise only
// the backend's own event streams are relayed.
//
// If the backend responds with anything else, Open has passed that on to w and
// returns nil, with the handlers' error. It fails with a [refusal.Error] beyond the
// limits.
func (r *Relay) Open(w http.ResponseWriter, req *http.Request, caller *subrequest.Requester, asked bool) (*Subscription, error) {
	content, refused := r.readBody(req)
	if refused != nil {
		return nil, refused
	}
	q := newRequest(req, content, caller, r.hub, r.config, asked)
	id := stream.LastEventID(req)
	if token, n, ok := parsePosition(id); ok {
		if f := r.feeds.find(token); f != nil && f.isFor(q) {
			if sub := f.resume(r, caller, n); !sub.isUseless() {
				return sub, nil
			}
		}
	}
	f := newFeed(r, q, caller, &client{w: w, ctx: req.Context()})
	other, refused := r.feeds.add(f, q.shared == nil)
	if other != nil {
		sub, err := r.join(req, other, q, caller, id)
		if sub != nil || err != nil {
			f.cancel(nil)
			return sub, err
		}
		_, refused = r.feeds.add(f, true)
	}
	if refused != nil {
		f.cancel(nil)
		return nil, refused
	}
	return r.start(req, f, caller)
}

func (r *Relay) readBody(req *http.Request) ([]byte, error) {
	if req.Method != http.MethodPost {
		return nil, nil
	}
	content, refused := body.Read(nil, req, r.config.MaxRequest)
	if refused != nil { // a nil *refusal.Error must not become an error
		return nil, refused
	}
	return content, nil
}

// Fits reports whether the body of a POST that doesn't ask for a stream can be held,
// as far as its declared length says.
func (r *Relay) Fits(req *http.Request) bool {
	return req.ContentLength >= 0 && req.ContentLength <= r.config.MaxRequest
}

// join joins a running feed of an equal request. It returns nil if the response
// varies.
func (r *Relay) join(req *http.Request, f *feed, q *request, caller *subrequest.Requester, id string) (*Subscription, error) {
	sub := f.subscribe(r, caller)
	if err := f.await(req.Context()); err != nil {
		sub.Close()
		return nil, err
	}
	if !f.shares(q.shared) {
		sub.Close()
		return nil, nil
	}
	sub.from = r.replayFrom(f, id)
	return sub, nil
}

// replayFrom returns where a viewer begins that joins a feed.
func (r *Relay) replayFrom(f *feed, id string) start {
	if seq, ok := r.hub.Resolve(id, nil); ok {
		return start{at: atSeq, seq: seq}
	}
	switch r.config.Replay {
	case replayNone:
		return start{at: atHead}
	case replayLast:
		return start{at: atLast, n: r.config.ReplayLast}
	default:
		return start{at: atNumber}
	}
}

// start runs a feed, and waits until the backend responds.
func (r *Relay) start(req *http.Request, f *feed, caller *subrequest.Requester) (*Subscription, error) {
	sub := f.subscribe(r, caller)
	sub.first = true
	if _, _, own := parsePosition(stream.LastEventID(req)); own {
		sub.from.at = afterLoss
	}
	go f.run()
	if err := f.await(req.Context()); err != nil {
		sub.Close()
		return nil, err
	}
	if f.isRelayed() {
		return sub, nil
	}
	<-f.ended // the handlers write to w
	sub.Close()
	return nil, f.passErr
}

// Resume resumes a feed from the URL that a viewer's POST has got. Feed is false if
// no feed has the token any more.
func (r *Relay) Resume(req *http.Request, caller *subrequest.Requester, token string) (sub *Subscription, feed bool, err error) {
	f := r.feeds.find(token)
	if f == nil || f.relay.config.Place != r.config.Place {
		return nil, false, nil
	}
	if !f.admits(credentialsOf(req, caller)) {
		return nil, true, &refusal.Error{Status: http.StatusForbidden, Kind: "other_viewer", Reason: "this stream is another viewer's: send the credentials of the request that began it"}
	}
	n := 0
	if own, number, ok := parsePosition(stream.LastEventID(req)); ok && own == token {
		n = number
	}
	return f.resume(r, caller, n), true, nil
}

// logFailure logs once a minute.
func (r *Relay) logFailure(message string, fields ...zap.Field) {
	if suppressed, ok := r.failures.Allow(time.Now()); ok {
		r.log.Warn(message, append(fields, zap.String("rule", r.rule), zap.Int("not_logged_since", suppressed))...)
	}
}

// client is the first viewer's own response.
type client struct {
	w   http.ResponseWriter
	ctx context.Context
}
