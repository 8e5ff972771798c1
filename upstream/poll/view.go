package poll

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"hash/maphash"
	"mime"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/upstream/next"
)

// errTimeout is the cause when a poll takes too long.
var errTimeout = errors.New("the backend took too long")

// view is one document as one set of viewers sees it, and the goroutine that
// polls it.
type view struct {
	poller *Poller
	target *target
	ctx    context.Context
	cancel context.CancelFunc
	again  chan struct{} // asks for a poll at once
	polled chan struct{} // closed after the first poll
	done   chan struct{} // closed when the document has come to its end

	// Guarded by the poller's mutex.
	key     string
	viewers int
	idle    *time.Timer

	// Only the view's own goroutine uses these.
	etag string
	sum  uint64 // of the last body

	// Held from an event's publication until the view knows of it, and while
	// a viewer takes a place: it comes before both or after both.
	publishing sync.Mutex

	mu      sync.Mutex
	refusal *next.Response
	current string       // the key, for those who wait for the first poll
	doc     *store.Entry // the newest document that the backend has confirmed
	stale   *store.Entry // set while the backend fails
}

// seed makes sums of bodies unpredictable to those who write them.
var seed = maphash.MakeSeed()

func newView(p *Poller, t *target, key string) *view {
	v := &view{
		poller:  p,
		target:  t,
		key:     key,
		current: key,
		again:   make(chan struct{}, 1),
		polled:  make(chan struct{}),
		done:    make(chan struct{}),
	}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	v.idle = time.AfterFunc(time.Hour, func() { p.expire(v) })
	v.idle.Stop()
	return v
}

// rename gives the view another key. The caller holds the poller's mutex.
func (v *view) rename(key string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.key, v.current = key, key
}

func (v *view) is(key string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.current == key
}

func (v *view) refused() *next.Response {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.refusal
}

// refresh asks for a poll at once, or for one more if one is under way: that
// one may have seen the state from before the reason to ask.
func (v *view) refresh() {
	select {
	case v.again <- struct{}{}:
	default: // asked already
	}
}

// run polls until nobody watches, or the document has come to its end. Polls
// of one view never overlap.
func (v *view) run() {
	defer v.cancel()
	interval := time.Duration(v.poller.config.Interval)
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for first := true; ; first = false {
		started := time.Now()
		goesOn := v.poll(first)
		if !goesOn {
			v.poller.remove(v)
			close(v.done)
		}
		if first {
			close(v.polled)
		}
		if !goesOn {
			return
		}
		timer.Reset(pause(interval, time.Since(started)))
		select {
		case <-timer.C:
		case <-v.again:
		case <-v.ctx.Done():
			return
		}
	}
}

// pause keeps polls an interval apart from start to start. A poll that took
// longer than that is followed by a whole interval of rest.
func pause(interval, took time.Duration) time.Duration {
	if took < interval {
		return interval - took
	}
	return interval
}

// poll asks once. It returns false when the view has ended.
func (v *view) poll(first bool) bool {
	ctx, cancel := v.poller.context(v.ctx)
	defer cancel()
	resp, err := v.target.caller.Do(v.target.request(ctx, v.etag), v.poller.config.MaxBody)
	switch {
	case v.ctx.Err() != nil:
		return false // nobody watches
	case first && misconfigured(err):
		v.refuse(refusalFor(err))
		v.poller.log.Error("document can't be polled", zap.String("host", v.target.host), zap.String("path", v.target.path), zap.Error(err))
		return false
	case err != nil:
		v.failed(0, err)
		return true
	case failing(resp.Status):
		v.failed(resp.Status, nil)
		return true
	case resp.Status == http.StatusNotModified && v.etag != "":
		if v.parted(resp.Header, first) {
			return false
		}
		v.unchanged()
		return true
	case resp.Status < 200 || resp.Status > 203:
		v.end(resp, first)
		return false
	default:
		return v.answered(resp, first)
	}
}

