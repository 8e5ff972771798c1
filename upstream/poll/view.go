package poll

import (
	"maps"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// view is one document as one set of viewers sees it. It has four parts:
//
//   - [pollLoop] decides when to poll and what a response means, and calls the
//     other parts. Between polls it has no goroutine.
//   - [documentState] is the result of the newest polls. It calls nothing.
//   - [viewers] are the principals that the backend authorizes for the document.
//     They call nothing.
//   - [publisher] publishes the view's events. Only the loop publishes. Streams
//     read the publisher's topics, and hold its mutex while they subscribe. It
//     calls the state, the topic's lease, the poller's outage log and the hub.
//
// A goroutine that needs several locks acquires them in this order: the
// publisher's, the lease's, the poller's, the loop's, the state's. While it holds those of
// TopicLeases or outageLog, it acquires no other.
type view struct {
	poller *Poller
	target *target
	client string        // that has created the view
	polled chan struct{} // closed after the first poll
	done   signal.Signal // set when no more events follow
	final  atomic.Bool   // set before done if the last event says that clients need not reconnect
	moved  signal.Signal // set when the viewers move to the next configuration

	cookies *cookieJar // of its polls; nil while there are none

	loop      pollLoop
	state     documentState
	publisher publisher

	// Guarded by the poller's mutex.
	key      string
	shared   bool // among all principals that may see the document
	removed  bool // from the poller's views
	resource *resource
	version  int // the resource's when the key was made
	viewers  viewers

	differsBy string // the one header by which it differs from another view of the URL
}

func newView(p *Poller, t *target, r *resource, key string, shared bool) *view {
	v := &view{
		poller:   p,
		target:   t,
		client:   t.client(),
		viewers:  newViewers(t.principal),
		polled:   make(chan struct{}),
		state:    documentState{incremental: p.config.mode.Incremental()},
		resource: r,
	}
	v.renameLocked(key, shared)
	v.loop = pollLoop{view: v, schedule: newSchedule(p.config)}
	v.publisher.init(v)
	return v
}

// renameLocked gives the view the key that its resource gives it by now. The
// caller holds the poller's mutex.
func (v *view) renameLocked(key string, shared bool) {
	v.key, v.shared, v.version = key, shared, v.resource.version
	v.state.setKey(key, shared, maps.Clone(v.resource.varies))
}

// admits reports whether a request's viewer belongs to the view. It uses the
// view's own headers that join the key: the poller may have forgotten them with
// its last view of the URL.
func (v *view) admits(t *target) bool { return v.state.admits(t, v.poller.hub.Digest) }

// isEmpty reports whether the view has ended without an event.
func (v *view) isEmpty() bool { return v.done.IsSet() && v.state.isEmpty() }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// fields returns the fields of log lines about the view. They leave out the
// query, which may hold secrets.
func (v *view) fields(more ...zap.Field) []zap.Field {
	return append([]zap.Field{zap.String("host", v.target.host), zap.String("path", v.target.path)}, more...)
}

// storeResponse stores a response with which ordinary requests may be answered,
// if the rule absorbs them. After a failed poll the stored one grows old.
func (v *view) storeResponse(resp *subrequest.Response, result outcome, asked time.Time) {
	if v.poller.config.Absorb && result != failed {
		v.state.storeResponse(resp, result, asked, v.poller.hub.Digest)
	}
}

// isDocument reports whether a response with the status is the document.
func isDocument(status int) bool { return status >= 200 && status <= 203 }

func isGone(status int) bool { return status == http.StatusNotFound || status == http.StatusGone }
