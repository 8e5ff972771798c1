package poll_test

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"pgregory.net/rapid"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// The test takes random steps. No viewer gets a version from between its refusal
// and its next authorization. In the end all authorized viewers have the
// document, and no others have a stream.
func TestModelRefusedViewerGetsNothingPublishedMeanwhile(t *testing.T) {
	for _, share := range []string{"checked", ""} {
		t.Run("share "+share, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				steps := rapid.SliceOfN(rapid.Custom(drawClubStep), 1, 60).Draw(rt, "steps")
				linger := rapid.SampledFrom([]caddy.Duration{-1, 3 * second, 60 * second}).Draw(rt, "linger")
				var wrong []string
				synctest.Test(t, func(t *testing.T) {
					m := newAccessModel(t, poll.Config{Interval: second, Linger: linger, Timeout: 3 * second, Share: share})
					defer m.end()
					for _, s := range steps {
						m.apply(s)
					}
					wrong = m.finish()
				})
				if len(wrong) > 0 {
					rt.Fatalf("%q", wrong)
				}
			})
		})
	}
}

func drawClubStep(t *rapid.T) step {
	return step{
		Kind: rapid.SampledFrom([]string{
			"join", "join", "leave", "drop", "change", "change", "change", "write", "grant", "grant", "revoke", "revoke",
			"fail", "recover", "slow", "public", "private", "wait", "wait", "wait",
		}).Draw(t, "kind"),
		N: rapid.IntRange(0, 99).Draw(t, "n"),
	}
}

// accessModel is a backend with one document for the viewers it authorizes at the
// time.
type accessModel struct {
	*env
	faults
	version int
	public  bool
	people  map[string]*person
	clients []*memberClient
}

// person is a viewer that the backend knows.
type person struct {
	allowed   bool
	refused   bool         // has lost a stream since they were last let in
	forbidden map[int]bool // versions that were there only while they were refused
}

func newAccessModel(t *testing.T, c poll.Config) *accessModel {
	m := &accessModel{env: newEnv(t, c, store.NewMemory()), public: true, people: make(map[string]*person)}
	for i := range 4 {
		m.people[fmt.Sprint("p", i)] = &person{allowed: i > 0, forbidden: make(map[int]bool)}
	}
	m.setFunc(m.answer)
	return m
}

func (m *accessModel) answer(r *http.Request) (*subrequest.Response, error) {
	if err := m.delay(r); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.failing:
		return status(http.StatusServiceUnavailable), nil
	case !m.people[r.Header.Get("Cookie")].allowed:
		return status(http.StatusForbidden), nil
	case m.public:
		return document(strconv.Itoa(m.version), "Cache-Control", "public"), nil
	default:
		return document(strconv.Itoa(m.version)), nil
	}
}

func (m *accessModel) apply(s step) {
	who := m.people[fmt.Sprint("p", s.N%len(m.people))]
	switch s.Kind {
	case "join":
		m.join(fmt.Sprint("p", s.N%len(m.people)))
	case "leave":
		m.pick(s.N, func(g *memberClient) { g.leave() })
	case "drop":
		m.pick(s.N, func(g *memberClient) { g.drop() })
	case "change":
		m.change(m.next)
	case "write":
		m.Invalidate("example.com", "/doc")
	case "grant":
		m.change(func() {
			who.allowed, who.refused = true, false
			delete(who.forbidden, m.version) // it is there now
		})
	case "revoke":
		m.change(func() { who.allowed = false })
	case "public", "private":
		m.change(func() { m.public = s.Kind == "public" })
	case "wait":
		time.Sleep(time.Duration(s.N) * 37 * ms)
	}
	m.setFaults(s)
	if s.N%2 == 0 {
		synctest.Wait()
	}
}

// next makes a new version, and records which viewers must not get it. The
// caller holds the mutex.
func (m *accessModel) next() {
	m.version++
	for _, p := range m.people {
		if p.refused {
			p.forbidden[m.version] = true
		}
	}
}

func (m *accessModel) pick(n int, f func(*memberClient)) {
	if len(m.clients) > 0 {
		f(m.clients[n%len(m.clients)])
	}
}

// finish ends all faults, waits until nothing changes, and returns the violations.
func (m *accessModel) finish() (wrong []string) {
	m.recover()
	time.Sleep(time.Minute) // the longest backoff, and a turn of polls
	m.change(m.next)
	time.Sleep(10 * time.Second)
	synctest.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, g := range m.clients {
		g.mu.Lock()
		wrong = append(wrong, g.wrong...)
		allowed := m.people[g.name].allowed
		switch {
		case !g.open:
		case allowed && (!g.streaming || g.last != m.version):
			wrong = append(wrong, fmt.Sprintf("client %d of %s has version %d (streaming: %v), want %d", i, g.name, g.last, g.streaming, m.version))
		case !allowed && g.streaming:
			wrong = append(wrong, fmt.Sprintf("client %d of %s, whom the backend refuses, has version %d", i, g.name, g.last))
		}
		g.mu.Unlock()
	}
	return wrong
}

func (m *accessModel) end() {
	for _, g := range m.clients {
		g.leave()
	}
	m.env.end()
}

// memberClient is a client that reconnects even after a refusal.
type memberClient struct {
	walker
	name string
	last int
}

func (m *accessModel) join(who string) {
	g := &memberClient{name: who}
	g.request = as(who)
	g.join = func(r *http.Request) (*poll.Subscription, *subrequest.Response, error) {
		return m.Subscribe(r, &caller{backend: m.backend})
	}
	g.receive = func(e event.Event) { g.learn(m, e) }
	g.revoked = func() { m.lost(who) }
	m.clients = append(m.clients, g)
	g.start()
}

// lost records that a viewer has lost a stream.
func (m *accessModel) lost(who string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.people[who]
	p.refused = !p.allowed
}

func (g *memberClient) learn(m *accessModel, e event.Event) {
	version, err := strconv.Atoi(string(e.Data))
	if err != nil {
		return // stale
	}
	m.mu.Lock()
	forbidden := m.people[g.name].forbidden[version]
	m.mu.Unlock()
	if forbidden {
		g.complain("%s got version %d, from while they were refused", g.name, version)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = version
}
