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

func TestEventWithoutIDGetsItsPositionAsID(t *testing.T) {
	h := newHub(t, store.History{})
	first, second := publish(t, h, "x", "a"), publish(t, h, "x", "a", "b")
	if first.Seq != 1 || second.Seq != 2 || first.ID != h.Position(1) || second.ID != h.Position(2) {
		t.Errorf("%+v, %+v", first, second)
	}
	if want := "id: " + first.ID + "\ndata: x\n\n"; string(first.Frame) != want {
		t.Errorf("the frame is %q, want %q", first.Frame, want)
	}
	if err := event.CheckID(first.ID); err != nil {
		t.Error(err)
	}
	if h.Entry(1) != first || h.Last("a") != second || h.Last("b") != second || h.Entry(3) != nil {
		t.Error("an entry is not found")
	}
}

func TestEventKeepsPublishersID(t *testing.T) {
	h := newHub(t, store.History{})
	e, dup, err := h.Publish([]string{"a"}, event.Event{ID: "delivery-1", Name: "push", Data: []byte("x")})
	if err != nil || dup || e.ID != "delivery-1" || string(e.Frame) != "id: delivery-1\nevent: push\ndata: x\n\n" {
		t.Errorf("%+v, %v, %v", e, dup, err)
	}
}

func TestFrameIsPublishedUnchanged(t *testing.T) {
	h := newHub(t, store.History{})
	e, err := h.PublishFrame([]string{"a"}, event.Frame("event: x\ndata: y\n\n"))
	if err != nil || string(e.Frame) != "id: "+e.ID+"\nevent: x\ndata: y\n\n" {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestRepeatedTopicCountsOnce(t *testing.T) {
	h := newHub(t, store.History{})
	topics := []string{"b", "a", "b"}
	c := subscribe(t, h, "b", "a", "a")
	e := publish(t, h, "x", topics...)
	if !slices.Equal(e.Topics, []string{"a", "b"}) || !slices.Equal(topics, []string{"b", "a", "b"}) {
		t.Errorf("published on %q; the argument is now %q", e.Topics, topics)
	}
	wantRead(t, c, "x")
}

func TestInvalidEventIsRefused(t *testing.T) {
	h := newHub(t, store.History{})
	c := subscribe(t, h, "a")
	for _, r := range []struct {
		topics []string
		event  event.Event
		want   error
	}{
		{nil, event.Event{}, hub.ErrNoTopic},
		{[]string{}, event.Event{}, hub.ErrNoTopic},
		{[]string{"a"}, event.Event{ID: "a b"}, event.ErrID},
		{[]string{"a"}, event.Event{ID: strings.Repeat("x", event.MaxIDLen+1)}, event.ErrID},
		{[]string{"a"}, event.Event{Name: "error"}, event.ErrName},
		{[]string{"a"}, event.Event{Data: []byte("\xff")}, event.ErrNotText},
	} {
		if e, dup, err := h.Publish(r.topics, r.event); !errors.Is(err, r.want) || e != nil || dup {
			t.Errorf("%q, %+v: %+v, %v, %v", r.topics, r.event, e, dup, err)
		}
	}
	if _, err := h.PublishFrame(nil, event.Frame("data: \n\n")); !errors.Is(err, hub.ErrNoTopic) {
		t.Error(err)
	}
	if woken(c) || h.Entry(1) != nil {
		t.Error("something was published")
	}
}

func TestDuplicateIsPublishedOnce(t *testing.T) {
	h := newHub(t, store.History{})
	c := subscribe(t, h, "a")
	send := func(data string) (*store.Entry, bool) {
		t.Helper()
		e, dup, err := h.Publish([]string{"a", "b"}, event.Event{ID: "d1", Data: []byte(data)})
		if err != nil {
			t.Fatal(err)
		}
		return e, dup
	}
	first, dup := send("x")
	if dup {
		t.Error("the first is no duplicate")
	}
	for _, data := range []string{"x", "y"} {
		if e, dup := send(data); e != first || !dup {
			t.Errorf("%+v (duplicate: %v), want the first", e, dup)
		}
	}
	wantRead(t, c, "x")
}

func TestOrderOfTopicsMakesNoDifference(t *testing.T) {
	h := newHub(t, store.History{})
	first, _, _ := h.Publish([]string{"a", "b"}, event.Event{ID: "d1"})
	if e, dup, err := h.Publish([]string{"b", "a", "b"}, event.Event{ID: "d1"}); e != first || !dup || err != nil {
		t.Errorf("%+v, %v, %v", e, dup, err)
	}
}

func TestIDUsedOnOtherTopicsIsReplaced(t *testing.T) {
	h := newHub(t, store.History{})
	if _, _, err := h.Publish([]string{"a"}, event.Event{ID: "d1"}); err != nil {
		t.Fatal(err)
	}
	for _, topics := range [][]string{{"b"}, {"a", "b"}, {"A"}} {
		e, dup, err := h.Publish(topics, event.Event{ID: "d1"})
		if err != nil || dup || e.ID != h.Position(e.Seq) || e.Given {
			t.Errorf("%q: %+v, %v, %v", topics, e, dup, err)
		}
	}
	if seq, ok := h.Resolve("d1", []string{"a"}); seq != 1 || !ok {
		t.Errorf("d1 is at %d, %v", seq, ok)
	}
}

func TestIDThatLooksLikePositionIsReplaced(t *testing.T) {
	h := newHub(t, store.History{})
	ids := map[string]bool{}
	for _, id := range []string{h.Position(1), h.Position(3), h.Position(1 << 40), h.Position(0) + "x"} {
		e, dup, err := h.Publish([]string{"a"}, event.Event{ID: id})
		if err != nil || dup || e.ID != h.Position(e.Seq) {
			t.Errorf("%q: %+v, %v, %v", id, e, dup, err)
		}
		ids[e.ID] = true
	}
	if len(ids) != 4 {
		t.Errorf("ids are not unique: %v", ids)
	}
}

func TestIDOfDroppedEventIsNoDuplicate(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 1})
	for range 2 {
		if e, dup, err := h.Publish([]string{"a"}, event.Event{ID: "d1"}); err != nil || dup || e.ID != "d1" {
			t.Errorf("%+v, %v, %v", e, dup, err)
		}
		busy(t, h, 1)
	}
}

