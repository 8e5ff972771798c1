package poll_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
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

// The test takes random steps in each mode of send. In the end a client's copy
// equals the backend's document, and each event on the way fits the copy.
func TestModelEveryCopyEndsEqualToBackendsDocument(t *testing.T) {
	for _, send := range []string{"full", "patch", "merge", "items id", "jq"} {
		t.Run(send, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				steps := rapid.SliceOfN(rapid.Custom(drawSceneStep(send == "items id")), 1, 60).Draw(rt, "steps")
				for i := range steps {
					if send == "jq" { // which keeps the last of two members of a name
						steps[i].Doc = strings.ReplaceAll(steps[i].Doc, `{"a":1,"a":2}`, `{"a":2}`)
					}
				}
				linger := rapid.SampledFrom([]caddy.Duration{-1, 3 * second, 60 * second}).Draw(rt, "linger")
				var wrong []string
				synctest.Test(t, func(t *testing.T) {
					s := newCopyModel(t, config{Interval: second, Max: 4 * second, Linger: linger, Timeout: 3 * second}.with(send))
					defer s.end()
					for _, step := range steps {
						s.apply(step)
					}
					wrong = s.finish()
				})
				if len(wrong) > 0 {
					rt.Fatalf("%s", strings.Join(wrong, "\n"))
				}
			})
		})
	}
}

func drawSceneStep(list bool) func(*rapid.T) step {
	return func(t *rapid.T) step {
		th := step{
			Kind: rapid.SampledFrom([]string{
				"join", "join", "leave", "drop", "drop", "change", "change", "change", "change", "write", "fail", "recover",
				"slow", "busy", "full disk", "disk", "reload", "wait", "wait",
			}).Draw(t, "kind"),
			N: rapid.IntRange(0, 99).Draw(t, "n"),
		}
		if th.Kind == "change" {
			th.Doc = drawDoc(t, list)
		}
		return th
	}
}

const filler = "what makes a document longer than most of what can be said of its changes"

// drawDoc returns documents that have much in common, and sometimes nothing.
func drawDoc(t *rapid.T, list bool) string {
	var doc any
	switch odd := rapid.IntRange(0, 15).Draw(t, "odd"); {
	case odd == 0:
		return rapid.SampledFrom([]string{"null", "1", "[]", "{}", "<html>", "", `"x"`, `{"a":1,"a":2}`, `[{"id":1},{"id":1}]`}).Draw(t, "doc")
	case list:
		items := []any{}
		for _, id := range rapid.SliceOfNDistinct(rapid.IntRange(1, 6), 0, 6, rapid.ID[int]).Draw(t, "ids") {
			items = append(items, map[string]any{"id": id, "v": drawMember(t), "note": filler})
		}
		doc = items
	default:
		members := map[string]any{"note": filler}
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b/c", "m~n", "d"}), 0, 4, rapid.ID[string]).Draw(t, "names") {
			members[name] = drawMember(t)
		}
		doc = members
	}
	text, err := json.Marshal(doc)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func drawMember(t *rapid.T) any {
	switch rapid.IntRange(0, 4).Draw(t, "member") {
	case 0:
		return nil
	case 1:
		return map[string]any{"x": rapid.IntRange(0, 2).Draw(t, "x"), "y": json.Number("12345678901234567890.10")}
	case 2:
		return rapid.SliceOfN(rapid.IntRange(0, 3), 0, 5).Draw(t, "array")
	default:
		return rapid.IntRange(0, 3).Draw(t, "number")
	}
}

// copyModel is a backend with one document for all viewers.
type copyModel struct {
	*env
	disk *flakyStore
	c    poll.Config

	faults
	doc     string
	clients []*copier
	before  []*env // retired
	wrong   []string
}

func newCopyModel(t *testing.T, c poll.Config) *copyModel {
	disk := &flakyStore{Memory: store.NewMemory()}
	s := &copyModel{env: newEnv(t, c, disk), disk: disk, c: c, doc: "[]"}
	s.setFunc(s.answer)
	return s
}

