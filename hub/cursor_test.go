package hub_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

func TestNewCursorReadsLaterEventsOnly(t *testing.T) {
	h := newHub(t, store.History{})
	publish(t, h, "before", "a")
	c := subscribe(t, h, "a", "b")
	if woken(c) || !c.CaughtUp() || c.Position() != h.Position(1) {
		t.Errorf("a new cursor is at %s, caught up: %v", c.Position(), c.CaughtUp())
	}
	publish(t, h, "1", "a")
	publish(t, h, "2", "c")
	publish(t, h, "3", "b")
	if !woken(c) || woken(c) {
		t.Error("the cursor is not woken exactly once")
	}
	wantRead(t, c, "1", "3")
	if c.Position() != h.Position(4) {
		t.Errorf("the cursor is at %s", c.Position())
	}
	wantRead(t, c)
}

func TestOtherTopicsDoNotWakeCursor(t *testing.T) {
	h := newHub(t, store.History{})
	c := subscribe(t, h, "a")
	busy(t, h, 3)
	if woken(c) {
		t.Error("woken")
	}
}

func TestResumedCursorReadsMissedEventsFirst(t *testing.T) {
	h := newHub(t, store.History{})
	for _, data := range []string{"1", "2", "3"} {
		publish(t, h, data, "a")
	}
	c := subscribeAfter(t, h, 1, "a")
	if !woken(c) || c.CaughtUp() {
		t.Error("the resumed cursor is not woken")
	}
	publish(t, h, "4", "a")
	wantRead(t, c, "2", "3", "4")
	nothing := subscribeAfter(t, h, 4, "a")
	wantRead(t, nothing)
}

func TestSubscribeAllReadsWholeLogFirst(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 3})
	for _, data := range []string{"1", "2", "3", "4"} {
		publish(t, h, data, "a")
	}
	c := h.SubscribeAll([]string{"a"})
	defer c.Close()
	if !woken(c) || c.CaughtUp() {
		t.Error("the cursor takes the log for read")
	}
	publish(t, h, "5", "b")
	if entries, err := read(c); !errors.Is(err, hub.ErrLost) {
		t.Errorf("the oldest event has left: read %q, %v", dataOf(entries), err)
	}
	all := h.SubscribeAll([]string{"a"})
	defer all.Close()
	wantRead(t, all, "3", "4")
}

func TestNextReadContinuesAfterBoundedRead(t *testing.T) {
	h := newHub(t, store.History{})
	c := subscribe(t, h, "a")
	for _, data := range []string{"1", "2", "3"} {
		publish(t, h, data, "a")
	}
	var got []string
	for i := 1; !c.CaughtUp() || i == 1; i++ {
		entries, err := c.Next(1, nil)
		if err != nil || len(entries) != 1 || c.Position() != entries[0].ID {
			t.Fatalf("%v, %v at %s", dataOf(entries), err, c.Position())
		}
		got = append(got, dataOf(entries)...)
	}
	if !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("%q", got)
	}
}

func TestClosedCursorIsNotWoken(t *testing.T) {
	h := newHub(t, store.History{})
	c, open := subscribe(t, h, "a", "b"), subscribe(t, h, "a")
	c.Close()
	c.Close()
	publish(t, h, "x", "a", "b")
	if woken(c) || !woken(open) {
		t.Error("the closed cursor was woken, or the open one was not")
	}
	if readers := h.SubscribersByTopic(); readers["a"] != 1 || len(readers) != 1 {
		t.Errorf("%v", readers)
	}
}

func TestDroppedUnreadEventIsErrLost(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 3})
	c := subscribe(t, h, "a")
	publish(t, h, "1", "a")
	busy(t, h, 2)
	wantRead(t, c, "1") // just in time
	publish(t, h, "2", "a")
	busy(t, h, 3)
	if _, err := read(c); !errors.Is(err, hub.ErrLost) {
		t.Error(err)
	}
}

func TestFirstUnreadEventDecidesLoss(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 3})
	c := subscribe(t, h, "a")
	publish(t, h, "1", "a")
	publish(t, h, "2", "a")
	busy(t, h, 2)
	if _, err := read(c); !errors.Is(err, hub.ErrLost) {
		t.Error(err)
	}
}

