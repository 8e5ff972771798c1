// Package hubtest tests hubs that share a log.
package hubtest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/store/shared"
)

// Shared tests three hubs that share the log of an engine, which restarts meanwhile.
// connect connects to an empty log. restart kills the engine and starts it again.
func Shared(t *testing.T, connect func() shared.Engine, restart func()) {
	var hubs []*hub.Hub
	for range 3 {
		h := hub.New(shared.Open(connect(), shared.Options{}), store.History{})
		h.SetHistory(store.History{})
		defer func() { _ = h.Close() }()
		hubs = append(hubs, h)
	}
	const deliveries = 60
	ids := make([][3]string, deliveries)
	var publishing sync.WaitGroup
	for d := range deliveries {
		if d == deliveries/2 {
			publishing.Wait()
			restart()
		}
		for n, h := range hubs {
			publishing.Go(func() { ids[d][n] = publishUntilStored(t, h, fmt.Sprint(d)) })
		}
	}
	publishing.Wait()
	for d, got := range ids {
		if got[0] != got[1] || got[1] != got[2] {
			t.Errorf("delivery %d has the ids %q", d, got)
		}
	}
	late := hub.New(shared.Open(connect(), shared.Options{}), store.History{})
	late.SetHistory(store.History{})
	defer func() { _ = late.Close() }()
	for i, h := range append(hubs, late) {
		for d, id := range ids {
			if _, ok := h.Resolve(id[0], []string{"a"}); !ok {
				t.Errorf("hub %d doesn't know %s of delivery %d", i, id[0], d)
			}
		}
		if got := dataOf(t, h); len(got) != deliveries || len(slices.Compact(got)) != deliveries {
			t.Errorf("hub %d holds %d events of %d deliveries: %q", i, len(got), deliveries, got)
		}
	}
}

// publishUntilStored publishes a delivery as a sender does, which repeats it.
func publishUntilStored(t *testing.T, h *hub.Hub, id string) string {
	message := hub.Message{Topics: []string{"a"}, Event: event.Event{Data: []byte(id)}}
	var err error
	for range 100 {
		var o hub.Outcome
		if o, err = h.PublishAll([]hub.Message{message}, hub.IdempotencyKey{Scope: "s", ID: id}); err == nil {
			return o.IDs[0]
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("delivery %s: %v", id, err)
	return ""
}

// dataOf returns the data of a hub's events, sorted.
func dataOf(t *testing.T, h *hub.Hub) []string {
	c := h.SubscribeAll([]string{"a"})
	defer c.Close()
	entries, err := c.Next(1<<30, nil)
	if err != nil {
		t.Fatal(err)
	}
	var data []string
	for _, e := range entries {
		d, _ := e.Frame.DataOf("")
		data = append(data, string(d))
	}
	slices.Sort(data)
	return data
}