func (s *copyModel) answer(r *http.Request) (*subrequest.Response, error) {
	s.mu.Lock()
	body, failing := s.doc, s.failing
	s.mu.Unlock()
	if err := s.delay(r); err != nil {
		return nil, err
	}
	tag := fmt.Sprintf("%q", body)
	switch {
	case failing:
		return status(http.StatusServiceUnavailable), nil
	case r.Header.Get("If-None-Match") == tag:
		return status(http.StatusNotModified), nil
	default:
		return document(body, "Etag", tag), nil
	}
}

func (s *copyModel) apply(th step) {
	switch th.Kind {
	case "join":
		s.join()
	case "leave":
		s.pick(th.N, func(c *copier) { c.leave() })
	case "drop":
		s.pick(th.N, func(c *copier) { c.drop() })
	case "change":
		s.change(func() { s.doc = th.Doc })
	case "write":
		s.current().Invalidate("example.com", "/doc")
	case "busy":
		s.hub.SetHistory(store.History{MaxEvents: 1 + th.N%10})
		_, _, _ = s.hub.Publish([]string{"elsewhere"}, event.Event{Data: []byte("x")})
	case "full disk":
		s.disk.broken.Store(true)
	case "disk":
		s.disk.broken.Store(false)
	case "reload":
		s.reload()
	case "wait":
		time.Sleep(time.Duration(th.N) * 67 * ms)
	}
	s.setFaults(th)
	if th.N%2 == 0 {
		synctest.Wait()
	}
}

func (s *copyModel) pick(n int, f func(*copier)) {
	if len(s.clients) > 0 {
		f(s.clients[n%len(s.clients)])
	}
}

func (s *copyModel) current() *poll.Poller {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Poller
}

// reload replaces the poller. Streams move when they are dropped.
func (s *copyModel) reload() {
	now := s.successor(s.c)
	now.backend = s.backend
	s.mu.Lock()
	old := s.Poller
	s.before = append(s.before, &env{Poller: old, t: s.t})
	s.Poller = now.Poller
	s.mu.Unlock()
	old.Retire()
}

// finish ends all faults, waits until nothing changes, and returns the violations.
func (s *copyModel) finish() []string {
	s.recover()
	s.disk.broken.Store(false)
	s.hub.SetHistory(store.History{})
	s.change(func() {
		if !json.Valid([]byte(s.doc)) { // a client of JSON keeps the last document
			s.doc = `[{"id":7}]`
		}
	})
	time.Sleep(2 * time.Minute) // the longest backoff
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.clients {
		c.mu.Lock()
		if c.open && (c.copy.stale || c.copy.reset || !c.copy.has([]byte(s.doc))) {
			s.wrong = append(s.wrong, fmt.Sprintf("client %d has %s %s (stale: %v, reset: %v), want %s, after %q", i, c.copy.doc, c.copy.items, c.copy.stale, c.copy.reset, s.doc, c.log))
		}
		s.wrong = append(s.wrong, c.wrong...)
		c.mu.Unlock()
	}
	return s.wrong
}

func (s *copyModel) end() {
	for _, c := range s.clients {
		c.leave()
	}
	for _, old := range s.before {
		old.over()
	}
	s.env.end()
}

// copier is a client that maintains a copy.
type copier struct {
	walker
	copy copyOf
	log  []string
}

func (s *copyModel) join() {
	c := new(copier)
	c.request = newRequest("/doc")
	c.join = func(r *http.Request) (*poll.Subscription, *subrequest.Response, error) {
		return s.current().Subscribe(r, &caller{backend: s.backend})
	}
	c.receive = c.apply
	s.clients = append(s.clients, c)
	c.start()
}

func (c *copier) apply(e event.Event) {
	c.mu.Lock()
	err, log := c.copy.apply(e), c.log
	c.log = append(c.log, e.ID+" "+e.Name+" "+string(e.Data))
	c.mu.Unlock()
	if err != nil {
		c.complain("%s %s (%s): %v, after %q", e.Name, e.Data, e.ID, err, log)
	}
}
