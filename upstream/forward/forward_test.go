package forward_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/upstream/forward"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var history = store.History{MaxEvents: 1000, MaxAge: 100 * time.Hour}

// app records the requests that it gets. respond returns its responses; nil
// responds with 200.
type app struct {
	mu      sync.Mutex
	got     []string
	at      []time.Time
	respond func(ctx context.Context, body string, n int) (forward.Response, error)
}

func (a *app) send(ctx context.Context, r *forward.Request) (forward.Response, error) {
	body := string(r.Body)
	a.mu.Lock()
	a.got, a.at = append(a.got, body), append(a.at, time.Now())
	n := len(a.got)
	a.mu.Unlock()
	if a.respond == nil {
		return forward.Response{Status: http.StatusOK}, nil
	}
	return a.respond(ctx, body, n)
}

func (a *app) bodies() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.got)
}

// env is a hub and a forwarder in a bubble with a fake clock.
type env struct {
	*testing.T
	*app
	hub *hub.Hub
	f   *forward.Forwarder
	log *observer.ObservedLogs

	countsMu sync.Mutex
	counts   map[forward.Result]int
}

func within(t *testing.T, s func() store.Store, run func(e *env)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := &env{T: t, app: new(app), hub: hub.New(s(), history), counts: make(map[forward.Result]int)}
		e.start(nil)
		run(e)
		e.f.Stop(0, true)
		if err := e.hub.Close(); err != nil {
			t.Error(err)
		}
	})
}

func memory() store.Store { return store.NewMemory() }

func (e *env) start(previous *forward.Forwarder) {
	core, log := observer.New(zap.InfoLevel)
	e.log = log
	e.f = forward.New(e.hub, forward.Options{
		Queue: forward.QueueOf(e.hub, "rule"), Send: e.send, For: 24 * time.Hour, History: history, Log: zap.New(core),
		Count: func(r forward.Result) {
			e.countsMu.Lock()
			defer e.countsMu.Unlock()
			e.counts[r]++
		},
	})
	go e.f.Run(previous)
	synctest.Wait()
}

func (e *env) put(bodies ...string) {
	e.Helper()
	for _, body := range bodies {
		r := &forward.Request{Method: "POST", URI: []byte("/hook?token=secret"), Host: []byte("h"), Body: []byte(body)}
		message, err := forward.Message(forward.QueueOf(e.hub, "rule"), r)
		if err != nil {
			e.Fatal(err)
		}
		if _, err := e.hub.PublishAll([]hub.Message{message}, hub.IdempotencyKey{}); err != nil {
			e.Fatal(err)
		}
	}
	synctest.Wait()
}

func (e *env) want(bodies ...string) {
	e.Helper()
	synctest.Wait()
	if got := e.bodies(); !slices.Equal(got, bodies) {
		e.Errorf("the app got %q, want %q", got, bodies)
	}
}

func (e *env) count(r forward.Result) int {
	e.countsMu.Lock()
	defer e.countsMu.Unlock()
	return e.counts[r]
}

func status(n int) (forward.Response, error) { return forward.Response{Status: n}, nil }

func TestDeliveriesArriveInOrderAndOnce(t *testing.T) {
	within(t, memory, func(e *env) {
		var want []string
		for i := range 100 {
			want = append(want, fmt.Sprint(i))
		}
		e.put(want...)
		e.want(want...)
		e.f.Stop(0, true)
		e.start(nil)
		time.Sleep(48 * time.Hour)
		e.want(want...) // after a restart, too
		if e.count(forward.Delivered) != 100 || e.f.Pending() != 0 {
			t.Error(e.counts)
		}
	})
}

