// Package stream is one client's open text/event-stream response: its headers,
// the cursor that feeds it, heartbeats, and how it ends.
package stream

import (
	"cmp"
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// Defaults of [Options].
const (
	// DefaultHeartbeat is well below the 30 s after which an HTTP/3 connection
	// that is idle dies.
	DefaultHeartbeat = 15 * time.Second
	DefaultRetry     = 3 * time.Second
)

// Options say how streams behave. They are shared, and not changed while in use.
type Options struct {
	// Heartbeat is how long a stream may be silent.
	Heartbeat time.Duration
	// Retry is how long a client waits before it reconnects. Each stream is
	// told a time within half of it more or less, so that clients which were
	// cut together don't come back together.
	Retry time.Duration
	// MaxAge is how long a stream lasts at most; it ends at a random moment in
	// the second half of that. Zero: for ever.
	MaxAge time.Duration
	// WriteTimeout bounds each write. Zero: something else bounds it.
	WriteTimeout time.Duration
	// ShutdownEvent tells clients before their streams end that the server
	// goes away; see [Group.Exit].
	ShutdownEvent bool
	// Observer, if not nil, receives what streams send.
	Observer Observer
}

// Observer receives what streams send. It must be safe for concurrent use and must
// not block.
type Observer interface {
	// Sent is called after each write, with the events and bytes in it: none
	// are in a heartbeat.
	Sent(events int, bytes int64)
}

// Source is what a stream sends.
type Source struct {
	// Cursor gives the events. The stream closes it.
	Cursor *hub.Cursor
	// Initial is written before what the cursor gives.
	Initial []*store.Entry
	// Frame, if not nil, is how what the cursor gives is sent. Default: as it
	// is in the log.
	Frame func(*store.Entry) event.Frame
	// Done, if not nil, is closed when no more will come: the stream sends
	// what there is and ends.
	Done <-chan struct{}
	// Moved, if not nil, is closed when another configuration has more to send
	// than this one: the stream ends within two seconds, or at once if it is
	// NoPosition, and its client is told to come back soon.
	Moved <-chan struct{}
	// NoPosition tells that the client has nothing yet that what is published
	// later could follow: unless it has been sent something, it is told no
	// position when the stream ends.
	NoPosition bool
	// Granted, if not nil, is closed when the client may see what the cursor
	// gives: until then the stream has heartbeats only.
	Granted <-chan struct{}
	// Revoked, if not nil, is closed when the client may see no more: the
	// stream ends at once.
	Revoked <-chan struct{}
	// Expires is when the client's right to see more ends: the stream ends at
	// that moment, and nothing is sent from then on. Zero: it has no end.
	Expires time.Time
	// Stop, if not nil, is set when the stream is to end, and nothing to be
	// sent from then on. [Group.Notify] must be called afterwards.
	Stop *atomic.Bool
	// Start is how the stream begins, for metrics.
	Start Start
}

// Start is how a stream begins. The zero value is [New].
type Start int

// The ways to begin.
const (
	New     Start = iota // with what there is now, or from now on
	Resumed              // where the client was
	Lost                 // with a reset: the history does not say what the client has missed
)

// Reason is why a stream ended.
type Reason string

// The reasons.
const (
	ClientLeft    Reason = "client left"
	SourceEnded   Reason = "source ended"
	Revoked       Reason = "access revoked"
	Expired       Reason = "token expired"
	FellBehind    Reason = "fell out of the history"
	MaxAgeReached Reason = "max age"
	Moved         Reason = "configuration changed"
	ShutDown      Reason = "shutting down"
	Stopped       Reason = "ended by the operator"
	WriteFailed   Reason = "write failed"
	StoreFailed   Reason = "store failed"
)

// Reasons lists all reasons.
var Reasons = []Reason{ClientLeft, SourceEnded, Revoked, Expired, FellBehind, MaxAgeReached, Moved, ShutDown, Stopped, WriteFailed, StoreFailed}

// Summary describes a stream that has ended.
type Summary struct {
	Reason Reason
	Events int
	Bytes  int64
	Err    error
}

// WriteHeader writes the headers of a stream, without flushing them.
func WriteHeader(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-store, private, no-transform") // private for caches that heed no other word
	h.Set("X-Accel-Buffering", "no")
	// No other site's page has a use for a stream as an image or a script; with
	// CORS it may still read it (Fetch standard, "Cross-Origin-Resource-Policy").
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Del("Content-Length")
	w.WriteHeader(http.StatusOK)
}

// Serve answers a request with a stream until it ends, for one of the reasons.
// The cursor must have been made before, so that what is published once the
// client knows of the stream is in it. The group may be nil.
func Serve(w http.ResponseWriter, r *http.Request, src Source, group *Group, o *Options) Summary {
	defer src.Cursor.Close()
	discardBody(w, r)
	group = cmp.Or(group, new(Group))
	s := &conn{
		w:           w,
		control:     http.NewResponseController(w),
		src:         src,
		options:     o,
		hasPosition: LastEventID(r) != "",
	}
	if ended, _, _ := group.state(); ended && r.ProtoMajor == 2 {
		// A connection whose handshake has ended after the configuration's end is
		// never told to close, and its client would come back on it for ever. On
		// HTTP/2 this isn't sent: the server lets the client open no more streams.
		w.Header().Set("Connection", "close")
	}
	WriteHeader(w)
	s.out = append(append(s.out, event.Heartbeat...), event.Retry(jitterAround(o.Retry))...)
	s.summary.Err = s.sendInitial()
	if s.summary.Err != nil {
		s.summary.Reason = WriteFailed
		return s.summary
	}
	s.summary.Reason, s.summary.Err = s.run(r, group)
	return s.summary
}

// discardBody reads a body that a GET should not have: HTTP/1 notices that a
// client has left only once the request was read to its end. A client that
// announces more than it sends is not waited for. HTTP/2 and 3 need none of it,
// and on HTTP/2 a deadline is a message to the connection's one goroutine, which
// whoever opens and resets streams in a row keeps busy enough.
func discardBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(time.Second)) // some writers have none
	_, _ = io.CopyN(io.Discard, r.Body, 64<<10)
	_ = control.SetReadDeadline(time.Time{})
}

// jitterAround returns a time within half of d more or less.
func jitterAround(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d/2 + rand.N(d)
}
