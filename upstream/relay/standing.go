package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/loglimit"
	"github.com/caddy-sse/caddy-sse/stream"
)

// standing is a feed that the configuration names. Its goroutine keeps a request open
// and publishes what comes, as long as a rule has the feed.
type standing struct {
	config *StandingConfig
	feed   feedURL
	hub    *hub.Hub
	ids    ids

	// topic has the events, and state the changes between stale and fresh. Nobody else
	// can name them. shared is the rule's own topic, if it is the same for all events.
	topic, state, shared string

	ctx    context.Context
	cancel context.CancelCauseFunc
	ended  chan struct{} // closed when the goroutine ends

	lastEventID string // the feed's
	retry       time.Duration
	failures    int    // since the last event
	cause       string // the kind of the failure in the log; empty: none
	before      uint64 // the log's newest position when the connection began

	unusable loglimit.Limiter // events, in the log

	mu      sync.Mutex
	rules   []*StandingRule // the newest configuration's last
	began   time.Time       // the feed, or its newest connection
	running bool
	stale   *event.Event // nil: the feed doesn't fail
	events  int
}

func newStanding(key string, r *StandingRule, u feedURL) *standing {
	ctx, cancel := context.WithCancelCause(context.Background())
	f := &standing{
		config: r.Config, feed: u, hub: r.Hub, ids: newIDs(r.Hub, key),
		topic: eventTopic(key), state: stateTopic(key),
		ctx: ctx, cancel: cancel, ended: make(chan struct{}),
		retry: defaultRetry, began: time.Now(),
	}
	if t := r.Config.topic; t != nil && len(t.Placeholders()) == 0 {
		f.shared, _ = t.Expand(nil)
	}
	return f
}

func eventTopic(key string) string { return "\x00standing/" + key }
func stateTopic(key string) string { return "\x00standing-state/" + key }

func (f *standing) setRules(rules []*StandingRule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = rules
}

// rule returns the rule of the newest configuration.
func (f *standing) rule() *StandingRule {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rules[len(f.rules)-1]
}

// run connects again and again until no rule has the feed.
func (f *standing) run() {
	defer close(f.ended)
	if last := f.hub.Last(f.topic); last != nil {
		f.lastEventID = f.ids.original(last.ID)
	}
	for {
		err := f.connect()
		if f.ctx.Err() != nil {
			return
		}
		select {
		case <-time.After(f.pauseAfter(err)):
		case <-f.ctx.Done():
			return
		}
	}
}

// pauseAfter returns how long the feed waits before it connects again: what it has
// asked for, longer with each failure, and up to a half more, so that not all who
// have lost it come back at once.
func (f *standing) pauseAfter(err error) time.Duration {
	pause := max(f.retry, minReconnect)
	if err != nil {
		for range min(f.failures, 10) {
			pause = min(pause*2, max(maxReconnect, f.retry))
		}
		f.failures++
	}
	var refused *refusedFeed
	if errors.As(err, &refused) {
		if !refused.mayPass() {
			pause = max(pause, maxReconnect)
		}
		pause = max(pause, refused.retryAfter)
	}
	return pause + rand.N(pause/2+1)
}

// lost records that the feed fails, and tells viewers and the log once.
func (f *standing) lost(err error) {
	status, cause := http.StatusBadGateway, "connection"
	var refused *refusedFeed
	switch {
	case errors.As(err, &refused):
		status, cause = refused.staleStatus(), refused.Error()
	case errors.Is(err, errSilent):
		status, cause = http.StatusGatewayTimeout, "silence"
	}
	if cause != f.cause {
		f.cause = cause
		f.log().Warn("a standing feed is lost; the module connects again", f.field(), zap.Error(err))
	}
	notice := stream.Stale(time.Now(), status)
	f.mu.Lock()
	before := f.stale
	if f.running = false; before == nil {
		f.stale = &notice
	}
	f.mu.Unlock()
	if before == nil {
		f.publishState(notice)
	}
}

// found records that the feed is read, and tells viewers and the log if it was lost.
func (f *standing) found() {
	f.mu.Lock()
	before := f.stale
	f.stale, f.running, f.began = nil, true, time.Now()
	f.mu.Unlock()
	f.before = f.hub.Head()
	if before == nil {
		return
	}
	f.cause = ""
	f.log().Info("a standing feed is read again", f.field())
	f.publishState(stream.Fresh())
}

// publishState tells viewers that the feed is lost, or is back. It reports no error:
// a store that fails has its own line in the log.
func (f *standing) publishState(e event.Event) {
	topics := []string{f.state}
	if f.shared != "" {
		topics = append(topics, f.shared)
	}
	_, _, _ = f.hub.Publish(topics, e)
}

func (f *standing) log() *zap.Logger {
	r := f.rule()
	return r.Log.With(zap.String("rule", r.Rule))
}

// field names the feed in the log, without credentials and without its query.
func (f *standing) field() zap.Field {
	return zap.String("feed", f.feed.Scheme+"://"+f.feed.Host+f.feed.EscapedPath())
}

// info describes the feed.
func (f *standing) info() Info {
	viewers := []string{f.topic}
	if f.shared != "" {
		viewers = append(viewers, f.shared)
	}
	info := Info{Method: http.MethodGet, Host: f.feed.Host, Path: f.feed.EscapedPath(), Standing: true, Shared: true, Viewers: f.hub.Subscribers(viewers)}
	f.mu.Lock()
	defer f.mu.Unlock()
	info.Rule, info.Events, info.Began = f.rules[len(f.rules)-1].Rule, f.events, f.began.UTC().Truncate(time.Millisecond)
	switch {
	case f.stale != nil:
		info.State = "stale"
	case f.running:
		info.State = "running"
	default:
		info.State = "waiting"
	}
	return info
}
