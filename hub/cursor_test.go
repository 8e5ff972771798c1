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

func TestACursorReadsWhatIsPublishedFromNowOn(t *testing.T) {
	h := newHub(t, store.History{})
	publish(t, h, "before", "a")
	c := follow(t, h, "a", "b")
	if woken(c) || !c.CaughtUp() || c.Position() != h.Position(1) {
		t.Errorf("a new cursor is at %s, drained: %v", c.Position(), c.CaughtUp())
	}
	publish(t, h, "1", "a")
	publish(t, h, "2", "c")
	publish(t, h, "3", "b")
	if !woken(c) || woken(c) {
		t.Error("the reader is not woken exactly once")
	}
	wantRead(t, c, "1", "3")
	if c.Position() != h.Position(4) {
		t.Errorf("the cursor is at %s", c.Position())
	}
	wantRead(t, c)
}

func TestACursorIsNotWokenForOtherTopics(t *testing.T) {
	h := newHub(t, store.History{})
	c := follow(t, h, "a")
	busy(t, h, 3)
	if woken(c) {
		t.Error("woken")
	}
}

func TestACursorThatResumesReadsWhatItMissedFirst(t *testing.T) {
	h := newHub(t, store.History{})
	for _, data := range []string{"1", "2", "3"} {
		publish(t, h, data, "a")
	}
	c := followAfter(t, h, 1, "a")
	if !woken(c) || c.CaughtUp() {
		t.Error("it is not told that there may be something to read")
	}
	publish(t, h, "4", "a")
	wantRead(t, c, "2", "3", "4")
	nothing := followAfter(t, h, 4, "a")
	wantRead(t, nothing)
}

func TestABoundedReadGoesOnWhereItStopped(t *testing.T) {
	h := newHub(t, store.History{})
	c := follow(t, h, "a")
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

func TestAClosedCursorIsWokenNoMore(t *testing.T) {
	h := newHub(t, store.History{})
	c, stays := follow(t, h, "a", "b"), follow(t, h, "a")
	c.Close()
	c.Close()
	publish(t, h, "x", "a", "b")
	if woken(c) || !woken(stays) {
		t.Error("the wrong cursor was closed")
	}
	if readers := h.SubscribersByTopic(); readers["a"] != 1 || len(readers) != 1 {
		t.Errorf("%v", readers)
	}
}

func TestWhatHasLeftTheHistoryUnreadIsLost(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 3})
	c := follow(t, h, "a")
	publish(t, h, "1", "a")
	busy(t, h, 2)
	wantRead(t, c, "1") // just in time
	publish(t, h, "2", "a")
	busy(t, h, 3)
	if _, err := read(c); !errors.Is(err, hub.ErrLost) {
		t.Error(err)
	}
}

func TestALostEventIsLostThoughLaterOnesAreThere(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 3})
	c := follow(t, h, "a")
	publish(t, h, "1", "a")
	publish(t, h, "2", "a")
	busy(t, h, 2)
	if _, err := read(c); !errors.Is(err, hub.ErrLost) {
		t.Error(err)
	}
}

func TestAQuietTopicLosesNothingWhileAnotherIsBusy(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 3})
	quiet, resumed := follow(t, h, "a"), followAfter(t, h, 0, "a")
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

func TestWhatIsLostWhileACursorCatchesUpIsNoticed(t *testing.T) {
	h := newHub(t, store.History{})
	for _, data := range []string{"1", "2", "3"} {
		publish(t, h, data, "a")
	}
	c := followAfter(t, h, 0, "a")
	if entries, err := c.Next(1, nil); err != nil || len(entries) != 1 {
		t.Fatal(err)
	}
	h.SetHistory(store.History{MaxEvents: 1})
	if _, err := c.Next(1, nil); !errors.Is(err, hub.ErrLost) {
		t.Error(err)
	}
}

func TestWhatIsLostBeforeAReplayIsNoticed(t *testing.T) {
	h := newHub(t, store.History{})
	publish(t, h, "1", "a")
	publish(t, h, "2", "a")
	seq, ok := h.Resolve(h.Position(0))
	if !ok {
		t.Fatal("the beginning is not known")
	}
	h.SetHistory(store.History{MaxEvents: 1})
	if _, err := read(followAfter(t, h, seq, "a")); !errors.Is(err, hub.ErrLost) {
		t.Error(err)
	}
}

// racyStore is a log in which something happens just before it is read, or
// between an append and what follows it.
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