// misconfigured tells errors that will not go away by asking again.
func misconfigured(err error) bool {
	return errors.Is(err, next.ErrStream) || errors.Is(err, next.ErrNoAnswer) || errors.Is(err, next.ErrTooLarge)
}

// refusalFor is an answer of our own, in the backend's place.
func refusalFor(err error) *next.Response {
	h := make(http.Header)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	return &next.Response{Status: http.StatusBadGateway, Header: h, Body: []byte("this document can't be watched: " + err.Error() + "\n")}
}

// failing tells whether a status says that the backend can't answer now, as
// opposed to that it won't.
func failing(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	default:
		return status >= 500
	}
}

// answered takes a document. It returns false if the view has turned out to be
// one of several, and can't go on as it was.
func (v *view) answered(resp *next.Response, first bool) bool {
	if v.parted(resp.Header, first) {
		return false // its viewers come back, each to their own
	}
	v.etag = resp.Header.Get("ETag")
	sum := maphash.Bytes(seed, resp.Body)
	if v.doc != nil && sum == v.sum {
		v.unchanged()
		return true
	}
	v.sum = sum
	v.document(data(resp.Header.Get("Content-Type"), resp.Body), first)
	return true
}

// parted takes note of what the backend varies by, and tells whether the view's
// viewers may no longer share it: for what this response says, or for what one
// to another view of the same URL has said before.
func (v *view) parted(h http.Header, first bool) bool {
	v.poller.vary(v, variedHints(h))
	if v.is(v.poller.key(v.target)) {
		return false
	}
	return !first || !v.poller.rekey(v)
}

// variedHints are the hints that a response's Vary names; "*" names them all.
func variedHints(h http.Header) []string {
	var names []string
	for name := range strings.SplitSeq(strings.Join(h.Values("Vary"), ","), ",") {
		name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
		if name == "*" {
			for hint := range hints {
				names = append(names, hint)
			}
		} else if hints[name] {
			names = append(names, name)
		}
	}
	return names
}

// data is a body as event data: JSON without white space between its tokens,
// other text as it is, and what is no text in an envelope.
func data(contentType string, body []byte) []byte {
	var compact bytes.Buffer
	if json.Compact(&compact, body) == nil && utf8.Valid(body) {
		return compact.Bytes()
	}
	if utf8.Valid(body) {
		return body
	}
	if t, _, err := mime.ParseMediaType(contentType); err == nil {
		contentType = t
	}
	return event.Binary(contentType, body)
}

// unchanged notes that the backend has confirmed the document. If it was said
// to be stale then it is sent once more, which ends that.
func (v *view) unchanged() {
	if v.stale != nil && v.doc != nil {
		v.publishDocument(v.doc.Frame.WithoutID())
	}
}

func (v *view) document(data []byte, first bool) {
	frame, err := event.Event{Data: data}.Encode()
	if err != nil {
		v.failed(0, err)
		return
	}
	if first {
		v.adopt(frame)
	}
	if v.doc != nil && v.stale == nil && bytes.Equal(v.doc.Frame.WithoutID(), frame) {
		return // only the white space between the tokens has changed
	}
	v.publishDocument(frame)
}

// adopt goes on where an earlier view left off, perhaps under an earlier
// configuration: a client that has its last document needs no other. It comes
// before any viewer, who would not get the document any more.
func (v *view) adopt(frame event.Frame) {
	last := v.poller.hub.Last(v.topic())
	if last != nil && bytes.Equal(last.Frame.WithoutID(), frame) {
		v.set(last, nil)
	}
}

func (v *view) publishDocument(frame event.Frame) {
	v.publishing.Lock()
	defer v.publishing.Unlock()
	e, err := v.poller.hub.PublishFrame([]string{v.topic()}, frame)
	if err != nil {
		v.sum, v.etag = 0, "" // so that the next poll tries again
		v.poller.log.Error("document not published", zap.String("path", v.target.path), zap.Error(err))
		return
	}
	if v.stale != nil {
		v.poller.log.Info("backend answers again", zap.String("host", v.target.host), zap.String("path", v.target.path))
	}
	v.set(e, nil)
}

