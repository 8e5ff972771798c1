package poll_test

import (
	"encoding/json"
	"fmt"
	"net/http"
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

// The test takes random steps. No viewer may ever see another's document, and in
// the end each has the backend's current document for them.
func TestModelEveryViewerEndsWithTheirOwnDocument(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(drawStep), 1, 60).Draw(rt, "steps")
		linger := rapid.SampledFrom([]caddy.Duration{-1, 3 * second, 60 * second}).Draw(rt, "linger")
		var wrong []string
		synctest.Test(t, func(t *testing.T) {
			w := newViewModel(t, poll.Config{Interval: second, Linger: linger, Timeout: 3 * second})
			defer w.end()
			for _, s := range steps {
				w.apply(s)
			}
			wrong = w.finish()
		})
		if len(wrong) > 0 {
			rt.Fatalf("%q", wrong)
		}
	})
}

func drawStep(t *rapid.T) step {
	return step{
		Kind: rapid.SampledFrom([]string{"join", "join", "leave", "drop", "change", "change", "write", "fail", "recover", "slow", "vary", "busy", "wait", "wait"}).Draw(t, "kind"),
		N:    rapid.IntRange(0, 99).Draw(t, "n"),
	}
}

// viewModel is a backend with a document for each viewer. It identifies viewers by
// their headers.
type viewModel struct {
	*env
	faults
	versions map[string]int
	varies   bool
	clients  []*client
}

func newViewModel(t *testing.T, c poll.Config) *viewModel {
	w := &viewModel{env: newEnv(t, c, store.NewMemory()), versions: make(map[string]int)}
	w.setFunc(w.answer)
	return w
}

var credentialsOf = [][]string{
	{},
	{"Authorization", "a"},
	{"Authorization", "b"},
	{"Cookie", "a"},
	{"X-Tenant", "a"},
	{"Accept-Language", "de"},
	{"Accept-Language", "en"},
	{"Authorization", "a", "Accept-Language", "de"},
}

// owner returns the viewer whose document a request gets. The caller holds the
// mutex.
func (w *viewModel) owner(h http.Header) string {
	owner := fmt.Sprintf("%s/%s/%s", h.Get("Authorization"), h.Get("Cookie"), h.Get("X-Tenant"))
	if w.varies {
		owner += "/" + h.Get("Accept-Language")
	}
	return owner
}

func (w *viewModel) document(h http.Header) string {
	owner := w.owner(h)
	return fmt.Sprintf(`{"owner":%q,"version":%d}`, owner, w.versions[owner])
}

func (w *viewModel) answer(r *http.Request) (*subrequest.Response, error) {
	w.mu.Lock()
	body, tag := w.document(r.Header), ""
	failing, varies := w.failing, w.varies
	w.mu.Unlock()
	if err := w.delay(r); err != nil {
		return nil, err
	}
	if failing {
		return status(http.StatusServiceUnavailable), nil
	}
	resp := document(body)
	if varies {
		resp.Header.Set("Vary", "Accept-Language")
	}
	if tag = fmt.Sprintf("%q", body); tag == r.Header.Get("If-None-Match") {
		resp.Status, resp.Body = http.StatusNotModified, nil
	}
	resp.Header.Set("Etag", tag)
	return resp, nil
}

func (w *viewModel) apply(s step) {
	switch s.Kind {
	case "join":
		w.join(credentialsOf[s.N%len(credentialsOf)])
	case "leave":
		w.pick(s.N, func(c *client) { c.leave() })
	case "drop":
		w.pick(s.N, func(c *client) { c.drop() })
	case "change":
		w.change(func() {
			h := newRequest("/doc", credentialsOf[s.N%len(credentialsOf)]...).Header
			w.versions[w.owner(h)]++
		})
	case "write":
		w.Invalidate("example.com", "/doc")
	case "vary":
		w.change(func() { w.varies = true })
	case "busy":
		w.hub.SetHistory(store.History{MaxEvents: 1 + s.N%10})
	case "wait":
		time.Sleep(time.Duration(s.N) * 37 * ms)
	}
	w.setFaults(s)
	if s.N%2 == 0 {
		synctest.Wait()
	}
}

func (w *viewModel) pick(n int, f func(*client)) {
	if len(w.clients) > 0 {
		f(w.clients[n%len(w.clients)])
	}
}

// finish ends all faults, waits until nothing changes, and returns the violations.
func (w *viewModel) finish() (wrong []string) {
	w.recover()
	w.hub.SetHistory(store.History{})
	time.Sleep(time.Minute) // more than the longest backoff
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, c := range w.clients {
		c.mu.Lock()
		wrong = append(wrong, c.wrong...)
		if want := w.document(c.request.Header); c.open && (c.last != want || c.stale) {
			wrong = append(wrong, fmt.Sprintf("client %d (%v) has %s (stale: %v), want %s", i, c.request.Header, c.last, c.stale, want))
		}
		c.mu.Unlock()
	}
	return wrong
}

// client is a browser that remembers its last document.
type client struct {
	walker
	last  string
	stale bool
}

func (w *viewModel) join(headers []string) {
	c := new(client)
	c.request = newRequest("/doc", headers...)
	c.join = func(r *http.Request) (*poll.Subscription, *subrequest.Response, error) {
		return w.Subscribe(r, &caller{backend: w.backend})
	}
	c.refused = func(refused *subrequest.Response, err error) { c.complain("refused: %+v, %v", refused, err) }
	c.receive = c.learn
	w.clients = append(w.clients, c)
	c.start()
}

func (c *client) learn(e event.Event) {
	c.mu.Lock()
	c.stale = e.Name == "stale"
	if e.Name == "" {
		c.last = string(e.Data)
	}
	c.mu.Unlock()
	if e.Name == "" {
		c.check(e.Data)
	}
}

// check checks that a document is the client's own, or was so before the backend
// began to vary by language.
func (c *client) check(data []byte) {
	var doc struct{ Owner string }
	if err := json.Unmarshal(data, &doc); err != nil {
		c.complain("%s: %v", data, err)
		return
	}
	h := c.request.Header
	common := (&viewModel{}).owner(h)
	if own := (&viewModel{varies: true}).owner(h); doc.Owner != common && doc.Owner != own {
		c.complain("%v got %s", h, data)
	}
}

func (w *viewModel) end() {
	for _, c := range w.clients {
		c.leave()
	}
	w.env.end()
}
