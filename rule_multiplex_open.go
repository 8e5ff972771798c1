package caddysse

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// openTimeout limits how long a multiplexed stream waits for its URLs. It is longer
// than the default timeout of a poll.
const openTimeout = 15 * time.Second

// multiplexed is one multiplexed stream: the requests for its URLs, which pass through
// the site's routes as if the client had sent them.
type multiplexed struct {
	rule  *multiplexRule
	urls  []*urlPart
	slots sharedSlots

	// origin is that of the page of another origin that has opened the stream and may
	// read it; otherwise it is empty. withCredentials says that the page may do so with
	// its user's credentials.
	origin          string
	withCredentials bool
}

// urlPart is the request for one URL. Its nil value is that of any other request.
type urlPart struct {
	stream *multiplexed
	multiplexedURL

	mu         sync.Mutex
	over       bool           // what comes now is too late
	source     *stream.Source // nil until a rule offers it
	end        func(stream.Reason)
	maxAge     time.Duration
	finished   string        // see setFinished
	status     int           // of the response
	reason     string        // of a refusal by a rule
	retryAfter time.Duration // of the response
	tokenInURL bool
}

type partKey struct{}

// partOf returns the part of a multiplexed stream that a request is for, or nil.
func partOf(r *http.Request) *urlPart {
	p, _ := r.Context().Value(partKey{}).(*urlPart)
	return p
}

// open requests all URLs at once, and returns when they have answered, or are late.
func (m *multiplexRule) open(w http.ResponseWriter, r *http.Request, server *caddyhttp.Server, urls []multiplexedURL) *multiplexed {
	s := &multiplexed{rule: m}
	if origin := r.Header.Get("Origin"); origin != "" && w.Header().Get("Access-Control-Allow-Origin") != "" {
		s.origin, s.withCredentials = origin, w.Header().Get("Access-Control-Allow-Credentials") != ""
	}
	ctx, cancel := context.WithTimeout(r.Context(), openTimeout)
	defer cancel()
	var answered sync.WaitGroup
	for _, u := range urls {
		p := &urlPart{stream: s, multiplexedURL: u}
		s.urls = append(s.urls, p)
		request := p.request(ctx, r)
		answered.Go(func() { p.serve(server, request) })
	}
	all := make(chan struct{})
	go func() {
		answered.Wait()
		close(all)
	}()
	select {
	case <-all:
	case <-ctx.Done():
	}
	return s
}

// request returns the request for the URL that the client would send if it opened it
// alone. The position is that of the whole stream.
func (p *urlPart) request(ctx context.Context, r *http.Request) *http.Request {
	req := r.Clone(context.WithValue(ctx, partKey{}, p))
	req.Method, req.URL, req.RequestURI = http.MethodGet, p.url, p.url.RequestURI()
	req.Body, req.ContentLength, req.TransferEncoding, req.Trailer = http.NoBody, 0, nil, nil
	for _, name := range []string{"Content-Length", "Content-Type", "Content-Encoding", "Last-Event-ID"} {
		req.Header.Del(name)
	}
	req.Header.Set("Accept", stream.MediaType)
	if position := stream.LastEventID(r); position != "" {
		req.Header.Set("Last-Event-ID", position)
	}
	return req
}

// serve sends the request through the site's routes.
func (p *urlPart) serve(server *caddyhttp.Server, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	w := &partWriter{header: make(http.Header), part: p, cancel: cancel}
	defer func() {
		switch panicked := recover(); panicked {
		case nil:
		case http.ErrAbortHandler:
			p.respond(http.StatusBadGateway, nil)
		default:
			p.respond(http.StatusInternalServerError, nil)
			p.stream.rule.log.Error("handler panicked", zap.Any("panic", panicked), zap.Stack("stack"))
		}
	}()
	server.ServeHTTP(w, r.WithContext(ctx))
}

