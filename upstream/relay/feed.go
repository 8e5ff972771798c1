package relay

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/formats"
	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// Why a feed's request, or the feed, is cancelled.
var (
	errClosed   = errors.New("the hub is closed")
	errDetached = errors.New("no viewer has come back in time")
	errExpired  = errors.New("no viewer has come back")
	errLeft     = errors.New("the client has left before the backend responded")
)

// feed is one request to the backend and its response, or a GET and the event
// streams to which it reconnects.
type feed struct {
	config  *Config // of the rule when the feed began
	hub     *hub.Hub
	feeds   *Feeds
	rule    string
	place   string // of the rule, over configurations
	token   string
	topics  []string
	network string // the first client's
	request *request
	client  *client // nil as soon as the backend's response is relayed

	ctx    context.Context
	cancel context.CancelCauseFunc

	decided chan struct{}  // closed when it is known whether the response is relayed
	done    *signal.Signal // set after the last event
	ended   chan struct{}  // closed when the goroutine ends
	passErr error          // of the handlers, if the response is not relayed; after ended

	format      formats.Format // empty: no response has come
	lastEventID string         // the backend's
	retry       time.Duration
	failures    int // since the last event
	began       time.Time
	was         seen

	publishing sync.Mutex // held while the feed publishes; before mu
	count      int        // of the events that it has published

	acknowledged atomic.Int64 // the number of the newest event that a viewer has got

	mu       sync.Mutex
	relay    *Relay // of the newest configuration with a viewer
	caller   *subrequest.Requester
	retired  bool // the relay's configuration has been replaced
	relayed  bool
	over     bool
	complete bool // the backend has sent all
	header   http.Header
	admitted []credentials
	viewers  int
	idle     *time.Timer             // runs while there are no viewers
	detached bool                    // it has run out once
	stop     context.CancelCauseFunc // of the request to the backend; nil: there is none
	changed  chan struct{}           // closed, and replaced, when a viewer, a configuration or room comes

	published int   // is count, also for those that don't hold publishing
	sizes     []int // of the events after acknowledged
	ahead     int64 // the sum of sizes
	unwatched int64 // bytes published since the last viewer left
	failing   bool  // stale has been published since the last event

	keep *time.Timer // runs when the feed is over
}

// defaultRetry is how long the module waits before it reconnects to an event stream
// that says nothing else.
const defaultRetry = 3 * time.Second

func newFeed(r *Relay, q *request, caller *subrequest.Requester, c *client) *feed {
	token := newToken()
	ctx, cancel := context.WithCancelCause(context.Background())
	f := &feed{
		config: r.config, hub: r.hub, feeds: r.feeds, rule: r.rule, place: r.config.Place,
		token: token, topics: []string{"\x00relay/" + token}, network: caller.ClientNetwork(), request: q, client: c,
		ctx: ctx, cancel: cancel,
		decided: make(chan struct{}), done: new(signal.Signal), ended: make(chan struct{}),
		retry: defaultRetry, began: time.Now(),
		relay: r, caller: caller, admitted: []credentials{q.viewer}, changed: make(chan struct{}),
	}
	f.idle = time.AfterFunc(time.Hour, f.expire)
	f.idle.Stop()
	f.keep = time.AfterFunc(time.Hour, func() { f.feeds.forget(f) })
	f.keep.Stop()
	return f
}

func (f *feed) countKey() string { return f.place + " " + f.network }

func (f *feed) sharedKey() string {
	if f.request.shared == nil {
		return ""
	}
	return f.request.shared.Key()
}

// isFor reports whether the feed's response is one to an equal request of the same
// viewer.
func (f *feed) isFor(q *request) bool { return f.request.key == q.key && f.admits(q.viewer) }

// admits reports whether a viewer has the credentials of the feed's first one, or
// those that the backend's response has changed them to.
func (f *feed) admits(viewer credentials) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.admitted {
		if c.admits(viewer) {
			return f.relayed
		}
	}
	return false
}

// shares reports whether the response is also the one to another request.
func (f *feed) shares(q *poll.Repeatable) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.relayed && !f.over && f.request.shared.SharesWith(q, f.header)
}

func (f *feed) isRelayed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.relayed
}

func (f *feed) isOver() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.over
}

// await waits until it is known whether the response is relayed.
func (f *feed) await(ctx context.Context) error {
	select {
	case <-f.decided:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// decide records whether the first response is relayed, and its header.
func (f *feed) decide(relayed bool, header http.Header) {
	f.mu.Lock()
	f.relayed, f.header = relayed, header
	if len(header["Set-Cookie"]) > 0 && f.request.shared == nil {
		f.admitted = append(f.admitted, f.request.viewer.update(header))
	}
	f.mu.Unlock()
	if relayed {
		f.client = nil
	}
	close(f.decided)
}

// notifyLocked wakes those that wait for a change.
func (f *feed) notifyLocked() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// join counts a viewer, whose relay and requester the feed uses from now on.
func (f *feed) join(r *Relay, caller *subrequest.Requester) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.viewers++
	f.idle.Stop()
	f.detached, f.unwatched = false, 0
	if f.relay != r {
		f.relay, f.caller, f.retired = r, caller, false
	}
	f.notifyLocked()
}

// leave counts a viewer that has left. Without viewers, the feed goes on for a while.
func (f *feed) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.viewers--; f.viewers > 0 || f.over {
		return
	}
	select {
	case <-f.decided:
		f.idle.Reset(max(time.Duration(f.config.Detach), 0))
	default:
		f.cancel(errLeft)
	}
}

// expire ends the request to the backend, and then the feed, if no viewer comes.
func (f *feed) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.viewers > 0 || f.over:
	case f.detached:
		f.cancel(errExpired)
	default:
		f.detached = true
		f.idle.Reset(time.Duration(f.config.Keep))
		if f.stop != nil {
			f.stop(errDetached)
		}
	}
}

// retire makes the feed wait for a viewer of another configuration before it asks
// the backend again.
func (f *feed) retire(r *Relay) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.relay == r {
		f.retired = true
	}
}

// awaitViewers waits until the feed has viewers of a configuration in force. It
// returns false if the feed ends.
func (f *feed) awaitViewers() bool {
	for {
		f.mu.Lock()
		ready, changed := f.viewers > 0 && !f.retired, f.changed
		f.mu.Unlock()
		if ready {
			return f.ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-f.ctx.Done():
			return false
		}
	}
}
