package hub_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

func message(id, data string, topics ...string) hub.Message {
	return hub.Message{Topics: topics, Event: event.Event{ID: id, Data: []byte(data)}}
}

func key(scope, id string) hub.IdempotencyKey { return hub.IdempotencyKey{Scope: scope, ID: id} }

// publishAll publishes messages under a key and returns their ids. The test fails
// unless the outcome is a duplicate or not, as wanted.
func publishAll(t testing.TB, h *hub.Hub, r hub.IdempotencyKey, duplicate bool, messages ...hub.Message) []string {
	t.Helper()
	got, err := h.PublishAll(messages, r)
	if err != nil || got.Duplicate != duplicate {
		t.Fatalf("%+v: %+v, %v; want a duplicate: %v", r, got, err, duplicate)
	}
	return got.IDs
}

func TestDeliveryIsPublishedInOrder(t *testing.T) {
	h := newHub(t, store.History{})
	c := subscribe(t, h, "a", "b")
	ids := publishAll(t, h, hub.IdempotencyKey{}, false, message("", "1", "a"), message("d2", "2", "b", "a"), message("", "3", "b"))
	if want := []string{h.Position(1), "d2", h.Position(3)}; !slices.Equal(ids, want) {
		t.Errorf("%q, want %q", ids, want)
	}
	wantRead(t, c, "1", "2", "3")
}

func TestInvalidEventMakesDeliveryPublishNothing(t *testing.T) {
	h := newHub(t, store.History{})
	for _, wrong := range []hub.Message{message("", "\xff", "a"), message("a b", "x", "a"), message("", "x")} {
		got, err := h.PublishAll([]hub.Message{message("", "1", "a"), wrong, message("", "3", "a")}, key("s", "d1"))
		if err == nil || got.IDs != nil || got.Duplicate || !strings.Contains(err.Error(), "event 2 of 3") {
			t.Errorf("%+v: %+v, %v", wrong, got, err)
		}
	}
	if h.Entry(1) != nil {
		t.Error("something was published")
	}
	publishAll(t, h, key("s", "d1"), false, message("", "x", "a"))
}

func TestEmptyDeliveryWithoutKeyChangesNothing(t *testing.T) {
	h := newHub(t, store.History{})
	if ids := publishAll(t, h, hub.IdempotencyKey{Scope: "s"}, false); len(ids) != 0 {
		t.Errorf("%q", ids)
	}
}

func TestRepeatedDeliveryGetsFirstOutcome(t *testing.T) {
	h := newHub(t, store.History{})
	c := subscribe(t, h, "a", "b")
	first := publishAll(t, h, key("s", "d1"), false, message("d1", "1", "a"), message("", "2", "b"))
	for _, again := range [][]hub.Message{
		{message("d1", "1", "a"), message("", "2", "b")},
		{message("other", "changed", "b")},
		{},
	} {
		if ids := publishAll(t, h, key("s", "d1"), true, again...); !slices.Equal(ids, first) {
			t.Errorf("%q, want %q", ids, first)
		}
	}
	wantRead(t, c, "1", "2")
}

func TestIdempotencyRecordOutlivesItsEvents(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 1})
	first := publishAll(t, h, key("s", "d1"), false, message("x", "1", "a"), message("", "2", "a"), message("y", "3", "a"))
	busy(t, h, 3)
	if h.Entry(3) != nil {
		t.Fatal("the events are still there")
	}
	if ids := publishAll(t, h, key("s", "d1"), true, message("x", "1", "a")); !slices.Equal(ids, first) {
		t.Errorf("%q, want %q", ids, first)
	}
}

func TestEmptyDeliveryWithKeyIsRecorded(t *testing.T) {
	h := newHub(t, store.History{})
	c := subscribe(t, h, "a")
	publishAll(t, h, key("s", "d1"), false)
	if ids := publishAll(t, h, key("s", "d1"), true, message("", "1", "a")); len(ids) != 0 {
		t.Errorf("%q", ids)
	}
	wantRead(t, c)
	if woken(c) {
		t.Error("the cursor was woken without an event")
	}
}

func TestKeysOfDifferentScopesAreIndependent(t *testing.T) {
	h := newHub(t, store.History{})
	c := subscribe(t, h, "a")
	for i, r := range []hub.IdempotencyKey{key("s", "d1"), key("t", "d1"), key("s", "d2"), key("sd", "1"), key("", "sd1")} {
		publishAll(t, h, r, false, message("same", fmt.Sprint(i), "a"))
	}
	wantRead(t, c, "0", "1", "2", "3", "4")
}

// Without the key, a retry of such an event would be a second event, since the
// hub replaces its id.
func TestKeyedEventWithReplacedIDIsPublishedOnce(t *testing.T) {
	h := newHub(t, store.History{})
	publishAll(t, h, hub.IdempotencyKey{}, false, message("d1", "of another sender", "b"))
	c := subscribe(t, h, "a")
	first := publishAll(t, h, key("s", "d1"), false, message("d1", "1", "a"))
	if again := publishAll(t, h, key("s", "d1"), true, message("d1", "1", "a")); first[0] != h.Position(2) || again[0] != first[0] {
		t.Errorf("%q, then %q", first, again)
	}
	wantRead(t, c, "1")
}

