// Package stream serves events to one client as a text/event-stream response:
// it writes the headers, the events of a cursor and heartbeats, and it ends the
// response so that the client can resume.
package stream

import (
	"io"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/store"
)

// Defaults of [Options].
const (
	// DefaultHeartbeat is well below 30 s, after which an idle HTTP/3 connection
	// is closed.
	DefaultHeartbeat = 15 * time.Second
	// DefaultRetry is the usual mean time before a client reconnects.
	DefaultRetry = 3 * time.Second
)

// Options configure streams. Many streams may share one value, which must not
// change while a stream uses it.
type Options struct {
	// Heartbeat is the longest time without an event after which a stream sends
	// its retry field again. Each stream has a time of its own, up to an eighth
	// shorter, so that the heartbeats of streams which sent the same event are
	// not sent all at once. It must be positive; see [DefaultHeartbeat].
	Heartbeat time.Duration
	// HeartbeatEvent, if not nil, is sent at each Heartbeat instead, also while
	// the stream sends other events; see [HeartbeatEvent]. Streams share it.
	HeartbeatEvent event.Frame
	// Retry is the mean time that a client waits before it reconnects; see
	// [DefaultRetry]. Each stream sends a random time from half of Retry to one
	// and a half of it, so that clients do not reconnect all at once. Zero makes
	// clients reconnect immediately.
	Retry time.Duration
	// MaxAge limits the duration of a stream, which ends at a random moment in
	// the second half of MaxAge. Zero means no limit.
	MaxAge time.Duration
	// WriteTimeout limits the duration of each write: the stream ends at most
	// that long after a write has taken as long. Zero sets no limit.
	WriteTimeout time.Duration
	// ShutdownEvent makes [Group.Exit] send a shutdown event to each client
	// before its stream ends. Default: false.
	ShutdownEvent bool
	// Gzip makes streams compress their events for clients that accept gzip. Each
	// event is compressed once, for all streams. Default: false.
	Gzip bool
}

// Observer counts what a stream sends. It must not block.
type Observer interface {
	// Sent records one write: the number of its events, which is zero for a
	// heartbeat, and the number of its bytes.
	Sent(events int, bytes int64)
}

// Source supplies the events of one stream. Only Cursor is required.
type Source struct {
	// Cursor yields the events. The stream closes it.
	Cursor *hub.Cursor
	// Initial holds events that the stream sends before the cursor's. An id may
	// have an entry of its own, before that of its event.
	Initial []*store.Entry
	// Wrap returns the entry that the stream sends in place of one of the
	// cursor's. Default, if nil: that one.
	Wrap func(*store.Entry) *store.Entry
	// Split, if not nil, returns the entries that the stream sends in place of one of
	// the cursor's, without Wrap. There may be none. They are valid until the next
	// call.
	Split func(*store.Entry) []*store.Entry
	// Done, if not nil, is set after the last event has been published: the
	// stream sends its backlog and ends.
	Done *signal.Signal
	// Final, if not nil, is set before Done if the last event tells the client
	// that it need not reconnect.
	Final *atomic.Bool
	// Moved, if not nil, is set when the next configuration can serve the
	// client better than this one. The stream ends within two seconds, or at
	// once if NoPosition is set, the request had no position and no event was
	// sent. The client reconnects soon.
	Moved *signal.Signal
	// MovedAs is the reason for which the stream ends when Moved is set. Default,
	// if empty: [Moved].
	MovedAs Reason
	// NoPosition says that the client has no document yet that later events
	// could follow. A stream that ends without having sent an event then sends
	// no position either.
	NoPosition bool
	// Granted, if not nil, is set when the client may receive the cursor's
	// events. Until then the stream sends only Initial and heartbeats.
	Granted *signal.Signal
	// Revoked, if not nil, is set when the client may no longer receive
	// events: the stream ends at once.
	Revoked *signal.Signal
	// Expires is when the client's authorization ends: the stream ends at this
	// moment and sends no event afterwards. Zero means never.
	Expires time.Time
	// Stop, if not nil, ends the stream when it is set; the stream sends no
	// event afterwards. The caller that sets it must then call [Group.Notify].
	Stop *atomic.Bool
	// Start says how the stream begins, for metrics.
	Start Start
	// Followed is the internal topic of which the client has the events up to the
	// cursor's position, if the stream resumes there, or needs none before; see
	// [hub.Hub.Followed]. Otherwise it is empty.
	Followed string
	// Position returns the id of a client that has the events up to the cursor's
	// position. Default, if nil: the cursor's.
	Position func() string
	// Observer, if not nil, counts the events and bytes that the stream sends.
	Observer Observer
}