func TestConcurrentDuplicatesArePublishedOnce(t *testing.T) {
	h := newHub(t, store.History{})
	c := subscribe(t, h, "a", "b")
	var wg sync.WaitGroup
	var mu sync.Mutex
	fresh := map[string]int{}
	for i := range 200 {
		wg.Go(func() {
			topic := []string{"a", "b"}[i%2]
			id := fmt.Sprint("d", topic, i%10)
			e, dup, err := h.Publish([]string{topic}, event.Event{ID: id})
			if err != nil || e.ID != id {
				t.Errorf("%+v, %v", e, err)
			}
			mu.Lock()
			defer mu.Unlock()
			if !dup {
				fresh[id]++
			}
		})
	}
	wg.Wait()
	entries, err := read(c)
	if err != nil || len(entries) != 10 || len(fresh) != 10 {
		t.Errorf("%d events, %v; new were %v", len(entries), err, fresh)
	}
	for id, n := range fresh {
		if n != 1 {
			t.Errorf("%s was new %d times", id, n)
		}
	}
}

// gatedStore is a store whose appends wait until the test gives their result.
type gatedStore struct {
	*store.Memory
	appending chan int   // receives the number of entries of an append
	result    chan error // the result of that append
}

func newGatedStore() *gatedStore {
	return &gatedStore{Memory: store.NewMemory(), appending: make(chan int), result: make(chan error)}
}

func (s *gatedStore) Append(entries []*store.Entry, records []store.IdempotencyRecord) error {
	s.appending <- len(entries)
	if err := <-s.result; err != nil {
		return err
	}
	return s.Memory.Append(entries, records)
}

// result is what Publish returned.
type result struct {
	entry *store.Entry
	dup   bool
	err   error
}

// together publishes events while another append runs, so that they become one
// batch in their order. It returns each result and the number of entries in the
// batch. appendErr is the result of the batch's append.
func together(t *testing.T, h *hub.Hub, s *gatedStore, appendErr error, topics [][]string, ids []string) ([]result, int) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() { publish(t, h, "first", "first") })
	<-s.appending
	results := make([]result, len(ids))
	for i, id := range ids {
		wg.Go(func() {
			r := &results[i]
			r.entry, r.dup, r.err = h.Publish(topics[i], event.Event{ID: id})
		})
		for h.Waiting() <= i {
			runtime.Gosched()
		}
	}
	s.result <- nil
	n := <-s.appending
	s.result <- appendErr
	wg.Wait()
	return results, n
}

func TestDuplicatesInOneBatchArePublishedOnce(t *testing.T) {
	s := newGatedStore()
	h := newHubOn(t, s, store.History{})
	a, b := []string{"a"}, []string{"b"}
	got, n := together(t, h, s, nil, [][]string{a, a, b, a, b}, []string{"d1", "d1", "d1", "d2", "d3"})
	if n != 4 {
		t.Errorf("the batch made %d entries, want 4", n)
	}
	for i, want := range []struct {
		seq uint64
		id  string
		dup bool
	}{{2, "d1", false}, {2, "d1", true}, {3, h.Position(3), false}, {4, "d2", false}, {5, "d3", false}} {
		if r := got[i]; r.err != nil || r.entry.Seq != want.seq || r.entry.ID != want.id || r.dup != want.dup {
			t.Errorf("%d: %+v (%+v), want %+v", i, r, r.entry, want)
		}
	}
}