func TestWhatIsPublishedAndLostDuringAReadIsNoticed(t *testing.T) {
	for name, prepare := range map[string]func(h *hub.Hub, c *hub.Cursor){
		"nothing was unread": func(*hub.Hub, *hub.Cursor) {},
		"one was unread":     func(h *hub.Hub, _ *hub.Cursor) { publish(t, h, "1", "a") },
		"one was read": func(h *hub.Hub, c *hub.Cursor) {
			publish(t, h, "1", "a")
			wantRead(t, c, "1")
		},
	} {
		s := &racyStore{Memory: store.NewMemory()}
		h := over(t, s, store.History{MaxEvents: 1})
		c := follow(t, h, "a")
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

func TestWhatIsPublishedDuringAReadOnOtherTopicsLosesNothing(t *testing.T) {
	s := &racyStore{Memory: store.NewMemory()}
	h := over(t, s, store.History{MaxEvents: 1})
	c := follow(t, h, "a")
	s.beforeRead = func() { busy(t, h, 10) }
	wantRead(t, c)
	s.beforeRead = func() { busy(t, h, 10); publish(t, h, "1", "a") }
	wantRead(t, c, "1")
	wantRead(t, c)
}

// The reader is woken for an event that it has read together with an earlier
// one. That must not hide the next.
func TestAnEventThatWasReadBeforeItsWakingHidesNoOther(t *testing.T) {
	for _, lost := range []bool{true, false} {
		s := &racyStore{Memory: store.NewMemory()}
		h := over(t, s, store.History{MaxEvents: 3})
		c := follow(t, h, "a")
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

func TestAnEventThatWasReadBeforeItsWakingIsNotLost(t *testing.T) {
	s := &racyStore{Memory: store.NewMemory()}
	h := over(t, s, store.History{MaxEvents: 3})
	c := follow(t, h, "a")
	s.afterAppend = func() { wantRead(t, c, "1") }
	publish(t, h, "1", "a")
	busy(t, h, 10)
	wantRead(t, c)
	publish(t, h, "2", "a")
	busy(t, h, 2)
	wantRead(t, c, "2")
}

func TestSkippingMovesForwardOnly(t *testing.T) {
	h := newHub(t, store.History{})
	c := follow(t, h, "a")
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

func TestWhatWasSkippedIsNotLost(t *testing.T) {
	h := newHub(t, store.History{MaxEvents: 2})
	c := follow(t, h, "a")
	publish(t, h, "1", "a")
	c.Skip(1)
	busy(t, h, 10)
	wantRead(t, c)
	publish(t, h, "2", "a")
	wantRead(t, c, "2")
}

func TestWhatIsLostBehindASkipIsNoticed(t *testing.T) {
	s := newGatedStore()
	h := over(t, s, store.History{})
	c := follow(t, h, "a")
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

// brokenReads is a log that can't be read.
type brokenReads struct{ *store.Memory }

var errDisk = errors.New("disk on fire")

func (brokenReads) Read([]string, uint64, int, []*store.Entry) (store.Batch, error) {
	return store.Batch{}, errDisk
}

func TestAReadThatFailsSaysWhy(t *testing.T) {
	h := over(t, brokenReads{store.NewMemory()}, store.History{})
	if _, err := read(followAfter(t, h, 0, "a")); !errors.Is(err, errDisk) {
		t.Error(err)
	}
}

// Who opens a cursor while its topic is busy must not wait for anything.
func TestFollowingABusyTopicNeverBlocks(t *testing.T) {
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
		t.Error("a cursor is not opened")
	}
	close(stop)
	publisher.Wait()
}

// Cursors that come, go and resume at random under many publishers get every
// event of their topics, once and in order.
func TestNothingIsMissedDoubledOrSwapped(t *testing.T) {
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
		reading.Go(func() { got[i] = readRestlessly(t, h, set, done) })
	}
	publishing.Wait()
	close(done)
	reading.Wait()
	for i, set := range sets {
		want, err := read(followAfter(t, h, 0, set...))
		if err != nil || !slices.Equal(got[i], want) {
			t.Errorf("%q: %d events, want %d (%v)", set, len(got[i]), len(want), err)
		}
	}
	if e := h.Last("c"); e == nil || h.Entry(publishers*each) == nil {
		t.Error("not all was published")
	}
}

// readRestlessly reads until all is read after done, by small pieces, and
// leaves and resumes by its last id every now and then.
func readRestlessly(t *testing.T, h *hub.Hub, topics []string, done <-chan struct{}) (got []*store.Entry) {
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
			seq, ok := h.Resolve(id)
			if !ok {
				t.Errorf("%s is not known", id)
			}
			c = h.SubscribeAfter(topics, seq)
		}
	}
}

// Under a history that is far too short, a cursor either reads the very next
// event of its topic or is told that it can't.
func TestNothingIsSkippedInSilenceWhileTheHistoryRacesOn(t *testing.T) {
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

// countOn expects a topic's events to be the numbers from one on, but after a
// loss that it is told of.
func countOn(t *testing.T, h *hub.Hub, topic string, end int, done <-chan struct{}) {
	c := h.Subscribe([]string{topic})
	defer func() { c.Close() }()
	last, known := 0, false // the last number, where it is known
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

func TestAReaderSleepsUntilItsTopicIsPublishedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		c := follow(t, h, "a")
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
