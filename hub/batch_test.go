package hub_test

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

// inOneBatch runs publishers while another append runs, so that they become one
// batch in their order, and gives the batch's append a result.
func inOneBatch(t *testing.T, h *hub.Hub, s *gatedStore, appendErr error, publishers ...func()) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { publish(t, h, "first", "first") })
	<-s.appending
	for i, publisher := range publishers {
		wg.Go(publisher)
		for h.Waiting() <= i {
			runtime.Gosched()
		}
	}
	s.result <- nil
	<-s.appending
	s.result <- appendErr
	wg.Wait()
}

func TestDuplicateOfStoredDeliverySucceedsInFailedBatch(t *testing.T) {
	s := newGatedStore()
	h := newHubOn(t, s, store.History{})
	go func() { <-s.appending; s.result <- nil }()
	want := publishAll(t, h, key("s", "d1"), false, message("", "x", "a"))
	full := errors.New("disk full")
	inOneBatch(t, h, s, full,
		func() {
			got, err := h.PublishAll([]hub.Message{message("", "x", "a")}, key("s", "d1"))
			if err != nil || !got.Duplicate || !slices.Equal(got.IDs, want) {
				t.Errorf("the duplicate gets %+v, %v, want %q", got, err, want)
			}
		},
		func() {
			if _, err := h.PublishAll([]hub.Message{message("", "x", "a")}, key("s", "d2")); !errors.Is(err, full) {
				t.Errorf("the new delivery gets %v", err)
			}
		},
	)
}

// panickingStore is a store whose appends panic if their results are errors.
type panickingStore struct{ *gatedStore }

func (s panickingStore) Append(entries []*store.Entry, records []store.IdempotencyRecord) error {
	if err := s.gatedStore.Append(entries, records); err != nil {
		panic(err)
	}
	return nil
}

func TestPanicInAppendFailsAllPublishersOfTheBatch(t *testing.T) {
	s := newGatedStore()
	h := newHubOn(t, panickingStore{s}, store.History{})
	var recovered any
	inOneBatch(t, h, s, errors.New("a bug"),
		func() { // the leader of the batch
			defer func() { recovered = recover() }()
			_, _, err := h.Publish([]string{"a"}, event.Event{})
			t.Errorf("the leader gets %v", err)
		},
		func() {
			if e, _, err := h.Publish([]string{"a"}, event.Event{}); err == nil {
				t.Errorf("an event that isn't stored is acknowledged: %+v", e)
			}
		},
	)
	if recovered == nil {
		t.Error("the panic was swallowed")
	}
	go func() { <-s.appending; s.result <- nil }()
	publish(t, h, "next", "a")
}