func TestKeyedEventsWithSameIDAreAllPublished(t *testing.T) {
	h := newHub(t, store.History{})
	c := subscribe(t, h, "a")
	ids := publishAll(t, h, key("s", "d1"), false, message("d1", "1", "a"), message("d1", "2", "a"))
	if want := []string{"d1", h.Position(2)}; !slices.Equal(ids, want) {
		t.Errorf("%q, want %q", ids, want)
	}
	wantRead(t, c, "1", "2")
}

func TestWithoutKeyEachEventIsCheckedByItsID(t *testing.T) {
	h := newHub(t, store.History{})
	c := subscribe(t, h, "a")
	publishAll(t, h, hub.IdempotencyKey{}, false, message("d1", "1", "a"))
	if ids := publishAll(t, h, hub.IdempotencyKey{}, false, message("d1", "1", "a"), message("d2", "2", "a")); !slices.Equal(ids, []string{"d1", "d2"}) {
		t.Errorf("%q", ids)
	}
	publishAll(t, h, hub.IdempotencyKey{}, true, message("d2", "2", "a"), message("d1", "1", "a"))
	wantRead(t, c, "1", "2")
}

func TestIdempotencyRecordLastsForItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		publishAll(t, h, key("default", "d1"), false)
		short := key("short", "d1")
		short.Window.MaxAge = time.Minute
		publishAll(t, h, short, false)
		time.Sleep(time.Minute - 1)
		publishAll(t, h, short, true) // a duplicate doesn't restart the window
		time.Sleep(time.Nanosecond)
		publishAll(t, h, short, false)
		time.Sleep(24*time.Hour - time.Minute - 1)
		publishAll(t, h, key("default", "d1"), true)
		time.Sleep(time.Nanosecond)
		publishAll(t, h, key("default", "d1"), false)
	})
}

func TestScopeHoldsAsManyRecordsAsItsWindowAllows(t *testing.T) {
	h := newHub(t, store.History{})
	few := func(id int) hub.IdempotencyKey {
		return hub.IdempotencyKey{Scope: "few", ID: fmt.Sprint(id), Window: store.Window{MaxCount: 3}}
	}
	for i := range 5 {
		publishAll(t, h, few(i), false)
		publishAll(t, h, key("many", fmt.Sprint(i)), false)
	}
	for i, known := range []bool{false, false, true, true, true} {
		if _, ok := h.PublishedBefore(few(i)); ok != known {
			t.Errorf("record %d of few is held: %v", i, ok)
		}
		if _, ok := h.PublishedBefore(key("many", fmt.Sprint(i))); !ok {
			t.Errorf("record %d of many is missing", i)
		}
	}
}

func TestPublishedBeforeReturnsFirstOutcome(t *testing.T) {
	h := newHub(t, store.History{})
	for _, r := range []hub.IdempotencyKey{key("s", "d1"), key("s", "")} {
		if got, ok := h.PublishedBefore(r); ok {
			t.Errorf("%+v: %+v", r, got)
		}
	}
	ids := publishAll(t, h, key("s", "d1"), false, message("", "1", "a"))
	if got, ok := h.PublishedBefore(key("s", "d1")); !ok || !got.Duplicate || !slices.Equal(got.IDs, ids) {
		t.Errorf("%+v, %v", got, ok)
	}
}

// An idempotency record has room for a few ids. The hub looks up the others in
// the log; when their events have left it, positions stand for them.
func TestManyIDsOfDeliveryAreKnownWhileItsEventsAreInHistory(t *testing.T) {
	h := newHub(t, store.History{})
	var messages []hub.Message
	for i := range 50 {
		messages = append(messages, message(fmt.Sprintf("item-%032d", i), "x", "a"))
	}
	first := publishAll(t, h, key("s", "d1"), false, messages...)
	if again := publishAll(t, h, key("s", "d1"), true); !slices.Equal(again, first) {
		t.Errorf("%q, want %q", again, first)
	}
	h.SetHistory(store.History{MaxEvents: 1})
	again := publishAll(t, h, key("s", "d1"), true)
	if len(again) != 50 || again[0] != first[0] || again[48] != h.Position(49) || again[49] != first[49] {
		t.Errorf("%q", again)
	}
}

func TestIdempotencyRecordHoldsNoTextOfSender(t *testing.T) {
	s := &spyStore{Memory: store.NewMemory()}
	h := newHubOn(t, s, store.History{})
	publishAll(t, h, key("a secret rule", strings.Repeat("stranger", 10000)), false, message("", "x", "a"))
	if len(s.records) != 1 || len(s.records[0].Scope) > 64 || strings.Contains(fmt.Sprintf("%+v", s.records), "a secret rule") || len(s.records[0].Outcome) > 16 {
		t.Errorf("%+v", s.records)
	}
}

