package poll_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/event/eventtest"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func TestMain(m *testing.M) {
	poll.Steady()
	goleak.VerifyTestMain(m)
}

// backend responds to polls, and records their times.
type backend struct {
	began time.Time

	mu       sync.Mutex
	answer   func(r *http.Request) (*subrequest.Response, error)
	takes    time.Duration
	requests []*http.Request
	at       []time.Duration
	running  int
	overlaps int
}

// document returns a response with a body. The headers are names and values in
// turn.
func document(body string, header ...string) *subrequest.Response {
	h := make(http.Header)
	for pair := range slices.Chunk(header, 2) {
		h.Add(pair[0], pair[1])
	}
	return &subrequest.Response{Status: http.StatusOK, Header: h, Body: []byte(body)}
}

func status(code int) *subrequest.Response {
	return &subrequest.Response{Status: code, Header: make(http.Header)}
}

// set makes the backend give this response to all later requests.
func (b *backend) set(resp *subrequest.Response) {
	b.setFunc(func(*http.Request) (*subrequest.Response, error) { return resp, nil })
}

func (b *backend) setError(err error) {
	b.setFunc(func(*http.Request) (*subrequest.Response, error) { return nil, err })
}

func (b *backend) setFunc(answer func(*http.Request) (*subrequest.Response, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func (b *backend) take(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.takes = d
}

func (b *backend) do(r *http.Request) (*subrequest.Response, error) {
	b.mu.Lock()
	b.requests = append(b.requests, r)
	b.at = append(b.at, time.Since(b.began))
	if b.running++; b.running > 1 {
		b.overlaps++
	}
	answer, takes := b.answer, b.takes
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.running--
	}()
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
	}
	return answer(r)
}

// polls returns the number of requests so far.
func (b *backend) polls() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.requests)
}

func (b *backend) last() *http.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.requests[len(b.requests)-1]
}

// caller is a poll.Requester that leads to the backend.
type caller struct {
	*backend
	user    string
	vars    map[string]string
	trusted bool

	original, client string

	clientIP        string
	clientIPHeaders []string
}

func (c *caller) Do(r *http.Request, _ int64) (*subrequest.Response, error) { return c.do(r) }
func (c *caller) User() string                                              { return c.user }
func (c *caller) Vars() map[string]string                                   { return c.vars }
func (c *caller) ViaTrustedProxy() bool                                     { return c.trusted }
func (c *caller) Original() subrequest.Original {
	u, err := url.Parse(c.original)
	if err != nil {
		panic(err)
	}
	return subrequest.Original{Method: http.MethodGet, URL: u}
}
func (c *caller) ClientIP() string          { return c.clientIP }
func (c *caller) ClientIPHeaders() []string { return c.clientIPHeaders }
func (c *caller) ClientNetwork() string     { return c.client }

// env is a poller, the hub that it publishes on and the backend that it polls.
type env struct {
	*poll.Poller
	*backend
	t       testing.TB
	hub     *hub.Hub
	leases  *poll.TopicLeases
	viewers []*viewer
}

// within runs a test with fake time. The backend's document is 1.
func within(t *testing.T, c poll.Config, test func(e *env)) {
	t.Helper()
	withinStore(t, c, store.NewMemory(), test)
}

func withinStore(t *testing.T, c poll.Config, s store.Store, test func(e *env)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newEnv(t, c, s)
		defer e.end()
		test(e)
	})
}

func newEnv(t testing.TB, c poll.Config, s store.Store) *env {
	return newEnvWith(t, c, s, zap.NewNop(), nil)
}

func newEnvWith(t testing.TB, c poll.Config, s store.Store, log *zap.Logger, o poll.Observer) *env {
	if err := c.Provision(); err != nil {
		t.Fatal(err)
	}
	h := hub.New(s, store.History{MaxEvents: 10000})
	e := &env{
		Poller:  poll.New(&c, h, log, o),
		backend: &backend{began: time.Now()},
		t:       t,
		hub:     h,
		leases:  c.Leases,
	}
	e.set(document("1"))
	return e
}

// end makes all viewers leave, and checks that the poller keeps nothing.
func (e *env) end() {
	for _, v := range e.viewers {
		v.leave()
	}
	e.Retire()
	synctest.Wait()
	if counted, _ := e.Memory(); counted != 0 {
		e.t.Errorf("%d bytes still count for max_memory", counted)
	}
	if !e.Done() || e.Views() > 0 || e.Known() > 0 || e.leases.Len() > 0 {
		e.t.Errorf("%d views, %d remembered things and %d topic leases are left", e.Views(), e.Known(), e.leases.Len())
	}
	if err := e.hub.Close(); err != nil {
		e.t.Error(err)
	}
}