// Start is how a stream begins. The zero value is [New].
type Start int

// Ways in which a stream begins.
const (
	New     Start = iota // with the current document, or with the next event
	Resumed              // after the client's position
	Lost                 // with a reset: the client's position is not in the history
)

// Reason is why a stream ended.
type Reason string

// Reasons why a stream ends.
const (
	ClientLeft    Reason = "client left"             // the request's context ended
	SourceEnded   Reason = "source ended"            // [Source.Done]
	Revoked       Reason = "access revoked"          // [Source.Revoked]
	Expired       Reason = "token expired"           // [Source.Expires]
	FellBehind    Reason = "fell out of the history" // the history no longer has the client's next event
	MaxAgeReached Reason = "max age"                 // [Options.MaxAge]
	URLEnded      Reason = "one of its URLs ended"   // a URL of [Multiplex] must be opened again
	Moved         Reason = "configuration changed"   // [Source.Moved], or [Group.End] with a drain time
	ShutDown      Reason = "shutting down"           // [Group.Exit], or [Group.End] without a drain time
	Stopped       Reason = "ended by the operator"   // [Source.Stop]
	WriteFailed   Reason = "write failed"            // the client's connection failed, or a write timed out
	StoreFailed   Reason = "store failed"            // the log could not be read
)

// Reasons lists each [Reason] once.
var Reasons = []Reason{ClientLeft, SourceEnded, Revoked, Expired, FellBehind, MaxAgeReached, URLEnded, Moved, ShutDown, Stopped, WriteFailed, StoreFailed}

// Summary describes a stream that has ended.
type Summary struct {
	Reason Reason
	Events int   // events sent, with the initial ones
	Bytes  int64 // bytes of the body, with heartbeats
	Err    error // for WriteFailed and StoreFailed; otherwise nil
}

// WriteHeader writes status 200 and the headers of a stream with these options that
// answers r. It does not flush them.
func WriteHeader(w http.ResponseWriter, r *http.Request, o *Options) {
	h := w.Header()
	if o.Gzip {
		h.Add("Vary", "Accept-Encoding")
		if sendsGzip(r, o) {
			h.Set("Content-Encoding", "gzip")
		}
	}
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache, no-store, private, no-transform") // private for caches that ignore no-store
	h.Set("X-Accel-Buffering", "no")
	// Other sites can't load a stream as an image or a script. CORS requests are
	// exempt (Fetch standard, "Cross-Origin-Resource-Policy").
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Del("Content-Length")
	w.WriteHeader(http.StatusOK)
}

// Serve answers r with a stream and returns when the stream has ended. It
// closes the source's cursor.
//
// The caller creates the cursor first, so that the stream has each event that is
// published after the client received the headers. A nil group never ends its
// streams. Only Serve's goroutine writes to w.
func Serve(w http.ResponseWriter, r *http.Request, src Source, group *Group, o *Options) Summary {
	var summary Summary
	Prepare(w, r, src, group, o).Run(r, nil, func(ended Summary) { summary = ended }, func() {})
	return summary
}

// discardBody reads up to 64 KiB of a body that a GET should not have, for up to
// a second: net/http detects that an HTTP/1 client has disconnected only after
// it has read the whole request.
//
// HTTP/2 and HTTP/3 don't need this. On HTTP/2, each deadline would be a message
// to the goroutine that serves the connection, which a client that opens and
// resets many streams keeps busy already.
func discardBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 1 || r.ContentLength == 0 || r.Body == nil || r.Body == http.NoBody {
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(time.Second)) // an error means that w has no deadlines
	_, _ = io.CopyN(io.Discard, r.Body, 64<<10)
	_ = control.SetReadDeadline(time.Time{})
}

// jitterAround returns a random duration from d/2 to d*3/2, or zero if d isn't
// positive.
func jitterAround(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return d/2 + rand.N(d)
}
