package poll

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// documentState is what the newest polls of a view have found. The goroutine
// that polls is the only one that changes doc, at, stale and complete, and reads
// these without the mutex.
type documentState struct {
	incremental bool // the view sends changes, and not only whole documents

	mu sync.Mutex

	key    string          // the view's; empty when it admits no viewer any more
	shared bool            // the view's
	varies map[string]bool // headers that joined the key

	doc      *document      // the newest that the backend confirmed
	at       *store.Entry   // the event that brought it
	first    []*store.Entry // what a viewer without the document receives; usually the whole document, with the position of at, which may be a patch; in a shaped view what first says
	stale    *store.Entry   // set while the backend fails
	complete *store.Entry   // set when the document is finished

	finishedOn string // the topic of complete that proves which document is finished

	// Of a shaped view.
	base   uint64       // changes that are in the log after this position follow the document
	newest *store.Entry // at, or the fresh after it: a client that has it has all but stale and complete

	// Of the first poll, if it was no document.
	refusal      *subrequest.Response
	err          error         // why the document can't be polled
	checkFailure *checkFailure // with errUndecided
	polledAs     string        // the id of the principal of the last poll

	burstBegan time.Time // the first write of the newest burst
	lastWrite  time.Time
	doubtful   bool // a write may still change the document

	cached     *cachedResponse // for ordinary requests
	pollStatus pollStatus      // for the admin API
}

func (s *documentState) setKey(key string, shared bool, varies map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key, s.shared, s.varies = key, shared, varies
}

// variesNow returns the headers that joined the view's key. It is not changed.
func (s *documentState) variesNow() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.varies
}

func (s *documentState) isShared() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shared
}

// dropKey makes the view admit no viewer any more.
func (s *documentState) dropKey() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = ""
}

func (s *documentState) admits(t *target, digest func(...string) string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return digest(t.key(s.shared, s.varies)...) == s.key
}

func (s *documentState) currentKey() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key
}

func (s *documentState) isEmpty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at == nil && s.stale == nil && s.complete == nil
}

// fail records why the document can't be polled.
func (s *documentState) fail(err error, failure *checkFailure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.checkFailure = err, failure
}

func (s *documentState) setComplete(e *store.Entry, topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complete, s.finishedOn = e, topic
}

// completion returns the event that finished the document, or nil, and the topic
// of such events about this document.
func (s *documentState) completion() (e *store.Entry, topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete, s.finishedOn
}

// storeResponse stores a response for ordinary requests. One that can't answer
// them removes the stored one.
func (s *documentState) storeResponse(resp *subrequest.Response, result outcome, asked time.Time, digest func(...string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case result == notModified && s.cached != nil:
		confirmed := *s.cached
		confirmed.polled = asked
		s.cached = &confirmed
	case resp.Status == http.StatusOK && len(resp.Header["Set-Cookie"]) == 0 && !resp.OfSession:
		etag := resp.Header.Get("ETag")
		if etag == "" {
			sum := sha256.Sum256(resp.Body) // digest would copy the body
			etag = `"` + digest(string(sum[:])) + `"`
		}
		s.cached = &cachedResponse{resp.Header, s.sharedLocked(resp.Body), etag, asked}
	default:
		s.cached = nil
	}
}

// sharedLocked returns bytes that are kept already, if they are equal to the body.
func (s *documentState) sharedLocked(body []byte) []byte {
	switch {
	case s.doc != nil && bytes.Equal(body, s.doc.text):
		return s.doc.text
	case s.cached != nil && bytes.Equal(body, s.cached.body):
		return s.cached.body
	default:
		return body
	}
}

// fresh returns the stored response, or nil if it is older than maxAge or than a
// write, or if the write's effect may still come.
func (s *documentState) fresh(now time.Time, maxAge time.Duration) *cachedResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cached == nil || s.doubtful || now.Sub(s.cached.polled) > maxAge || !s.cached.polled.After(s.lastWrite) {
		return nil
	}
	return s.cached
}

func (s *documentState) hasKey(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.key == key
}

// refused returns the outcome of the first poll, if it was no document, and the
// id of the principal that it was made as.
func (s *documentState) refused() (resp *subrequest.Response, as string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refusal, s.polledAs, s.err
}

func (s *documentState) recordWrite() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if now.Sub(s.lastWrite) >= debounce {
		s.burstBegan = now
	}
	s.lastWrite = now
}

// setDoubtful sets whether a write may still change the document.
func (s *documentState) setDoubtful(doubtful bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubtful = doubtful
}

// writes returns the times of the first and of the last write of the newest
// burst.
func (s *documentState) writes() (began, newest time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.burstBegan, s.lastWrite
}

// recordPrincipal records as which principal the last poll was made.
func (s *documentState) recordPrincipal(as *principal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.polledAs = as.id
}

func (s *documentState) refuse(resp *subrequest.Response) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusal = resp
}

func (s *documentState) set(doc *document, at, stale *store.Entry) {
	first := s.first
	if doc != s.doc || at != s.at {
		first = nil
		var whole *store.Entry
		if doc, whole = s.makeWhole(doc, at); whole != nil {
			first = []*store.Entry{whole}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doc, s.at, s.first, s.stale = doc, at, first, stale
}

// makeWhole returns the event for viewers that have no document yet, and the
// document in that event's own bytes, so that there is one copy of them.
func (s *documentState) makeWhole(doc *document, at *store.Entry) (*document, *store.Entry) {
	if doc == nil || at == nil {
		return doc, nil
	}
	if shared, ok := doc.in(at.Frame); ok || !s.incremental || doc.json == nil { // text is always sent whole
		return shared, at
	}
	e := doc.event()
	e.ID = at.ID
	frame, err := e.Encode()
	if err != nil { // it was encoded before
		return doc, at
	}
	doc, _ = doc.in(frame)
	return doc, &store.Entry{Seq: at.Seq, Topics: at.Topics, ID: at.ID, Frame: frame}
}

func (s *documentState) isStale() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stale != nil
}

// snapshot returns the events for a viewer that has no document yet.
func (s *documentState) snapshot() []*store.Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := slices.Clone(s.first)
	for _, e := range []*store.Entry{s.stale, s.complete} {
		if e != nil {
			entries = append(entries, e)
		}
	}
	return entries
}

// setStatus records the status of the backend's last response.
func (s *documentState) setStatus(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pollStatus.status = status
}

// recordPoll records the outcome of a poll, when the next one is due, and which
// header of the response delays that one, if any.
func (s *documentState) recordPoll(result outcome, now, due time.Time, delayedBy string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pollStatus.polls++
	s.pollStatus.due, s.pollStatus.pause, s.pollStatus.delayedBy = due, due.Sub(now), delayedBy
	if result != failed && result != missing {
		s.pollStatus.polled = now
	}
	if result == changed {
		s.pollStatus.changed = now
	}
}