func TestBusyTopicCausesNoLossOnQuietTopic(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 3})
	quiet, resumed := subscribe(t, h, "a"), subscribeAfter(t, h, 0, "a")
	wantRead(t, resumed)
	busy(t, h, 100)
	wantRead(t, quiet)
	publish(t, h, "1", "a")
	wantRead(t, quiet, "1")
	wantRead(t, resumed, "1")
	busy(t, h, 100)
	publish(t, h, "2", "a")
	wantRead(t, quiet, "2")
	wantRead(t, resumed, "2")
	wantRead(t, quiet)
}

func TestLossDuringCatchUpIsErrLost(t *testing.T) {
	h := newHub(t, store.History{})
	for _, data := range []string{"1", "2", "3"} {
		publish(t, h, data, "a")
	}
	c := subscribeAfter(t, h, 0, "a")
	if entries, err := c.Next(1, nil); err != nil || len(entries) != 1 {
		t.Fatal(err)
	}
	h.SetHistory(store.History{MaxEvents: 1})
	if _, err := c.Next(1, nil); !errors.Is(err, hub.ErrLost) {
		t.Error(err)
	}
}

func TestLossBetweenResolveAndSubscribeIsErrLost(t *testing.T) {
	h := newHub(t, store.History{})
	publish(t, h, "1", "a")
	publish(t, h, "2", "a")
	seq, ok := h.Resolve(h.Position(0), nil)
	if !ok {
		t.Fatal("the beginning is not known")
	}
	h.SetHistory(store.History{MaxEvents: 1})
	if _, err := read(subscribeAfter(t, h, seq, "a")); !errors.Is(err, hub.ErrLost) {
		t.Error(err)
	}
}

// racyStore is a store that calls a function of the test before a read, or after
// an append and before the hub wakes cursors.
type racyStore struct {
	*store.Memory
	beforeRead, afterAppend func()
}

func (s *racyStore) Read(topics []string, after uint64, maxBytes int, buf []*store.Entry) (store.Batch, error) {
	once(&s.beforeRead)
	return s.Memory.Read(topics, after, maxBytes, buf)
}

func (s *racyStore) Append(entries []*store.Entry, records []store.IdempotencyRecord) error {
	err := s.Memory.Append(entries, records)
	once(&s.afterAppend)
	return err
}

func once(f *func()) {
	if do := *f; do != nil {
		*f = nil
		do()
	}
}

func TestEventPublishedAndDroppedDuringReadIsErrLost(t *testing.T) {
	for name, prepare := range map[string]func(h *hub.Hub, c *hub.Cursor){
		"nothing was unread": func(*hub.Hub, *hub.Cursor) {},
		"one was unread":     func(h *hub.Hub, _ *hub.Cursor) { publish(t, h, "1", "a") },
		"one was read": func(h *hub.Hub, c *hub.Cursor) {
			publish(t, h, "1", "a")
			wantRead(t, c, "1")
		},
	} {
		s := &racyStore{Memory: store.NewMemory()}
		h := newHubOn(t, s, store.History{MaxEvents: 1})
		c := subscribe(t, h, "a")
		prepare(h, c)
		s.beforeRead = func() {
			publish(t, h, "lost", "a")
			busy(t, h, 1)
		}
		if entries, err := read(c); !errors.Is(err, hub.ErrLost) {
			t.Errorf("%s: read %q, %v", name, dataOf(entries), err)
		}
	}
}

func TestOtherTopicsEventsDuringReadAreNoLoss(t *testing.T) {
	s := &racyStore{Memory: store.NewMemory()}
	h := newHubOn(t, s, store.History{MaxEvents: 1})
	c := subscribe(t, h, "a")
	s.beforeRead = func() { busy(t, h, 10) }
	wantRead(t, c)
	s.beforeRead = func() { busy(t, h, 10); publish(t, h, "1", "a") }
	wantRead(t, c, "1")
	wantRead(t, c)
}