// failed tells the viewers, once, that what they have may be out of date.
func (v *view) failed(status int, err error) {
	if v.stale != nil {
		return
	}
	if status == 0 {
		status = statusOf(err)
	}
	v.poller.log.Warn("backend fails, viewers keep what they have",
		zap.String("host", v.target.host), zap.String("path", v.target.path), zap.Int("status", status), zap.Error(err))
	notice, _ := json.Marshal(staleNotice{Since: time.Now().UTC().Truncate(time.Millisecond), Status: status, Reason: http.StatusText(status)})
	v.publishing.Lock()
	defer v.publishing.Unlock()
	e, err := v.publish("stale", notice)
	if err == nil {
		v.set(v.doc, e)
	}
}

// staleNotice is the data of a stale event. It says nothing of where the
// backend is or how it failed beyond the status.
type staleNotice struct {
	Since  time.Time `json:"since"`
	Status int       `json:"status"`
	Reason string    `json:"reason"`
}

func statusOf(err error) int {
	if errors.Is(err, errTimeout) || errors.Is(err, context.DeadlineExceeded) {
		return http.StatusGatewayTimeout
	}
	return http.StatusBadGateway
}

// end takes the backend's word that there is no such document, or not for
// these viewers. Those who wait for the first poll get its answer as it is, and
// so do those who have watched, when they come back.
func (v *view) end(resp *next.Response, first bool) {
	if first {
		v.refuse(resp)
		return
	}
	if resp.Status == http.StatusNotFound || resp.Status == http.StatusGone {
		notice, _ := json.Marshal(map[string]int{"status": resp.Status})
		_, _ = v.publish("gone", notice) // the stream ends with or without it
	}
}

func (v *view) refuse(resp *next.Response) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refusal = resp
}

func (v *view) publish(name string, data []byte) (*store.Entry, error) {
	e, _, err := v.poller.hub.Publish([]string{v.topic()}, event.Event{Name: name, Data: data})
	if err != nil {
		v.poller.log.Error("event not published", zap.String("event", name), zap.String("path", v.target.path), zap.Error(err))
	}
	return e, err
}

func (v *view) set(doc, stale *store.Entry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.doc, v.stale = doc, stale
}

// topic can't be named from outside: no topic of a webhook or a subscription
// holds a control character.
func (v *view) topic() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return "\x00poll/" + v.current
}

// snapshot is what a viewer who has nothing must get.
func (v *view) snapshot() []*store.Entry {
	v.mu.Lock()
	defer v.mu.Unlock()
	var entries []*store.Entry
	for _, e := range []*store.Entry{v.doc, v.stale} {
		if e != nil {
			entries = append(entries, e)
		}
	}
	return entries
}

// Source is what the viewer's stream sends, given the position that the client
// has; empty if it has none.
//
// A position says nothing about whose it was: unless it is one of this view,
// the viewer gets the document.
func (v *Viewing) Source(lastEventID string) stream.Source {
	h, topic := v.poller.hub, []string{v.view.topic()}
	seq, known := h.Resolve(lastEventID)
	if known {
		if e := h.Entry(seq); e != nil && e.On(topic[0]) {
			return stream.Source{Cursor: h.FollowAfter(topic, seq), Done: v.view.done}
		}
	}
	v.view.publishing.Lock()
	src := stream.Source{Cursor: h.Follow(topic), Done: v.view.done}
	snapshot := v.view.snapshot()
	v.view.publishing.Unlock()
	for i, e := range snapshot {
		if e.ID == lastEventID { // out of the history, yet all that there is
			src.First, known = snapshot[i+1:], true
			snapshot = nil
			src.Cursor.Skip(e.Seq)
			break
		}
	}
	if lastEventID != "" && !known {
		src.First = append(src.First, stream.ResetAlone())
	}
	src.First = append(src.First, snapshot...)
	if n := len(src.First); n > 0 {
		src.Cursor.Skip(src.First[n-1].Seq)
	}
	return src
}
