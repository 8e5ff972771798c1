package hub_test

import (
	"errors"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// fullStore refuses what it is given while it is full.
type fullStore struct {
	*store.Memory
	full bool
}

func (s *fullStore) Append(entries []*store.Entry, receipts []store.Receipt) error {
	if s.full {
		return errors.New("no space left")
	}
	return s.Memory.Append(entries, receipts)
}

func TestAHubTellsWhatItHoldsWhoFollowsAndWhoIsBehind(t *testing.T) {
	h := hub.New(store.NewMemory(), store.History{MaxEvents: 3})
	defer h.Close()
	if s := h.Stats(); s != (hub.Stats{}) {
		t.Errorf("a new hub tells %+v", s)
	}
	slow, both := h.Follow([]string{"a"}), h.Follow([]string{"b", "a"})
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
	if s.Published != 5 || s.Kept != 3 || s.Topics != 2 || s.Followers != 2 || s.Lag != 5 || s.Error != "" {
		t.Errorf("%+v", s)
	}
	if s.Oldest == nil || time.Since(*s.Oldest) > time.Minute {
		t.Errorf("the oldest is of %v", s.Oldest)
	}
	slow.Close()
	if s := h.Stats(); s.Followers != 1 || s.Lag != 0 {
		t.Errorf("without who is behind: %+v", s)
	}
}

func TestAHubThatCanNotStoreSaysSoUntilItCan(t *testing.T) {
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