// offer takes the stream that a rule would send in response to the request, or
// refuses it.
func (p *urlPart) offer(s *ruleStreams, w http.ResponseWriter, r *http.Request, src stream.Source, end func(stream.Reason)) {
	refused := p.check(s, w, &src)
	if refused == nil && p.take(src, s.options.MaxAge, end) {
		stream.WriteHeader(w, r, &s.options)
		return
	}
	src.Cursor.Close()
	end(stream.ClientLeft)
	if refused != nil {
		_ = s.refuse(w, r, refused) // it is always written
	}
}

// check returns why the stream of a rule can't be a part.
func (p *urlPart) check(s *ruleStreams, w http.ResponseWriter, src *stream.Source) error {
	m := p.stream
	switch {
	case s.hub != m.rule.hub:
		return refusal.Newf(http.StatusMisdirectedRequest, "the URL is on the hub %s, and the multiplexed stream on %s: open it alone", s.id.hub, m.rule.id.hub)
	case !m.mayRead(w.Header()):
		return refusal.Newf(http.StatusForbidden, "pages of other origins may not read the URL: see cors")
	case !leavesText(w):
		return refusal.Newf(http.StatusNotImplemented, "a handler before the rule may change what the URL sends: open it alone")
	case src.Granted != nil && !src.Granted.IsSet():
		return refusal.Newf(http.StatusServiceUnavailable, "the backend can't authorize the subscription now")
	}
	return nil
}

// mayRead reports whether the page that has opened the stream may read a response with
// these headers.
func (m *multiplexed) mayRead(header http.Header) bool {
	if m.origin == "" {
		return true
	}
	allowed := header.Get("Access-Control-Allow-Origin")
	if m.withCredentials {
		return allowed == m.origin && header.Get("Access-Control-Allow-Credentials") == "true"
	}
	return allowed == m.origin || allowed == "*"
}

func (p *urlPart) take(src stream.Source, maxAge time.Duration, end func(stream.Reason)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.source != nil {
		return false
	}
	p.source, p.maxAge, p.end = &src, maxAge, end
	return true
}

// setFinished records that the client has all events of the URL, which the tag of the
// topic proves.
func (p *urlPart) setFinished(topic string) {
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.finished = topic
	}
}

// setReason records why a rule refuses the URL.
func (p *urlPart) setReason(reason string) {
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.reason = reason
	}
}

// setTokenInURL records that the URL must not be logged.
func (p *urlPart) setTokenInURL() {
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.tokenInURL = true
	}
}

// maxRetryAfter limits for how long a URL may ask its client to stay away.
const maxRetryAfter = time.Hour

// respond records the status of the response, and for how long its headers, which may
// be nil, ask the client to stay away. It returns false if a rule has offered its
// stream.
func (p *urlPart) respond(status int, header http.Header) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.status == 0 {
		p.status, p.retryAfter = status, subrequest.RetryAfter(header, time.Now(), maxRetryAfter)
	}
	return p.source == nil
}

// part returns the result of the request. Nothing that comes later counts.
func (p *urlPart) part() (stream.Part, multiplexResult) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	part := stream.Part{URL: p.text, Source: p.source, Finished: p.finished}
	switch {
	case p.source != nil:
		part.Finished = ""
		return part, urlOpened
	case p.finished != "":
		return part, urlFinished
	case p.status == 0 && p.reason == "":
		part.Refused = &stream.Refusal{Status: http.StatusGatewayTimeout, Reason: "the URL has not answered in time"}
	case p.status < 300 && p.reason == "":
		part.Refused = &stream.Refusal{Status: http.StatusNotAcceptable, Reason: "no rule makes the URL live"}
	default:
		part.Refused = &stream.Refusal{Status: p.status, Reason: p.reason, RetryAfter: p.retryAfter}
		if p.reason == "" {
			part.Refused.Reason = http.StatusText(p.status)
		}
	}
	return part, urlRefused
}

func (s *multiplexed) parts() []stream.Part {
	parts := make([]stream.Part, len(s.urls))
	for i, p := range s.urls {
		var result multiplexResult
		parts[i], result = p.part()
		s.rule.opened[result].Inc()
	}
	return parts
}

// end ends the streams of the URLs.
func (s *multiplexed) end(reason stream.Reason) {
	for _, p := range s.urls {
		p.mu.Lock()
		p.over = true
		end := p.end
		p.mu.Unlock()
		if end != nil {
			p.source.Cursor.Close()
			end(reason)
		}
	}
}

