package hub_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/store/shared"
	"github.com/caddy-sse/caddy-sse/store/shared/enginetest"
)

// node returns a hub whose log is on an engine.
func node(t *testing.T, e *enginetest.Memory) *hub.Hub {
	t.Helper()
	h := hub.New(shared.Open(e.Connect(), shared.Options{}), store.History{MaxEvents: 1000})
	h.SetHistory(store.History{MaxEvents: 1000})
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func say(text string) []hub.Message {
	return []hub.Message{{Topics: []string{"a"}, Event: event.Event{Data: []byte(text)}}}
}

func emit(t *testing.T, h *hub.Hub, text string) string {
	t.Helper()
	o, err := h.PublishAll(say(text), hub.IdempotencyKey{})
	if err != nil {
		t.Fatal(err)
	}
	return o.IDs[0]
}

// texts returns the data of the events that a cursor reads.
func texts(t *testing.T, c *hub.Cursor) []string {
	t.Helper()
	entries, err := c.Next(1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		data, _ := e.Frame.DataOf("")
		got = append(got, string(data))
	}
	return got
}

func TestEventOfOneNodeReachesSubscribersOfAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.NewMemory()
		a, b := node(t, e), node(t, e)
		cursors := []*hub.Cursor{a.Subscribe([]string{"a"}), b.Subscribe([]string{"a"})}
		emit(t, a, "one")
		emit(t, b, "two")
		synctest.Wait()
		for _, c := range cursors {
			<-c.Ready()
			if got := texts(t, c); !slices.Equal(got, []string{"one", "two"}) {
				t.Errorf("read %q", got)
			}
			c.Close()
		}
	})
}

func TestPositionOfOneNodeIsGoodOnAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.NewMemory()
		a, b := node(t, e), node(t, e)
		id := emit(t, a, "one")
		emit(t, a, "two")
		seq, ok := b.Resolve(id, []string{"a"}) // waits for b's copy
		if !ok {
			t.Fatalf("%s is unknown", id)
		}
		c := b.SubscribeAfter([]string{"a"}, seq)
		defer c.Close()
		synctest.Wait()
		if got := texts(t, c); !slices.Equal(got, []string{"two"}) {
			t.Errorf("read %q", got)
		}
		late := node(t, e)
		if again, ok := late.Resolve(id, []string{"a"}); !ok || again != seq {
			t.Errorf("on a later node it is %d, %v, want %d", again, ok, seq)
		}
	})
}

func TestDeliveryToAllNodesAtOnceIsPublishedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.NewMemory()
		nodes := []*hub.Hub{node(t, e), node(t, e), node(t, e)}
		c := nodes[0].Subscribe([]string{"a"})
		defer c.Close()
		const deliveries = 50
		ids := make([][3]string, deliveries)
		fresh := make([][3]bool, deliveries)
		var publishing sync.WaitGroup
		for d := range deliveries {
			for n, h := range nodes {
				publishing.Go(func() {
					o, err := h.PublishAll(say(fmt.Sprint(d)), hub.IdempotencyKey{Scope: "s", ID: fmt.Sprint(d)})
					if err != nil {
						t.Error(err)
						return
					}
					ids[d][n], fresh[d][n] = o.IDs[0], !o.Duplicate
				})
			}
		}
		publishing.Wait()
		synctest.Wait()
		for d := range deliveries {
			if ids[d][0] != ids[d][1] || ids[d][1] != ids[d][2] {
				t.Errorf("delivery %d has the ids %q", d, ids[d])
			}
			if n := len(slices.DeleteFunc(fresh[d][:], func(f bool) bool { return !f })); n != 1 {
				t.Errorf("delivery %d was published %d times", d, n)
			}
		}
		if got := texts(t, c); len(got) != deliveries {
			t.Errorf("%d events are in the log: %q", len(got), got)
		}
	})
}

func TestSameIDOnTwoNodesIsPublishedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.NewMemory()
		a, b := node(t, e), node(t, e)
		var publishing sync.WaitGroup
		duplicates := make([]bool, 2)
		for i, h := range []*hub.Hub{a, b} {
			publishing.Go(func() {
				entry, dup, err := h.Publish([]string{"a"}, event.Event{ID: "mine", Data: []byte("x")})
				if err != nil || entry.ID != "mine" {
					t.Errorf("published %+v, %v", entry, err)
				}
				duplicates[i] = dup
			})
		}
		publishing.Wait()
		if duplicates[0] == duplicates[1] {
			t.Errorf("duplicates: %v", duplicates)
		}
		other, dup, err := b.Publish([]string{"b"}, event.Event{ID: "mine", Data: []byte("x")})
		if err != nil || dup || other.ID == "mine" {
			t.Errorf("on another topic it is %+v, %v, %v", other, dup, err)
		}
	})
}

func TestLostAnswerOfEnginePublishesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.NewMemory()
		a := node(t, e)
		c := a.Subscribe([]string{"a"})
		defer c.Close()
		e.LoseAnswers(2)
		emit(t, a, "one")
		emit(t, a, strings.Repeat("x", 20_000)) // several messages
		time.Sleep(time.Minute)
		if got := texts(t, c); len(got) != 2 || got[0] != "one" {
			t.Errorf("read %d events: %q", len(got), got)
		}
	})
}

func TestEngineOutageRefusesEventsUntilItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.NewMemory()
		a, b := node(t, e), node(t, e)
		first := emit(t, a, "one")
		synctest.Wait()
		c := b.Subscribe([]string{"a"})
		defer c.Close()
		e.SetDown(true)
		began := time.Now()
		if _, err := a.PublishAll(say("lost"), hub.IdempotencyKey{}); !errors.Is(err, shared.ErrUnavailable) {
			t.Errorf("published: %v", err)
		}
		if d := time.Since(began); d > 11*time.Second {
			t.Errorf("the refusal took %v", d)
		}
		began = time.Now()
		if _, err := a.PublishAll(say("lost"), hub.IdempotencyKey{}); err == nil || time.Since(began) > 0 {
			t.Errorf("the second refusal took %v: %v", time.Since(began), err)
		}
		if _, ok := b.Resolve(first, []string{"a"}); !ok {
			t.Error("a position that the node knows is lost")
		}
		e.SetDown(false)
		time.Sleep(3 * time.Second)
		emit(t, a, "two")
		synctest.Wait()
		if got := texts(t, c); !slices.Equal(got, []string{"two"}) {
			t.Errorf("read %q", got)
		}
	})
}

func TestNodeStartsWithoutEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.NewMemory()
		id := emit(t, node(t, e), "one")
		e.SetDown(true)
		late := node(t, e)
		if _, err := late.PublishAll(say("two"), hub.IdempotencyKey{}); err == nil {
			t.Error("published without an engine")
		}
		c := late.Subscribe([]string{"a"})
		defer c.Close()
		e.SetDown(false)
		time.Sleep(5 * time.Second)
		emit(t, late, "two")
		if _, ok := late.Resolve(id, []string{"a"}); !ok {
			t.Errorf("%s is unknown", id)
		}
		if _, err := c.Next(1<<20, nil); !errors.Is(err, hub.ErrLost) {
			t.Errorf("a cursor from before reads %v", err)
		}
	})
}

func TestEngineThatForgetsBeginsNewEpochOnAllNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.NewMemory()
		a, b := node(t, e), node(t, e)
		kept := emit(t, a, "kept")
		lost := emit(t, a, "lost")
		synctest.Wait()
		cursors := []*hub.Cursor{a.Subscribe([]string{"a"}), b.Subscribe([]string{"a"})}
		e.Forget(1)
		time.Sleep(30 * time.Second)
		for i, h := range []*hub.Hub{a, b} {
			for _, id := range []string{kept, lost} {
				if _, ok := h.Resolve(id, []string{"a"}); ok {
					t.Errorf("node %d knows %s", i, id)
				}
			}
			if _, err := cursors[i].Next(1<<20, nil); !errors.Is(err, hub.ErrLost) {
				t.Errorf("node %d: a cursor reads %v", i, err)
			}
			cursors[i].Close()
		}
		id := emit(t, a, "new")
		if _, ok := b.Resolve(id, []string{"a"}); !ok {
			t.Errorf("%s is unknown", id)
		}
		if n := node(t, e); n.Position(0) != a.Position(0) || n.Position(0) != b.Position(0) {
			t.Errorf("the epochs are %q, %q and %q", a.Position(0), b.Position(0), n.Position(0))
		}
	})
}

