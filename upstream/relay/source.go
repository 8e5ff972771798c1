package relay

import (
	"encoding/json"
	"net/http"
	"sync"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// Subscription is one stream of a viewer of a feed.
type Subscription struct {
	feed  *feed
	from  start
	first bool // it is the one whose request began the feed
	once  sync.Once
}

// start is where a viewer begins.
type start struct {
	at   at
	n    int    // with atNumber and afterLoss: the number of the last event that the viewer has
	seq  uint64 // with atSeq
	isID bool   // with atNumber: the client has sent an id
}

type at int

const (
	atNumber  at = iota // after the event with the number
	atLast              // with the last n events
	atHead              // with the next event
	atSeq               // after a position of the hub
	afterLoss           // from the beginning, after a reset
)

func (f *feed) subscribe(r *Relay, caller *subrequest.Requester) *Subscription {
	f.join(r, caller)
	return &Subscription{feed: f}
}

// resume returns a subscription that begins after the event with a number.
func (f *feed) resume(r *Relay, caller *subrequest.Requester, n int) *Subscription {
	sub := f.subscribe(r, caller)
	sub.from = start{at: atNumber, n: n, isID: n > 0}
	return sub
}

// Close ends the subscription. It may be called more than once.
func (s *Subscription) Close() { s.once.Do(s.feed.leave) }

// Finished reports whether the viewer has all of a feed that is over. It should not
// come back: the caller responds with 204.
func (s *Subscription) Finished() bool {
	return s.from.at == atNumber && s.hasAll() && (s.isComplete() || s.feed.request.method != http.MethodGet)
}

// isUseless reports whether the viewer has all of a GET's feed that has broken off,
// so that only another request can bring the rest.
func (s *Subscription) isUseless() bool {
	if s.feed.request.method == http.MethodGet && s.hasAll() && !s.isComplete() {
		s.Close()
		return true
	}
	return false
}

func (s *Subscription) hasAll() bool {
	s.feed.publishing.Lock()
	defer s.feed.publishing.Unlock()
	return s.feed.isOver() && s.from.n >= s.feed.count
}

func (s *Subscription) isComplete() bool {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	return s.feed.complete
}

// SetHeader adds the header of the backend's response to a viewer's, without what
// describes the backend's body and connection.
func (s *Subscription) SetHeader(h http.Header) {
	f := s.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	subrequest.CopyHeader(h, f.header)
	for _, name := range []string{"Content-Encoding", "Content-Range", "Accept-Ranges", "Etag", "Last-Modified", "Date", "Age", "Expires", "Server"} {
		h.Del(name)
	}
	if s.first && f.request.shared == nil {
		h["Set-Cookie"] = append(h["Set-Cookie"], f.header["Set-Cookie"]...)
	}
	if url := s.resumeURL(); url != "" {
		h.Set("Content-Location", url) // RFC 9110 §8.7
	}
}

// resumeURL returns the URL from which the viewer of a POST resumes; empty for a GET.
func (s *Subscription) resumeURL() string {
	if s.feed.request.method == http.MethodGet {
		return ""
	}
	return s.feed.request.resumeURL(s.feed.token)
}

// Source returns the source of the viewer's stream.
func (s *Subscription) Source() stream.Source {
	f := s.feed
	f.publishing.Lock()
	defer f.publishing.Unlock()
	src := stream.Source{Done: f.done}
	if f.request.shared == nil {
		src.Wrap, src.NoPosition = f.send, true // streams with a Wrap share no batches
	}
	switch s.from.at {
	case atHead:
		src.Cursor = f.hub.Subscribe(f.topics)
	case atSeq:
		src.Cursor, src.Start = f.hub.SubscribeAfter(f.topics, s.from.seq), stream.Resumed
	case atLast:
		s.after(&src, max(f.count-s.from.n, 0))
	case afterLoss:
		s.after(&src, 0)
		src.Start = stream.Lost
		src.Initial = []*store.Entry{stream.ResetWithoutPosition()}
	default:
		if s.from.isID {
			src.Start = stream.Resumed
		}
		s.after(&src, s.from.n)
		s.addResumeEvent(&src)
	}
	return src
}

// after sets the cursor of a source after the event with a number. If the history no
// longer holds the next one, the source begins with a reset and what is left.
func (s *Subscription) after(src *stream.Source, n int) {
	f := s.feed
	seq, ok := f.hub.Resolve(position(f.token, n+1), f.topics)
	switch {
	case n == f.count:
		f.acknowledge(n)
		src.Cursor = f.hub.Subscribe(f.topics)
	case n < f.count && ok:
		f.acknowledge(n)
		src.Cursor = f.hub.SubscribeAfter(f.topics, seq-1)
	default:
		src.Cursor, src.Start = f.hub.SubscribeAll(f.topics), stream.Lost
		src.Initial = append(src.Initial, stream.ResetWithoutPosition())
	}
}

// addResumeEvent adds the event with the URL from which the viewer of a POST resumes.
func (s *Subscription) addResumeEvent(src *stream.Source) {
	name := s.feed.config.ResumeEvent
	if name == "" || s.from.n > 0 || s.resumeURL() == "" {
		return
	}
	data, _ := json.Marshal(map[string]string{"url": s.resumeURL()}) // two strings always marshal
	e := event.Event{ID: position(s.feed.token, 0), Name: name, Data: data}
	if frame, err := e.Encode(); err == nil {
		src.Initial = append(src.Initial, &store.Entry{Frame: frame})
	}
}
