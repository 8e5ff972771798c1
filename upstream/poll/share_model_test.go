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
					m := newGuarded(t, poll.Config{Interval: second, Linger: linger, Timeout: 3 * second, Share: share})
					defer m.end()
					for _, s := range steps {
						m.happen(s)
					}
					wrong = m.settle()
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

// guarded is a backend with one document for the viewers it authorizes at the
// time.
type guarded struct {
	*env
	moods
	version int
	public  bool
	people  map[string]*person
	clients []*guest
}

// person is a viewer that the backend knows.
type person struct {
	allowed   bool
	refused   bool         // has lost a stream since they were last let in
	forbidden map[int]bool // versions that were there only while they were refused
}

func newGuarded(t *testing.T, c poll.Config) *guarded {
	m := &guarded{env: newEnv(t, c, store.NewMemory()), public: true, people: make(map[string]*person)}
	for i := range 4 {
		m.people[fmt.Sprint("p", i)] = &person{allowed: i > 0, forbidden: make(map[int]bool)}
	}
	m.setFunc(m.answer)
	return m
}

func (m *guarded) answer(r *http.Request) (*subrequest.Response, error) {
	if err := m.dawdle(r); err != nil {
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

func (m *guarded) happen(s step) {
	who := m.people[fmt.Sprint("p", s.N%len(m.people))]
	switch s.Kind {
	case "join":
		m.join(fmt.Sprint("p", s.N%len(m.people)))
	case "leave":
		m.pick(s.N, func(g *guest) { g.leave() })
	case "drop":
		m.pick(s.N, func(g *guest) { g.drop() })
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
	m.swing(s)
	if s.N%2 == 0 {
		synctest.Wait()
	}
}

// next makes a new version, and records which viewers must not get it. The
// caller holds the mutex.
func (m *guarded) next() {
	m.version++
	for _, p := range m.people {
		if p.refused {
			p.forbidden[m.version] = true
		}
	}
}

func (m *guarded) pick(n int, f func(*guest)) {
	if len(m.clients) > 0 {
		f(m.clients[n%len(m.clients)])
	}
}

// settle waits until nothing happens any more, and returns what is wrong.
func (m *guarded) settle() (wrong []string) {
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
		allowed := m.people[g.who].allowed
		switch {
		case !g.open:
		case allowed && (!g.watching || g.last != m.version):
			wrong = append(wrong, fmt.Sprintf("client %d of %s has version %d (watching: %v), want %d", i, g.who, g.last, g.watching, m.version))
		case !allowed && g.watching:
			wrong = append(wrong, fmt.Sprintf("client %d of %s, who was refused, watches version %d", i, g.who, g.last))
		}
		g.mu.Unlock()
	}
	return wrong
}

func (m *guarded) end() {
	for _, g := range m.clients {
		g.leave()
	}
	m.env.end()
}

// guest is a client that reconnects even after a refusal.
type guest struct {
	walker
	who  string
	last int
}

func (m *guarded) join(who string) {
	g := &guest{who: who}
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
func (m *guarded) lost(who string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.people[who]
	p.refused = !p.allowed
}

func (g *guest) learn(m *guarded, e event.Event) {
	version, err := strconv.Atoi(string(e.Data))
	if err != nil {
		return // stale
	}
	m.mu.Lock()
	forbidden := m.people[g.who].forbidden[version]
	m.mu.Unlock()
	if forbidden {
		g.complain("%s got version %d, from while they were refused", g.who, version)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = version
}