type spyStore struct {
	*store.Memory
	records []store.IdempotencyRecord
}

func (s *spyStore) Append(entries []*store.Entry, records []store.IdempotencyRecord) error {
	s.records = append(s.records, records...)
	return s.Memory.Append(entries, records)
}

func TestConcurrentEqualDeliveriesArePublishedOnce(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 100000})
	c := subscribe(t, h, "a")
	var mu sync.Mutex
	answers := make(map[string][]string)
	fresh := 0
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			id := fmt.Sprint(i % 30)
			got, err := h.PublishAll([]hub.Message{message("", id, "a"), message("", id, "a")}, key("s", id))
			mu.Lock()
			defer mu.Unlock()
			if !got.Duplicate {
				fresh++
			}
			if before := answers[id]; err != nil || len(got.IDs) != 2 || before != nil && !slices.Equal(before, got.IDs) {
				t.Errorf("%+v, %v; before: %q", got, err, before)
			}
			answers[id] = got.IDs
		})
	}
	wg.Wait()
	entries, err := read(c)
	if err != nil || len(entries) != 60 || fresh != 30 {
		t.Errorf("%d events, %d new, %v", len(entries), fresh, err)
	}
	for i := 0; i+1 < len(entries); i += 2 {
		if data := dataOf(entries[i : i+2]); data[0] != data[1] {
			t.Errorf("the events of a delivery are not adjacent: %q", data)
		}
	}
}

// publishAllTogether publishes one delivery twice in one batch. appendErr is the
// result of the batch's append.
func publishAllTogether(t *testing.T, h *hub.Hub, s *gatedStore, appendErr error) (got [2]hub.Outcome, errs [2]error) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { publish(t, h, "first", "first") })
	<-s.appending
	for i := range got {
		wg.Go(func() { got[i], errs[i] = h.PublishAll([]hub.Message{message("", "x", "a")}, key("s", "d1")) })
		for h.Waiting() <= i {
			runtime.Gosched()
		}
	}
	s.result <- nil
	if n := <-s.appending; n != 1 {
		t.Errorf("the batch has %d events", n)
	}
	s.result <- appendErr
	wg.Wait()
	return got, errs
}

func TestEqualDeliveriesInOneBatchArePublishedOnce(t *testing.T) {
	s := newGatedStore()
	h := newHubOn(t, s, store.History{})
	got, errs := publishAllTogether(t, h, s, nil)
	want := []string{h.Position(2)}
	if errs[0] != nil || errs[1] != nil || got[0].Duplicate || !got[1].Duplicate || !slices.Equal(got[0].IDs, want) || !slices.Equal(got[1].IDs, want) {
		t.Errorf("%+v, %v", got, errs)
	}
}

func TestDeliveryThatIsNotStoredLeavesNoRecord(t *testing.T) {
	s := newGatedStore()
	h := newHubOn(t, s, store.History{})
	full := errors.New("disk full")
	got, errs := publishAllTogether(t, h, s, full)
	if !errors.Is(errs[0], full) || !errors.Is(errs[1], full) || got[0].IDs != nil || got[1].IDs != nil {
		t.Errorf("%+v, %v", got, errs)
	}
	go func() { <-s.appending; s.result <- nil }()
	publishAll(t, h, key("s", "d1"), false, message("", "x", "a"))
	publishAll(t, h, key("s", "d1"), true) // needs no append, which would block here
}

func TestSubscribersAreCountedOnce(t *testing.T) {
	h := newHub(t, store.History{})
	subscribe(t, h, "a")
	subscribe(t, h, "a", "b")
	subscribe(t, h, "c", "b")
	for topics, want := range map[string]int{"a": 2, "b": 2, "a b": 3, "a a": 2, "b c": 2, "d": 0, "": 0} {
		if got := h.Subscribers(strings.Fields(topics)); got != want {
			t.Errorf("%q: %d, want %d", topics, got, want)
		}
	}
}

func TestOutcomeNamesDuplicateMessages(t *testing.T) {
	h := newHub(t, store.History{})
	publishAll(t, h, hub.IdempotencyKey{}, false, message("x", "1", "a"))
	got, err := h.PublishAll([]hub.Message{message("y", "2", "a"), message("x", "1", "a"), message("y", "2", "a"), message("x", "1", "b")}, hub.IdempotencyKey{})
	if err != nil || got.Duplicate || !slices.Equal(got.DuplicateIndexes, []int{1, 2}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestGivenFrameIsPublishedWithTheID(t *testing.T) {
	h := newHub(t, store.History{})
	m := hub.Message{Topics: []string{"a"}, Event: event.Event{ID: "own"}, Frame: event.Frame("event: error\ndata: 1\n\n")}
	publishAll(t, h, hub.IdempotencyKey{}, false, m)
	if e := h.Last("a"); e.ID != "own" || string(e.Frame) != "id: own\nevent: error\ndata: 1\n\n" {
		t.Errorf("%s", e.Frame)
	}
}