// The hub wakes the cursor for an event that the cursor has read already,
// together with an earlier one. That must not hide the next event.
func TestLateWakeUpHidesNoLaterEvent(t *testing.T) {
	for _, lost := range []bool{true, false} {
		s := &racyStore{Memory: store.NewMemory()}
		h := newHubOn(t, s, store.History{MaxEvents: 3})
		c := subscribe(t, h, "a")
		publish(t, h, "1", "a")
		s.afterAppend = func() { wantRead(t, c, "1", "2") }
		publish(t, h, "2", "a")
		if !woken(c) {
			t.Fatal("the race didn't happen")
		}
		publish(t, h, "3", "a")
		if !lost {
			wantRead(t, c, "3")
			continue
		}
		busy(t, h, 3)
		if entries, err := read(c); !errors.Is(err, hub.ErrLost) {
			t.Errorf("read %q, %v", dataOf(entries), err)
		}
	}
}

func TestLateWakeUpOfReadEventIsNoLoss(t *testing.T) {
	s := &racyStore{Memory: store.NewMemory()}
	h := newHubOn(t, s, store.History{MaxEvents: 3})
	c := subscribe(t, h, "a")
	s.afterAppend = func() { wantRead(t, c, "1") }
	publish(t, h, "1", "a")
	busy(t, h, 10)
	wantRead(t, c)
	publish(t, h, "2", "a")
	busy(t, h, 2)
	wantRead(t, c, "2")
}

// The wake-up is for an event that the history still has.
func TestReadInTheMiddleOfWakeUpIsNoLoss(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 3})
	c := subscribe(t, h, "a")
	busy(t, h, 10)
	c.BeginWake(10)
	wantRead(t, c)
}

func TestSkipMovesForwardOnly(t *testing.T) {
	h := newHub(t, store.History{})
	c := subscribe(t, h, "a")
	for _, data := range []string{"1", "2", "3"} {
		publish(t, h, data, "a")
	}
	c.Skip(2)
	c.Skip(1)
	if c.Position() != h.Position(2) {
		t.Errorf("the cursor is at %s", c.Position())
	}
	wantRead(t, c, "3")
	c.Skip(1)
	wantRead(t, c)
}

func TestSkippedEventIsNoLoss(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 2})
	c := subscribe(t, h, "a")
	publish(t, h, "1", "a")
	c.Skip(1)
	busy(t, h, 10)
	wantRead(t, c)
	publish(t, h, "2", "a")
	wantRead(t, c, "2")
}

func TestLossAfterSkipIsErrLost(t *testing.T) {
	s := newGatedStore()
	h := newHubOn(t, s, store.History{})
	c := subscribe(t, h, "a")
	a := []string{"a"}
	together(t, h, s, nil, [][]string{a, a}, []string{"d2", "d3"}) // one batch
	c.Skip(2)
	h.SetHistory(store.History{MaxEvents: 1})
	go func() { <-s.appending; s.result <- nil }()
	busy(t, h, 1)
	if entries, err := read(c); !errors.Is(err, hub.ErrLost) {
		t.Errorf("read %q, %v", dataOf(entries), err)
	}
}

// brokenReads is a store whose reads fail.
type brokenReads struct{ *store.Memory }

var errDisk = errors.New("disk on fire")

func (brokenReads) Read([]string, uint64, int, []*store.Entry) (store.Batch, error) {
	return store.Batch{}, errDisk
}

func TestReadErrorWrapsStoreError(t *testing.T) {
	h := newHubOn(t, brokenReads{store.NewMemory()}, store.History{})
	if _, err := read(subscribeAfter(t, h, 0, "a")); !errors.Is(err, errDisk) {
		t.Error(err)
	}
}

// Opening a cursor on a busy topic must not wait for publishers.
func TestSubscribingToBusyTopicNeverBlocks(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 10})
	stop := make(chan struct{})
	var publisher sync.WaitGroup
	publisher.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				publish(t, h, "x", "a")
			}
		}
	})
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		for range 20000 {
			h.SubscribeAfter([]string{"a"}, 0).Close()
		}
	}()
	select {
	case <-opened:
	case <-time.After(20 * time.Second):
		t.Error("opening cursors takes more than 20 seconds")
	}
	close(stop)
	publisher.Wait()
}