func (s *multiplexed) hasTokenInURL() bool {
	for _, p := range s.urls {
		p.mu.Lock()
		has := p.tokenInURL
		p.mu.Unlock()
		if has {
			return true
		}
	}
	return false
}

// maxAge returns the shortest max_age of the rules of the URLs and of the stream's
// own; zero if none has any.
func (s *multiplexed) maxAge(own time.Duration) time.Duration {
	for _, p := range s.urls {
		if p.maxAge > 0 && (own == 0 || p.maxAge < own) {
			own = p.maxAge
		}
	}
	return own
}

func (s *multiplexed) paths() []string {
	paths := make([]string, len(s.urls))
	for i, p := range s.urls {
		paths[i] = p.url.Path
	}
	return paths
}

// partWriter is the [http.ResponseWriter] of the request for a URL. It records the
// status and discards the body.
type partWriter struct {
	header http.Header
	part   *urlPart
	cancel context.CancelFunc
}

func (w *partWriter) Header() http.Header { return w.header }

// WriteHeader ends the request if the response is an ordinary one: the body, which
// may be endless, doesn't matter.
func (w *partWriter) WriteHeader(status int) {
	if isFinal(status) && w.part.respond(status, w.header) && status < 300 {
		w.cancel()
	}
}

func (w *partWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return len(b), nil
}

// FlushError and the following do nothing. They are called by
// [http.ResponseController].
func (w *partWriter) FlushError() error {
	w.WriteHeader(http.StatusOK)
	return nil
}

func (*partWriter) SetReadDeadline(time.Time) error  { return nil }
func (*partWriter) SetWriteDeadline(time.Time) error { return nil }
func (*partWriter) EnableFullDuplex() error          { return nil }

// sharedSlots are the slots that a multiplexed stream has in the limits of the rules
// of its URLs: one of each, whatever the number of URLs. The zero value is ready to
// use.
type sharedSlots struct {
	mu    sync.Mutex
	slots map[*streamCount]*sharedSlot
}

type sharedSlot struct {
	acquire sync.Once
	release func(stream.Reason)
	err     error
	urls    int // that hold it, or wait for it
}

// acquire acquires a slot, unless the stream has it already.
func (s *sharedSlots) acquire(of *streamCount, acquire func() (func(stream.Reason), error)) (release func(stream.Reason), err error) {
	slot := s.join(of)
	slot.acquire.Do(func() { slot.release, slot.err = acquire() })
	leave := func(reason stream.Reason) {
		if s.leave(of, slot) && slot.err == nil {
			slot.release(reason)
		}
	}
	if slot.err != nil {
		leave("")
		return nil, slot.err
	}
	return leave, nil
}

func (s *sharedSlots) join(of *streamCount) *sharedSlot {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot := s.slots[of]
	if slot == nil {
		if s.slots == nil {
			s.slots = make(map[*streamCount]*sharedSlot)
		}
		slot = new(sharedSlot)
		s.slots[of] = slot
	}
	slot.urls++
	return slot
}

// leave returns true if no URL holds the slot any more.
func (s *sharedSlots) leave(of *streamCount, slot *sharedSlot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slot.urls--; slot.urls > 0 {
		return false
	}
	if s.slots[of] == slot {
		delete(s.slots, of)
	}
	return true
}

// leavesText reports whether each writer around a part's leaves the text of a body as
// it is: it may compress the body. A recorder with a buffer, such as that of intercept
// and of templates, may keep a body back and replace it.
func leavesText(w http.ResponseWriter) bool {
	for {
		switch writer := w.(type) {
		case *partWriter:
			return true
		case *responseRecorder:
		case caddyhttp.ResponseRecorder:
			if writer.Buffer() != nil || typeName(w) != caddyhttpPath+".responseRecorder" {
				return false
			}
		default:
			if !leavesBody(w) && typeName(w) != encodeWriter {
				return false
			}
		}
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = wrapper.Unwrap()
	}
}