func TestEngineIsTruncatedAndLaterNodesKnowRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.NewMemory()
		a := node(t, e)
		key := hub.IdempotencyKey{Scope: "s", ID: "first"}
		first, err := a.PublishAll(say("first"), key)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			for i := range 200 {
				emit(t, a, fmt.Sprint(i, strings.Repeat("x", 500)))
			}
			time.Sleep(2 * time.Minute)
		}
		if n := e.Len(); n > 2500 {
			t.Errorf("the engine keeps %d messages", n)
		}
		b := node(t, e)
		again, err := b.PublishAll(say("first"), key)
		if err != nil || !again.Duplicate || !slices.Equal(again.IDs, first.IDs) {
			t.Errorf("again: %+v, %v, want the outcome of %+v", again, err, first)
		}
		last := emit(t, b, "last")
		if _, ok := a.Resolve(last, []string{"a"}); !ok {
			t.Errorf("%s is unknown", last)
		}
		if a.Last("a").ID != b.Last("a").ID || b.Stats().Kept < 900 {
			t.Errorf("the nodes end with %s and %s; the later one keeps %d", a.Last("a").ID, b.Last("a").ID, b.Stats().Kept)
		}
	})
}

func TestAnyWalkOfNodesMatchesOneLog(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.IntRange(0, 1<<16), 1, 60).Draw(rt, "steps")
		synctest.Test(t, func(t *testing.T) {
			w := &clusterWalk{T: t, engine: enginetest.NewMemory(), outcomes: make(map[string][]string)}
			for range 3 {
				w.nodes = append(w.nodes, w.open())
			}
			for _, step := range steps {
				w.step(step)
			}
			time.Sleep(time.Minute)
			w.check()
			for _, h := range w.nodes {
				_ = h.Close()
			}
		})
	})
}

// clusterWalk makes calls to nodes that share an engine.
type clusterWalk struct {
	*testing.T
	engine *enginetest.Memory
	nodes  []*hub.Hub

	mu        sync.Mutex
	published int
	expected  []string            // the data of what was acknowledged, once for each delivery
	outcomes  map[string][]string // the ids of a key's delivery
}

func (w *clusterWalk) open() *hub.Hub {
	h := hub.New(shared.Open(w.engine.Connect(), shared.Options{}), store.History{})
	h.SetHistory(store.History{})
	return h
}

func (w *clusterWalk) step(n int) {
	node := n / 8 % len(w.nodes)
	switch n % 8 {
	case 0, 1, 2:
		w.publish(w.nodes[node:node+1], "")
	case 3, 4: // at once, with one key
		w.publish(w.nodes, fmt.Sprint("key", n/24%5))
	case 5:
		w.engine.LoseAnswers(n / 24 % 3)
	case 6:
		w.engine.SetDown(true)
		time.Sleep(time.Duration(n/24%4) * time.Second)
		w.engine.SetDown(false)
	case 7:
		_ = w.nodes[node].Close()
		w.nodes[node] = w.open()
	}
}

func (w *clusterWalk) publish(nodes []*hub.Hub, key string) {
	var publishing sync.WaitGroup
	for _, h := range nodes {
		publishing.Go(func() {
			w.mu.Lock()
			w.published++
			data := fmt.Sprint(w.published)
			w.mu.Unlock()
			o, err := h.PublishAll(say(data), hub.IdempotencyKey{Scope: "s", ID: key})
			if err != nil {
				w.Errorf("publishing %s: %v", data, err)
				return
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if !o.Duplicate {
				w.expected = append(w.expected, data)
			}
			if before, ok := w.outcomes[key]; ok && key != "" && !slices.Equal(before, o.IDs) {
				w.Errorf("the delivery %s has the ids %q and %q", key, before, o.IDs)
			}
			w.outcomes[key] = o.IDs
		})
	}
	publishing.Wait()
}

// check compares the logs of all nodes, and of one that starts now.
func (w *clusterWalk) check() {
	w.nodes = append(w.nodes, w.open())
	var first []string
	for i, h := range w.nodes {
		c := h.SubscribeAll([]string{"a"})
		entries, err := c.Next(1<<30, nil)
		c.Close()
		if err != nil {
			w.Fatal(err)
		}
		var log, data []string
		for _, e := range entries {
			d, _ := e.Frame.DataOf("")
			log, data = append(log, fmt.Sprint(e.Seq, " ", e.ID, " ", string(d))), append(data, string(d))
		}
		if i == 0 {
			first = log
			slices.Sort(data)
			slices.Sort(w.expected)
			if !slices.Equal(data, w.expected) {
				w.Errorf("the log holds %q, published were %q", data, w.expected)
			}
		} else if !slices.Equal(log, first) {
			w.Errorf("node %d has %q, node 0 has %q", i, log, first)
		}
	}
}