// Cursors close and resume at random moments while many goroutines publish. Each
// reads every event of its topics, once and in order.
func TestCursorsReadEveryEventOnceInOrder(t *testing.T) {
	const publishers, each = 8, 250
	h := newHub(t, store.History{})
	var publishing, reading sync.WaitGroup
	topics := []string{"a", "b", "c"}
	for p := range publishers {
		publishing.Go(func() {
			for i := range each {
				on := []string{topics[(p+i)%3]}
				if i%5 == 0 {
					on = topics[:2]
				}
				publish(t, h, fmt.Sprint(p, "/", i), on...)
			}
		})
	}
	done := make(chan struct{})
	got := make([][]*store.Entry, 6)
	sets := [][]string{{"a"}, {"b"}, {"c"}, {"a", "b"}, {"b", "c"}, topics}
	for i, set := range sets {
		reading.Go(func() { got[i] = readAndResume(t, h, set, done) })
	}
	publishing.Wait()
	close(done)
	reading.Wait()
	for i, set := range sets {
		want, err := read(subscribeAfter(t, h, 0, set...))
		if err != nil || !slices.Equal(got[i], want) {
			t.Errorf("%q: %d events, want %d (%v)", set, len(got[i]), len(want), err)
		}
	}
	if e := h.Last("c"); e == nil || h.Entry(publishers*each) == nil {
		t.Error("not all was published")
	}
}

// readAndResume reads in small batches until done is closed and all is read. At
// random it closes its cursor and resumes from its position.
func readAndResume(t *testing.T, h *hub.Hub, topics []string, done <-chan struct{}) (got []*store.Entry) {
	c := h.SubscribeAfter(topics, 0)
	defer func() { c.Close() }()
	for {
		over := false
		select {
		case <-c.Ready():
		case <-done:
			over = true
		}
		for more := true; more; more = !c.CaughtUp() {
			entries, err := c.Next(rand.IntN(200), nil)
			if err != nil {
				t.Error(err)
				return got
			}
			got = append(got, entries...)
		}
		if over {
			return got
		}
		if rand.IntN(5) == 0 {
			id := c.Position()
			c.Close()
			seq, ok := h.Resolve(id, nil)
			if !ok {
				t.Errorf("%s is not known", id)
			}
			c = h.SubscribeAfter(topics, seq)
		}
	}
}

// Under a history of two events, a cursor reads the next event of its topic or
// gets ErrLost.
func TestCursorReportsEveryLossUnderShortHistory(t *testing.T) {
	const each = 3000
	h := newHub(t, store.History{MaxEvents: 2})
	var publishing, reading sync.WaitGroup
	topics := []string{"a", "b"}
	for _, topic := range topics {
		publishing.Go(func() {
			for i := 1; i <= each; i++ {
				publish(t, h, strconv.Itoa(i), topic)
				if i%7 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	done := make(chan struct{})
	for _, topic := range topics {
		for range 3 {
			reading.Go(func() { countOn(t, h, topic, each, done) })
		}
	}
	publishing.Wait()
	close(done)
	reading.Wait()
}

// countOn expects that a topic's events are consecutive numbers, except after
// ErrLost.
func countOn(t *testing.T, h *hub.Hub, topic string, end int, done <-chan struct{}) {
	c := h.Subscribe([]string{topic})
	defer func() { c.Close() }()
	last, known := 0, false // the last number; unknown after ErrLost
	for over := false; ; {
		select {
		case <-c.Ready():
		case <-done:
			over = true
		}
		entries, err := read(c)
		if errors.Is(err, hub.ErrLost) {
			c.Close()
			c, known = h.Subscribe([]string{topic}), false
			continue
		}
		for _, data := range dataOf(entries) {
			n, _ := strconv.Atoi(data)
			if known && n != last+1 {
				t.Errorf("on %s, %d comes after %d", topic, n, last)
			}
			last, known = n, true
		}
		if over {
			if known && last != end {
				t.Errorf("on %s, %d is the last", topic, last)
			}
			return
		}
	}
}

func TestReaderSleepsUntilEventOnItsTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		c := subscribe(t, h, "a")
		var at time.Duration
		began := time.Now()
		go func() {
			<-c.Ready()
			at = time.Since(began)
		}()
		time.Sleep(time.Minute)
		busy(t, h, 1)
		time.Sleep(time.Minute)
		if _, _, err := h.Publish([]string{"a"}, event.Event{}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if at != 2*time.Minute {
			t.Errorf("woken after %v", at)
		}
	})
}