func TestFailedDeliveryIsRetriedWithBackoffAndBlocksNoOther(t *testing.T) {
	within(t, memory, func(e *env) {
		e.respond = func(_ context.Context, body string, n int) (forward.Response, error) {
			switch {
			case body != "bad":
				return status(204)
			case n%2 == 0:
				return forward.Response{}, errors.New("down")
			}
			return status(500)
		}
		e.put("bad", "a", "b")
		e.want("bad", "a", "b")
		time.Sleep(23 * time.Hour)
		synctest.Wait()
		if n := e.count(forward.Failed); n < 20 || n > 80 || e.f.Pending() != 1 {
			t.Errorf("%d attempts, %d pending", n, e.f.Pending())
		}
		e.mu.Lock()
		at := slices.Clone(e.at)
		e.mu.Unlock()
		for i := 4; i < len(at); i++ {
			if pause := at[i].Sub(at[i-1]); pause < 500*time.Millisecond || pause > 90*time.Minute {
				t.Errorf("pause %d is %v", i, pause)
			}
		}
		time.Sleep(70 * time.Minute)
		synctest.Wait()
		letters, err := e.f.DeadLetters()
		if err != nil || len(letters) != 1 || e.count(forward.Dead) != 1 || e.f.Pending() != 0 {
			t.Fatalf("%v %v %v", letters, err, e.counts)
		}
		if l := letters[0]; l.Path != "/hook" || l.Method != "POST" || !l.Kept || l.Attempts < 20 || l.GivenUp.Sub(l.Received) < 24*time.Hour {
			t.Errorf("%+v", l)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if last := e.app.at[len(e.app.at)-1].Sub(letters[0].Received); last != 24*time.Hour {
			t.Errorf("the last attempt was after %v", last)
		}
	})
}

func TestDeadLetterCanBeRetriedOnce(t *testing.T) {
	within(t, memory, func(e *env) {
		e.respond = func(context.Context, string, int) (forward.Response, error) { return status(http.StatusGone) }
		e.put("a")
		letters, _ := e.f.DeadLetters()
		if len(letters) != 1 || letters[0].Status != 410 {
			t.Fatalf("%+v", letters)
		}
		if said := e.log.FilterMessageSnippet("given up").All(); len(said) != 1 || said[0].ContextMap()["id"] != letters[0].ID {
			t.Errorf("the log says %+v", said)
		}
		e.respond = nil
		if err := e.f.Retry(letters[0].ID); err != nil {
			t.Fatal(err)
		}
		e.want("a", "a")
		if err := e.f.Retry(letters[0].ID); !errors.Is(err, forward.ErrNoDeadLetter) {
			t.Errorf("a second time: %v", err)
		}
		if err := e.f.Retry("x"); !errors.Is(err, forward.ErrNoDeadLetter) {
			t.Error(err)
		}
		if letters, _ := e.f.DeadLetters(); len(letters) != 0 {
			t.Errorf("%+v", letters)
		}
	})
}

func TestDeadLetterSaysWhyTheLastAttemptFailed(t *testing.T) {
	for want, respond := range map[string]func() (forward.Response, error){
		"no route to the app":        func() (forward.Response, error) { return forward.Response{}, errors.New("no route to the app") },
		"the app responded with 503": func() (forward.Response, error) { return status(http.StatusServiceUnavailable) },
		"the app responded with 300": func() (forward.Response, error) { return status(http.StatusMultipleChoices) },
	} {
		within(t, memory, func(e *env) {
			e.respond = func(context.Context, string, int) (forward.Response, error) { return respond() }
			e.put("a")
			time.Sleep(25 * time.Hour)
			synctest.Wait()
			letters, err := e.f.DeadLetters()
			if err != nil || len(letters) != 1 || letters[0].Reason != want || e.count(forward.Delivered) > 0 {
				t.Errorf("%+v, %v, want %s", letters, err, want)
			}
		})
	}
}

func TestRetryAfterDelaysNextAttempt(t *testing.T) {
	within(t, memory, func(e *env) {
		e.respond = func(_ context.Context, _ string, n int) (forward.Response, error) {
			if n == 1 {
				return forward.Response{Status: 429, Header: http.Header{"Retry-After": {"600"}}}, nil
			}
			return status(200)
		}
		e.put("a")
		time.Sleep(599 * time.Second)
		e.want("a")
		time.Sleep(2 * time.Second)
		e.want("a", "a")
	})
}

func TestConcurrentAttemptsAreLimited(t *testing.T) {
	within(t, memory, func(e *env) {
		var now, most atomic.Int32
		e.respond = func(ctx context.Context, _ string, _ int) (forward.Response, error) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			select {
			case <-time.After(5 * time.Second):
			case <-ctx.Done():
			}
			return status(200)
		}
		for i := range 40 {
			e.put(fmt.Sprint(i))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := e.bodies(); len(got) != 40 || most.Load() != 8 || e.f.Pending() != 0 {
			t.Errorf("%d came, %d at a time, %d are pending", len(got), most.Load(), e.f.Pending())
		}
	})
}

func TestNextForwarderWaitsForAttemptsInFlight(t *testing.T) {
	within(t, memory, func(e *env) {
		e.respond = func(ctx context.Context, body string, _ int) (forward.Response, error) {
			if body == "slow" {
				time.Sleep(10 * time.Second)
			}
			return status(200)
		}
		e.put("slow")
		previous := e.f
		e.start(previous) // as in a reload: the next forwarder starts before the previous one stops
		previous.Stop(time.Minute, false)
		e.put("next")
		e.want("slow")
		time.Sleep(11 * time.Second)
		e.want("slow", "next")
		if !previous.Done() {
			t.Error("the previous forwarder runs")
		}
	})
}

func TestExitAbortsAttemptsAndNextStartRetriesThem(t *testing.T) {
	within(t, memory, func(e *env) {
		e.respond = func(ctx context.Context, _ string, n int) (forward.Response, error) {
			if n > 1 {
				return status(200)
			}
			<-ctx.Done()
			return forward.Response{}, ctx.Err()
		}
		e.put("a")
		began := time.Now()
		e.f.Stop(time.Second, true)
		if took := time.Since(began); took != time.Second || e.f.Pending() != 1 || e.count(forward.Failed) != 0 {
			t.Errorf("it took %v, %v", took, e.counts)
		}
		e.start(nil)
		e.want("a", "a")
	})
}

func TestDeliveryThatLeavesHistoryCountsAsLost(t *testing.T) {
	within(t, memory, func(e *env) {
		e.respond = func(context.Context, string, int) (forward.Response, error) { return status(500) }
		e.put("a")
		e.hub.SetHistory(store.History{MaxEvents: 1})
		if _, _, err := e.hub.Publish([]string{"t"}, event.Event{Data: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		letters, err := e.f.DeadLetters()
		if err != nil || len(letters) != 1 || letters[0].Kept || e.count(forward.Lost) != 1 || e.f.Pending() != 0 {
			t.Fatalf("%v %v %v", letters, err, e.counts)
		}
		if err := e.f.Retry(letters[0].ID); !errors.Is(err, forward.ErrNotInHistory) {
			t.Error(err)
		}
	})
}

// brokenStore fails while it is broken.
type brokenStore struct {
	store.Store
	broken     atomic.Bool
	unreadable atomic.Bool
}

var errUnreadable = errors.New("a bad sector")

func (s *brokenStore) Read(topics []string, after uint64, maxBytes int, buf []*store.Entry) (store.Batch, error) {
	if s.unreadable.Load() {
		return store.Batch{}, errUnreadable
	}
	return s.Store.Read(topics, after, maxBytes, buf)
}

func (s *brokenStore) Append(entries []*store.Entry, records []store.IdempotencyRecord) error {
	if s.broken.Load() {
		return errors.New("no room")
	}
	return s.Store.Append(entries, records)
}

func TestAcceptanceIsStoredLaterWithoutAnotherAttempt(t *testing.T) {
	s := &brokenStore{Store: store.NewMemory()}
	within(t, func() store.Store { return s }, func(e *env) {
		e.respond = func(context.Context, string, int) (forward.Response, error) {
			s.broken.Store(true)
			return status(200)
		}
		e.put("a")
		time.Sleep(time.Minute)
		if e.f.Pending() != 1 {
			t.Error("the delivery is done")
		}
		s.broken.Store(false)
		time.Sleep(5 * time.Minute)
		e.want("a")
		if e.f.Pending() != 0 || e.count(forward.Delivered) != 1 {
			t.Errorf("%v", e.counts)
		}
	})
}

func TestRequestIsForwardedByteForByte(t *testing.T) {
	within(t, memory, func(e *env) {
		all := make([]byte, 256)
		for i := range all {
			all[i] = byte(i)
		}
		sent := &forward.Request{Method: "PÖST", URI: []byte("/a%2f?\xff"), Host: []byte("h\xfe"), Body: all}
		header := http.Header{"X-A": {"b", "\xff\x80", ""}, "X-B": {"c"}}
		sent.SetHeader(header)
		var got *forward.Request
		e.f.Stop(0, true)
		e.f = forward.New(e.hub, forward.Options{Queue: forward.QueueOf(e.hub, "rule"), For: time.Hour, History: history, Log: zap.NewNop(), Send: func(_ context.Context, r *forward.Request) (forward.Response, error) {
			got = r
			return status(200)
		}})
		message, err := forward.Message(forward.QueueOf(e.hub, "rule"), sent)
		if err != nil {
			t.Fatal(err)
		}
		outcome, err := e.hub.PublishAll([]hub.Message{message}, hub.IdempotencyKey{})
		if err != nil || !forward.IsMessage(outcome.IDs[0]) || forward.IsMessage("forward-x") {
			t.Fatalf("%v %v", outcome, err)
		}
		if hub.CheckTopic(message.Topics[0]) == nil || strings.Contains(message.Topics[0], "rule") {
			t.Errorf("clients can name the topic %q", message.Topics[0])
		}
		go e.f.Run(nil)
		synctest.Wait()
		if got == nil || !bytes.Equal(got.Body, all) || !bytes.Equal(got.URI, sent.URI) || !bytes.Equal(got.Host, sent.Host) || fmt.Sprint(got.HTTPHeader()) != fmt.Sprint(header) {
			t.Errorf("got %+v", got)
		}
	})
}

func TestThirdForwarderWaitsForFirst(t *testing.T) {
	within(t, memory, func(e *env) {
		e.respond = func(ctx context.Context, body string, _ int) (forward.Response, error) {
			select {
			case <-time.After(10 * time.Second):
				return status(200)
			case <-ctx.Done():
				return forward.Response{}, ctx.Err()
			}
		}
		e.put("slow")
		first := e.f
		e.start(first)
		first.Stop(time.Minute, false)
		second := e.f
		e.start(second)
		second.Stop(time.Minute, false)
		time.Sleep(5 * time.Second)
		e.want("slow") // and not twice
		began := time.Now()
		e.f.Stop(time.Second, true) // an exit aborts the attempts of all three
		synctest.Wait()
		if !first.Done() || !second.Done() || !e.f.Done() || time.Since(began) > 2*time.Second {
			t.Errorf("after %v: %v %v %v", time.Since(began), first.Done(), second.Done(), e.f.Done())
		}
	})
}

// laterStore stores entries as if the clock had been a day ahead.
type laterStore struct{ store.Store }

func (s laterStore) Append(entries []*store.Entry, records []store.IdempotencyRecord) error {
	for _, e := range entries {
		e.Time = e.Time.Add(24 * time.Hour)
	}
	return s.Store.Append(entries, records)
}

func TestDeliveriesDoNotWaitForAClockThatWasSetBack(t *testing.T) {
	within(t, func() store.Store { return laterStore{store.NewMemory()} }, func(e *env) {
		e.f.Stop(0, true)
		e.put("1", "2") // as a restart finds them
		e.start(e.f)
		time.Sleep(time.Second)
		e.want("1", "2")
	})
}

func TestDeliveriesAreRetriedNoLongerWhenTheClockWasSetBack(t *testing.T) {
	within(t, func() store.Store { return laterStore{store.NewMemory()} }, func(e *env) {
		e.respond = func(context.Context, string, int) (forward.Response, error) {
			return forward.Response{Status: http.StatusInternalServerError}, nil
		}
		e.put("1")
		time.Sleep(25 * time.Hour)
		synctest.Wait()
		if n := e.count(forward.Dead); n != 1 {
			t.Errorf("%d dead letters after 25 hours, want 1", n)
		}
	})
}

// A dead letter that can't be read isn't one that isn't there.
func TestUnreadableLogIsAnErrorAndIsReadLater(t *testing.T) {
	s := &brokenStore{Store: store.NewMemory()}
	within(t, func() store.Store { return s }, func(e *env) {
		e.respond = func(context.Context, string, int) (forward.Response, error) { return status(http.StatusGone) }
		e.put("a")
		letters, err := e.f.DeadLetters()
		if err != nil || len(letters) != 1 {
			t.Fatalf("%+v, %v", letters, err)
		}
		s.unreadable.Store(true)
		if _, err := e.f.DeadLetters(); !errors.Is(err, errUnreadable) {
			t.Errorf("%v", err)
		}
		if err := e.f.Retry(letters[0].ID); !errors.Is(err, errUnreadable) {
			t.Errorf("%v", err)
		}
		e.respond = nil
		e.put("b")
		time.Sleep(time.Second)
		e.want("a")
		if said := e.log.FilterMessageSnippet("can't be read").Len(); said == 0 {
			t.Errorf("the log says %+v", e.log.All())
		}
		s.unreadable.Store(false)
		time.Sleep(time.Minute)
		e.want("a", "b")
	})
}

// A forwarder without the room for the retry leaves the dead letter where it is.
func TestRetryThatCannotBeStoredIsAnError(t *testing.T) {
	s := &brokenStore{Store: store.NewMemory()}
	within(t, func() store.Store { return s }, func(e *env) {
		e.respond = func(context.Context, string, int) (forward.Response, error) { return status(http.StatusGone) }
		e.put("a")
		letters, _ := e.f.DeadLetters()
		s.broken.Store(true)
		if err := e.f.Retry(letters[0].ID); err == nil || errors.Is(err, forward.ErrNoDeadLetter) {
			t.Errorf("%v", err)
		}
		s.broken.Store(false)
		if letters, err := e.f.DeadLetters(); err != nil || len(letters) != 1 {
			t.Errorf("%+v, %v", letters, err)
		}
	})
}

func TestQueuesAreThoseWithDeliveriesOrDeadLetters(t *testing.T) {
	within(t, memory, func(e *env) {
		if got := forward.Queues(e.hub); len(got) != 0 {
			t.Errorf("%v", got)
		}
		e.respond = func(context.Context, string, int) (forward.Response, error) { return status(http.StatusGone) }
		e.put("a")
		queue := forward.QueueOf(e.hub, "rule")
		if got := forward.Queues(e.hub); len(got) != 1 {
			t.Errorf("%v", got)
		} else if _, ok := got[queue]; !ok {
			t.Errorf("%v", got)
		}
		if n := e.hub.Subscribers([]string{"\x00dead/" + queue}); n != 0 {
			t.Errorf("%d cursors are still open", n)
		}
	})
}