// advance advances the fake time, and waits until all goroutines are idle.
func advance(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// newRequest returns a viewer's request. The headers are names and values in turn.
func newRequest(target string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Header.Set("Accept", "text/event-stream")
	for pair := range slices.Chunk(header, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	return r
}

// viewer is a client with an open stream. It records what it receives.
type viewer struct {
	cancel context.CancelFunc
	gone   chan struct{}

	mu      sync.Mutex
	entries []*store.Entry
	refused *subrequest.Response
	err     error
	ended   bool // by the source
	revoked bool
	moved   bool // to the next configuration
	at      []time.Duration
}

// subscribe opens a stream for a request, and waits until all goroutines are idle.
func (e *env) subscribe(r *http.Request) *viewer { return e.subscribeAs(r, new(caller), "") }

func (e *env) resume(r *http.Request, lastEventID string) *viewer {
	return e.subscribeAs(r, new(caller), lastEventID)
}

func (e *env) subscribeAs(r *http.Request, c *caller, lastEventID string) *viewer {
	v := e.start(r, c, lastEventID)
	synctest.Wait()
	return v
}

func (e *env) start(r *http.Request, c *caller, lastEventID string) *viewer {
	c.backend = e.backend
	ctx, cancel := context.WithCancel(context.Background())
	v := &viewer{cancel: cancel, gone: make(chan struct{})}
	e.viewers = append(e.viewers, v)
	go func() {
		defer close(v.gone)
		v.run(e, r.WithContext(ctx), c, lastEventID)
	}()
	return v
}

func (v *viewer) run(e *env, r *http.Request, c poll.Requester, lastEventID string) {
	viewing, refused, err := e.Subscribe(r, c)
	v.mu.Lock()
	v.refused, v.err = refused, err
	v.mu.Unlock()
	if refused != nil || err != nil {
		return
	}
	defer viewing.Close()
	src := viewing.Source(lastEventID)
	defer src.Cursor.Close()
	if !src.Revoked.IsSet() {
		v.took(e, src.Initial...)
	}
	for over := false; !over; {
		select {
		case <-src.Cursor.Ready():
		case <-src.Revoked.Done():
		case <-src.Moved.Done():
			v.mu.Lock()
			v.moved = true
			v.mu.Unlock()
			return
		case <-src.Done.Done():
			over = true
		case <-r.Context().Done():
			return
		}
		for more := true; more; more = !src.Cursor.CaughtUp() {
			entries, err := src.Cursor.Next(1000, nil)
			if err != nil {
				v.mu.Lock()
				v.err = err
				v.mu.Unlock()
				return
			}
			if src.Revoked.IsSet() {
				v.mu.Lock()
				v.revoked = true
				v.mu.Unlock()
				return
			}
			v.took(e, entries...)
		}
	}
	v.mu.Lock()
	v.ended = true
	v.mu.Unlock()
}

func (v *viewer) took(e *env, entries ...*store.Entry) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.entries = append(v.entries, entries...)
	for range entries {
		v.at = append(v.at, time.Since(e.began))
	}
}

func (v *viewer) leave() {
	v.cancel()
	<-v.gone
}

// events returns the events that the viewer has received.
func (v *viewer) events() (events []event.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, e := range v.entries {
		if !bytes.Contains(e.Frame, []byte("data: ")) {
			continue // a position alone
		}
		got, err := eventtest.NewDecoder(strings.NewReader(string(e.Frame)), 0).Next()
		if err != nil {
			panic(err)
		}
		events = append(events, got)
	}
	return events
}

// got returns the received events in short: the data of unnamed events, the name
// of named ones.
func (v *viewer) got() (got []string) {
	for _, e := range v.events() {
		got = append(got, cmp.Or(e.Name, string(e.Data)))
	}
	return got
}

func (v *viewer) want(t testing.TB, want ...string) {
	t.Helper()
	got := v.got()
	v.mu.Lock()
	defer v.mu.Unlock()
	if !slices.Equal(got, want) || v.refused != nil || v.err != nil {
		t.Errorf("the viewer got %q, want %q (refused: %+v, %v)", got, want, v.refused, v.err)
	}
}

func (v *viewer) lastID() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.entries[len(v.entries)-1].ID
}

// hasEnded reports whether the source has ended the stream.
func (v *viewer) hasEnded() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ended
}

// hasMoved reports whether the viewer was moved to the next configuration.
func (v *viewer) hasMoved() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.moved
}

// isRevoked reports whether a refusal has ended the stream.
func (v *viewer) isRevoked() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.revoked
}

// status returns the status of the refusal; 0 if there was none.
func (v *viewer) status() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.refused == nil {
		return 0
	}
	return v.refused.Status
}

const second = caddy.Duration(time.Second)

var errRefused = errors.New("connection refused")
