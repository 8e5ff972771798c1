package poll_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// sized returns a document of a size that begins with a digit.
func sized(size, digit int, header ...string) *subrequest.Response {
	return document(fmt.Sprintf(`"%d%s"`, digit, strings.Repeat("x", size-3)), header...)
}

// A kilobyte of document counts about 85 bytes more, for its event.
func TestViewBeyondMaxMemoryIsRefused(t *testing.T) {
	within(t, poll.Config{MaxBody: 2000, MaxMemory: 2500, Linger: -1}, func(e *env) {
		e.set(sized(1000, 1))
		first, second := e.subscribe(newRequest("/1")), e.subscribe(newRequest("/2"))
		for range 2 {
			e.subscribe(newRequest("/3")).wantRefusal(t, http.StatusServiceUnavailable)
		}
		e.set(sized(1000, 2))
		advance(3 * time.Second)
		for _, v := range []*viewer{first, second} {
			if got := v.got(); len(got) != 2 || got[1][:2] != `"2` {
				t.Errorf("a view got %d events: views stop at max_memory", len(got))
			}
		}
		first.leave()
		synctest.Wait()
		if got := e.subscribe(newRequest("/3")).got(); len(got) != 1 {
			t.Errorf("a view got %d events though there is room again", len(got))
		}
	})
}

func TestNoViewIsStartedWhenMaxMemoryIsFull(t *testing.T) {
	within(t, poll.Config{MaxBody: 1000, MaxMemory: 1085}, func(e *env) {
		e.set(sized(1000, 1))
		if got := e.subscribe(newRequest("/1")).got(); len(got) != 1 {
			t.Errorf("the view got %d events", len(got))
		}
		polls := e.polls()
		e.subscribe(newRequest("/2")).wantRefusal(t, http.StatusServiceUnavailable)
		if e.polls() > polls {
			t.Error("the backend was asked for a document that can't be kept")
		}
	})
}

func TestDocumentThatGrowsBeyondMaxMemoryIsStale(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	synctest.Test(t, func(t *testing.T) {
		e := newEnvWith(t, poll.Config{MaxBody: 2000, MaxMemory: 2500}, store.NewMemory(), zap.New(core), nil)
		defer e.end()
		e.set(sized(1000, 1))
		e.subscribe(newRequest("/1"))
		v := e.subscribe(newRequest("/2"))
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if r.URL.Path == "/1" {
				return sized(1000, 1), nil
			}
			return sized(1500, 2), nil
		})
		advance(5 * time.Second)
		if got := v.got(); len(got) != 2 || got[1] != "stale" || !strings.Contains(string(v.events()[1].Data), "503") {
			t.Errorf("got %d events, %.100q", len(got), v.events()[1:])
		}
		if logs.FilterField(zap.Int("status", 503)).Len() != 1 || !strings.Contains(fmt.Sprint(logs.All()[0].ContextMap()), "max_memory") {
			t.Errorf("logged: %v", logs.All())
		}
		e.set(sized(900, 3))
		advance(3 * time.Minute)
		if got := v.got(); len(got) != 3 || got[2][:2] != `"3` {
			t.Errorf("got %d events after the document became smaller", len(got))
		}
	})
}

// max_memory counts no less than a view keeps: the document as an event, whose bytes
// the document and an equal response share.
func TestMaxMemoryCountsWhatViewsKeep(t *testing.T) {
	large := strings.Repeat("0,", 5000)
	for name, c := range map[string]struct {
		poll.Config
		bodies [2]string
		copies float64 // of the last body, at most
	}{
		"full":                {poll.Config{}, [2]string{"[" + large + "1]", "[" + large + "2]"}, 1},
		"full, absorb":        {poll.Config{Absorb: true}, [2]string{"[" + large + "1]", "[" + large + "2]"}, 1},
		"with spaces, absorb": {poll.Config{Absorb: true}, [2]string{"[ " + large + "1]", "[ " + large + "2]"}, 2},
		"patch":               {poll.Config{Send: "patch"}, [2]string{"[" + large + "1]", "[" + large + "2]"}, 1},
		"patch, absorb":       {poll.Config{Send: "patch", Absorb: true}, [2]string{"[" + large + "1]", "[" + large + "2]"}, 1},
		"jq":                  {poll.Config{Send: "jq", SendArgument: "empty", First: "document"}, [2]string{"[" + large + "1]", "[" + large + "2]"}, 1},
		"named":               {poll.Config{Send: "patch", Event: "doc"}, [2]string{"[" + large + "1]", "[" + large + "2]"}, 1},
		"select":              {poll.Config{Select: ".[:10]", Absorb: true}, [2]string{"[" + large + "1]", "[2," + large + "1]"}, 1},
		"a program's":         {poll.Config{Send: "jq", SendArgument: "{data: .new}"}, [2]string{`{"a":"` + large + `1"}`, `{"a":"` + large + `2"}`}, 2},
		"text":                {poll.Config{Absorb: true}, [2]string{large + "1", large + "2"}, 1},
		"lines":               {poll.Config{}, [2]string{strings.Repeat("long lines\n", 1000), strings.Repeat("long lines\r\n", 1000)}, 3},
		"binary":              {poll.Config{}, [2]string{"\xff" + large, "\xfe" + large}, 1.5},
	} {
		within(t, c.Config, func(e *env) {
			e.set(document(c.bodies[0]))
			e.subscribe(newRequest("/1"))
			for i := range 4 {
				e.set(document(c.bodies[(i+1)%2]))
				advance(3 * time.Second)
				counted, kept := e.Memory()
				body := float64(len(c.bodies[(i+1)%2]))
				if counted < kept || float64(counted) > 1.05*float64(kept)+300 || float64(kept) > c.copies*body+300 {
					t.Errorf("%s: %d bytes are kept of a body of %v, and %d counted", name, kept, body, counted)
				}
			}
		})
	}
}

func TestTimeoutBoundsWorkOnDocument(t *testing.T) {
	core, logs := observer.New(zap.WarnLevel)
	c := poll.Config{Timeout: caddy.Duration(50 * time.Millisecond), Select: "[limit(1000000000000; repeat(1))] | length", Linger: -1}
	e := newEnvWith(t, c, store.NewMemory(), zap.New(core), nil)
	v := e.start(newRequest("/1"), new(caller), "")
	for len(logs.All()) == 0 {
		time.Sleep(time.Millisecond)
	}
	v.leave()
	e.Retire()
	for !e.Done() {
		time.Sleep(time.Millisecond)
	}
	if text := fmt.Sprint(logs.All()[0].ContextMap()); !strings.Contains(text, "longer than timeout") {
		t.Errorf("logged: %s", text)
	}
	if err := e.hub.Close(); err != nil {
		t.Error(err)
	}
}

// Each poll gives its permit to work back: otherwise the third one would wait.
func TestLargeDocumentIsPolledAgainAndAgain(t *testing.T) {
	within(t, poll.Config{MaxBody: 64 << 10}, func(e *env) {
		v := e.subscribe(newRequest("/1"))
		for i := range 6 {
			e.set(sized(64<<10, i))
			advance(3 * time.Second)
			if got := v.got(); len(got) != i+2 {
				t.Fatalf("the viewer got %d events after %d changes", len(got), i+1)
			}
		}
	})
}
