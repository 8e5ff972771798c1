package hub_test

import (
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// fullStore is a store whose appends fail while it is full.
type fullStore struct {
	*store.Memory
	full bool
}

func (s *fullStore) Append(entries []*store.Entry, records []store.IdempotencyRecord) error {
	if s.full {
		return errors.New("no space left")
	}
	return s.Memory.Append(entries, records)
}

func TestStatsCountEventsSubscribersAndLag(t *testing.T) {
	h := hub.New(store.NewMemory(), store.History{MaxEvents: 3})
	defer h.Close()
	if s := h.Stats(); s != (hub.Stats{}) {
		t.Errorf("a new hub has %+v", s)
	}
	slow, both := h.Subscribe([]string{"a"}), h.Subscribe([]string{"b", "a"})
	defer slow.Close()
	defer both.Close()
	for range 5 {
		if _, _, err := h.Publish([]string{"a"}, event.Event{Data: []byte("1")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := both.Next(1000, nil); err != nil && !errors.Is(err, hub.ErrLost) {
		t.Fatal(err)
	}
	s := h.Stats()
	if s.Published != 5 || s.Kept != 3 || s.Topics != 2 || s.Subscribers != 2 || s.Lag != 5 || s.Error != "" {
		t.Errorf("%+v", s)
	}
	if s.Oldest == nil || time.Since(*s.Oldest) > time.Minute {
		t.Errorf("the oldest event is from %v", s.Oldest)
	}
	slow.Close()
	if s := h.Stats(); s.Subscribers != 1 || s.Lag != 0 {
		t.Errorf("after the slow subscriber has left: %+v", s)
	}
}

func TestErrLastsUntilNextSuccessfulAppend(t *testing.T) {
	s := &fullStore{Memory: store.NewMemory()}
	h := hub.New(s, store.History{MaxEvents: 3})
	defer h.Close()
	for _, full := range []bool{false, true, true, false} {
		s.full = full
		_, _, err := h.Publish([]string{"a"}, event.Event{Data: []byte("1")})
		if (err != nil) != full || (h.Err() != nil) != full || (h.Stats().Error != "") != full {
			t.Errorf("full %t: %v, %v, %+v", full, err, h.Err(), h.Stats())
		}
	}
}

func TestLagFallsToZeroDuringCatchUp(t *testing.T) {
	h := hub.New(store.NewMemory(), store.History{})
	defer h.Close()
	for range 5 {
		if _, _, err := h.Publish([]string{"a"}, event.Event{Data: []byte("1")}); err != nil {
			t.Fatal(err)
		}
	}
	c := h.SubscribeAfter([]string{"a"}, 1)
	defer c.Close()
	for _, want := range []uint64{4, 3, 2, 1, 0} {
		if got := c.Lag(); got != want || h.Stats().Lag != want {
			t.Errorf("the cursor's lag is %d and the hub's %d, want %d", got, h.Stats().Lag, want)
		}
		if _, err := c.Next(1, nil); err != nil {
			t.Fatal(err)
		}
	}
	if c := h.SubscribeAfter([]string{"a"}, 5); c.Lag() != 0 {
		t.Errorf("a cursor at the head has a lag of %d", c.Lag())
	} else {
		c.Close()
	}
}

func TestTopicsOmitsInternalTopics(t *testing.T) {
	h := hub.New(store.NewMemory(), store.History{})
	defer h.Close()
	for _, f := range []struct {
		topics []string
		count  int
	}{{[]string{"a", "b"}, 2}, {[]string{"a"}, 1}, {[]string{" c"}, 1}, {[]string{"\x00poll/x", "\x00end/y"}, 0}} {
		defer h.Subscribe(f.topics).Close()
		if n := hub.CountTopics(f.topics); n != f.count {
			t.Errorf("%q are %d, want %d", f.topics, n, f.count)
		}
	}
	if got := h.Topics(); !maps.Equal(got, map[string]int{"a": 2, "b": 1, " c": 1}) {
		t.Errorf("%v", got)
	}
}
