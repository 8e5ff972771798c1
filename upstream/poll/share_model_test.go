package poll_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"pgregory.net/rapid"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/upstream/next"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// Whatever happens, nobody gets a version of a shared document that is from after
// they lost their stream and from before they were let in again; in the end who
// may see the document has it, and nobody else watches.
func TestNobodyGetsASharedDocumentFromWhileTheyWereRefused(t *testing.T) {
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
		rapid.SampledFrom([]string{
			"join", "join", "leave", "drop", "change", "change", "change", "write", "grant", "grant", "revoke", "revoke",
			"fail", "recover", "slow", "public", "private", "wait", "wait", "wait",
		}).Draw(t, "kind"),
		rapid.IntRange(0, 99).Draw(t, "n"),
	}
}

// guarded is a backend with one document for those whom it lets in at present.
type guarded struct {
	*env
	mu      sync.Mutex
	version int
	public  bool
	failing bool
	slow    time.Duration
	people  map[string]*person
	clients []*guest
}

// person is one of those whom the backend knows.
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

func (m *guarded) answer(r *http.Request) (*next.Response, error) {
	m.mu.Lock()
	slow := m.slow
	m.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
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
		m.Wrote("example.com", "/doc")
	case "grant":
		m.change(func() {
			who.allowed, who.refused = true, false
			delete(who.forbidden, m.version) // it is there now
		})
	case "revoke":
		m.change(func() { who.allowed = false })
	case "fail":
		m.change(func() { m.failing = true })
	case "recover":
		m.change(func() { m.failing, m.slow = false, 0 })
	case "slow":
		m.change(func() { m.slow = time.Duration(s.N) * 20 * ms })
	case "public", "private":
		m.change(func() { m.public = s.Kind == "public" })
	case "wait":
		time.Sleep(time.Duration(s.N) * 37 * ms)
	}
	if s.N%2 == 0 {
		synctest.Wait()
	}
}

// next makes a new version, and notes who must not get it. The caller holds the
// mutex.
func (m *guarded) next() {
	m.version++
	for _, p := range m.people {
		if p.refused {
			p.forbidden[m.version] = true
		}
	}
}

func (m *guarded) change(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func (m *guarded) pick(n int, f func(*guest)) {
	if len(m.clients) > 0 {
		f(m.clients[n%len(m.clients)])
	}
}

// settle lets everything come to rest, and tells what is wrong then.
func (m *guarded) settle() (wrong []string) {
	m.change(func() { m.failing, m.slow = false, 0 })
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

// guest is a client that comes back until it is closed, even if it is refused.
type guest struct {
	who     string
	ctx     context.Context
	close   context.CancelFunc
	gone    chan struct{}
	dropped chan struct{}
	lastID  string

	mu             sync.Mutex
	open, watching bool
	last           int
	wrong          []string
}

func (m *guarded) join(who string) {
	g := &guest{who: who, gone: make(chan struct{}), dropped: make(chan struct{}, 1), open: true}
	g.ctx, g.close = context.WithCancel(context.Background())
	m.clients = append(m.clients, g)
	go func() {
		defer close(g.gone)
		for g.ctx.Err() == nil {
			g.connect(m)
			select {
			case <-time.After(rand.N(time.Second)):
			case <-g.ctx.Done():
			}
		}
	}()
}

func (g *guest) connect(m *guarded) {
	viewing, refused, err := m.Join(as(g.who).WithContext(g.ctx), &caller{backend: m.backend})
	if err != nil || refused != nil {
		return
	}
	defer viewing.Leave()
	src := viewing.Source(g.lastID)
	defer src.Cursor.Close()
	g.watch(true)
	defer g.watch(false)
	if isClosed(src.Revoked) {
		return
	}
	g.receive(m, src.First)
	for over := false; !over; {
		select {
		case <-src.Cursor.Ready():
		case <-src.Revoked:
		case <-src.Done:
			over = true
		case <-g.dropped:
			return
		case <-g.ctx.Done():
			return
		}
		for more := true; more; more = !src.Cursor.Drained() {
			entries, err := src.Cursor.Next(100, nil)
			if isClosed(src.Revoked) {
				m.lost(g.who)
				return
			}
			if err != nil {
				return
			}
			g.receive(m, entries)
		}
	}
}

// lost notes that somebody has lost a stream.
func (m *guarded) lost(who string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.people[who]
	p.refused = !p.allowed
}

func (g *guest) watch(watching bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.watching = watching
}

func (g *guest) receive(m *guarded, entries []*store.Entry) {
	for _, e := range (&viewer{entries: entries}).events() {
		if e.ID != "" {
			g.lastID = e.ID
		}
		version, err := strconv.Atoi(string(e.Data))
		if err != nil {
			continue // stale
		}
		m.mu.Lock()
		forbidden := m.people[g.who].forbidden[version]
		m.mu.Unlock()
		g.mu.Lock()
		g.last = version
		if forbidden {
			g.wrong = append(g.wrong, fmt.Sprintf("%s got version %d, from while they were refused", g.who, version))
		}
		g.mu.Unlock()
	}
}

func (g *guest) leave() {
	g.close()
	<-g.gone
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = false
}

func (g *guest) drop() {
	select {
	case g.dropped <- struct{}{}:
	default:
	}
}