func TestFailedAppendFailsAllPublishersOfTheBatch(t *testing.T) {
	s := newGatedStore()
	h := newHubOn(t, s, store.History{})
	c := subscribe(t, h, "a")
	full := errors.New("disk full")
	a := []string{"a"}
	got, n := together(t, h, s, full, [][]string{a, a, a}, []string{"d1", "d1", ""})
	if n != 2 {
		t.Errorf("the batch had %d entries, want 2", n)
	}
	for i, r := range got {
		if !errors.Is(r.err, full) || r.entry != nil || r.dup {
			t.Errorf("publisher %d gets %+v", i, r)
		}
	}
	if woken(c) {
		t.Error("the cursor was woken without an event")
	}
	wantRead(t, c)
	go func() { <-s.appending; s.result <- nil }()
	if e, dup, err := h.Publish(a, event.Event{ID: "d1", Data: []byte("x")}); err != nil || dup || e.Seq != 2 {
		t.Errorf("sent again: %+v, %v, %v", e, dup, err)
	}
	wantRead(t, c, "x")
}

func TestClosedHubRefusesEvents(t *testing.T) {
	h := hub.New(store.NewMemory(), store.History{MaxAge: time.Hour})
	publish(t, h, "x", "a")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.Publish([]string{"a"}, event.Event{}); !errors.Is(err, hub.ErrClosed) {
		t.Error(err)
	}
}

func TestResolveAcceptsOnlyIDsThatTheLogHolds(t *testing.T) {
	h, other := newHub(t, store.History{MaxEvents: 4}), newHub(t, store.History{})
	publishID := func(id string) {
		t.Helper()
		if _, _, err := h.Publish([]string{"a"}, event.Event{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	publishID("gone") // 1
	busy(t, h, 2)
	publishID("held") // 4
	busy(t, h, 2)
	// The log is 3 to 6.
	busy(t, other, 10)
	epoch := strings.TrimSuffix(h.Position(0), "0")
	for _, c := range []struct {
		what, id string
		want     uint64
		ok       bool
	}{
		{"the head", h.Position(6), 6, true},
		{"the tail", h.Position(3), 3, true},
		{"one before the tail", h.Position(2), 2, true},
		{"two before the tail", h.Position(1), 0, false},
		{"the log's start after a trim", h.Position(0), 0, false},
		{"beyond the head", h.Position(7), 0, false},
		{"far beyond the head", h.Position(1<<64 - 1), 0, false},
		{"more than a number holds", epoch + "18446744073709551616", 0, false},
		{"a sign", epoch + "+5", 0, false},
		{"a negative number", epoch + "-5", 0, false},
		{"no number", epoch + "x", 0, false},
		{"a number and more", h.Position(5) + "x", 0, false},
		{"a space", epoch + " 5", 0, false},
		{"another base", epoch + "0x5", 0, false},
		{"no number at all", epoch, 0, false},
		{"the epoch alone", strings.TrimSuffix(epoch, "-"), 0, false},
		{"another log's", other.Position(5), 0, false},
		{"the epoch in capitals", strings.ToUpper(h.Position(5)), 0, false},
		{"nothing", "", 0, false},
		{"garbage", "\x00\xff", 0, false},
		{"a publisher's id", "held", 4, true},
		{"a publisher's id of a dropped event", "gone", 0, false},
		{"an unknown id", "never", 0, false},
	} {
		seq, ok := h.Resolve(c.id, []string{"x", "a"})
		if ok != c.ok || ok && seq != c.want {
			t.Errorf("%s (%q): %d, %v, want %d, %v", c.what, c.id, seq, ok, c.want, c.ok)
		}
	}
}

func TestIDIsKnownOnItsTopicsOnly(t *testing.T) {
	h := newHub(t, store.History{})
	if _, _, err := h.Publish([]string{"a", "b"}, event.Event{ID: "d1"}); err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]bool{"a": true, "b": true, "c": false, "": false, "A": false} {
		if _, ok := h.Resolve("d1", []string{"x", topic}); ok != want {
			t.Errorf("on %q: %v, want %v", topic, ok, want)
		}
	}
	if _, ok := h.Resolve("d1", nil); ok {
		t.Error("it is known on no topic")
	}
}

func TestNewLogResolvesItsStart(t *testing.T) {
	h := newHub(t, store.History{})
	if seq, ok := h.Resolve(h.Position(0), nil); seq != 0 || !ok {
		t.Errorf("%d, %v", seq, ok)
	}
	publish(t, h, "x", "a")
	if seq, ok := h.Resolve(h.Position(0), nil); seq != 0 || !ok {
		t.Errorf("%d, %v", seq, ok)
	}
}

func TestEmptiedLogResolvesItsHead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{MaxAge: time.Minute})
		e := publish(t, h, "x", "a")
		time.Sleep(time.Hour)
		if h.Entry(1) != nil {
			t.Fatal("the event is still there")
		}
		seq, ok := h.Resolve(e.ID, nil)
		if seq != 1 || !ok {
			t.Fatalf("%d, %v", seq, ok)
		}
		c := subscribeAfter(t, h, seq, "a")
		publish(t, h, "y", "a")
		wantRead(t, c, "y")
	})
}

func TestMaxAgeAppliesWithoutPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{MaxAge: time.Minute})
		publish(t, h, "x", "a")
		time.Sleep(30 * time.Second)
		publish(t, h, "y", "a")
		wantHeld := func(want ...bool) {
			t.Helper()
			for i, held := range want {
				if got := h.Entry(uint64(i+1)) != nil; got != held {
					t.Errorf("the event at %d is held: %v", i+1, got)
				}
			}
		}
		time.Sleep(30*time.Second - 1)
		synctest.Wait()
		wantHeld(true, true)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		wantHeld(false, true)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		wantHeld(false, false)
	})
}

func TestSetHistoryAppliesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		c := subscribe(t, h, "busy")
		busy(t, h, 10)
		h.SetHistory(store.History{MaxEvents: 3})
		if h.Entry(7) != nil || h.Entry(8) == nil {
			t.Error("a smaller count is not applied at once")
		}
		if _, err := read(c); !errors.Is(err, hub.ErrLost) {
			t.Errorf("a cursor that has lost events reads %v", err)
		}
		h.SetHistory(store.History{MaxAge: time.Minute})
		time.Sleep(time.Minute)
		synctest.Wait()
		if h.Last("busy") != nil {
			t.Error("a new age is not applied")
		}
		h.SetHistory(store.History{MaxAge: time.Hour})
		publish(t, h, "x", "a")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if h.Last("a") == nil {
			t.Error("a longer age is not applied")
		}
		h.SetHistory(store.History{})
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if h.Last("a") == nil {
			t.Error("a removed age is still applied")
		}
	})
}

// brokenTrim is a store whose Trim always fails. It counts the attempts.
type brokenTrim struct {
	*store.Memory
	attempts int
}

func (s *brokenTrim) Trim(store.History, time.Time) error {
	s.attempts++
	return errors.New("disk full")
}

func TestFailedTrimIsRetriedOncePerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &brokenTrim{Memory: store.NewMemory()}
		h := newHubOn(t, s, store.History{MaxAge: time.Minute})
		publish(t, h, "x", "a")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if s.attempts < 3 || s.attempts > 100 {
			t.Errorf("%d attempts within a minute", s.attempts)
		}
	})
}

func TestDigestIsKeyedAndUnambiguous(t *testing.T) {
	h, other := newHub(t, store.History{}), newHub(t, store.History{})
	seen := map[string][]string{}
	for _, parts := range [][]string{
		nil, {""}, {"", ""}, {"a"}, {"a", ""}, {"", "a"}, {"ab"}, {"a", "b"}, {"ab", "c"}, {"a", "bc"}, {"abc"}, {"\x00\x00\x00\x00\x00\x00\x00\x01a"},
		{"a\x00\x00\x00\x00\x00\x00\x00\x00b"}, {"a\x00\x00\x00\x00\x00\x00\x00\x01b"},
	} {
		d := h.Digest(parts...)
		if before, taken := seen[d]; taken {
			t.Errorf("%q and %q have the same digest", before, parts)
		}
		seen[d] = parts
		if d != h.Digest(parts...) {
			t.Errorf("%q: the digest changes", parts)
		}
		if d == other.Digest(parts...) {
			t.Errorf("%q: two logs have the same digest", parts)
		}
		if err := event.CheckID(d); err != nil {
			t.Error(err)
		}
	}
}

func TestCheckTopicRefusesControlCharacters(t *testing.T) {
	for _, topic := range []string{"a", "orders/42", "é", "a b", "*", "/", "..", strings.Repeat("x", hub.MaxTopicLen)} {
		if err := hub.CheckTopic(topic); err != nil {
			t.Errorf("%q: %v", topic, err)
		}
	}
	for _, topic := range []string{"", "\x00poll/x", "a\nb", "a\r", "a\x1f", "a\x7f", "\xff", strings.Repeat("x", hub.MaxTopicLen+1)} {
		if err := hub.CheckTopic(topic); err == nil {
			t.Errorf("%q may be a topic", topic)
		}
	}
}
