package poll_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// watchSome subscribes to n documents without a goroutine of the viewers' own.
func (e *env) watchSome(n int) {
	for i := range n {
		viewing, refused, err := e.Subscribe(newRequest(fmt.Sprintf("/orders/%d", i)), &caller{backend: e.backend, client: fmt.Sprint(i)})
		if viewing == nil {
			e.t.Fatal(refused, err)
		}
		gone := make(chan struct{})
		close(gone)
		e.viewers = append(e.viewers, &viewer{cancel: viewing.Close, gone: gone})
	}
	synctest.Wait()
}

// goroutines counts all goroutines. [runtime.NumGoroutine] sometimes counts some that
// have ended.
func goroutines() int {
	stacks := make([]byte, 1<<22)
	return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("\n\ngoroutine ")) + 1
}

func TestViewsAtRestHaveNoGoroutines(t *testing.T) {
	const views, maxInFlight = 200, 5
	within(t, poll.Config{Interval: 10 * second, MaxInFlight: maxInFlight}, func(e *env) {
		before := goroutines()
		e.take(time.Second)
		e.watchSome(views)
		for range 5 {
			advance(9 * time.Second)
			if more := goroutines() - before; more > views/10 {
				t.Fatalf("%d views have %d goroutines, want those of %d polls", views, more, maxInFlight)
			}
		}
		if polls := e.polls(); polls < 2*views {
			t.Errorf("there were %d polls of %d views", polls, views)
		}
	})
}

func TestPollsThatWaitForSlotsHaveNoGoroutines(t *testing.T) {
	const views, maxInFlight = 200, 5
	within(t, poll.Config{Interval: 10 * second, Timeout: 30 * second, MaxInFlight: maxInFlight}, func(e *env) {
		before := goroutines()
		e.watchSome(views)
		e.take(time.Hour)
		advance(15 * time.Second)
		if more := goroutines() - before; more > views/10 {
			t.Errorf("%d views whose polls hang or wait have %d goroutines", views, more)
		}
		if polls := e.polls(); polls > views+maxInFlight {
			t.Errorf("%d requests are in flight", polls-views)
		}
	})
}

func TestWorkersEndWithLastView(t *testing.T) {
	within(t, poll.Config{Interval: second, Linger: -second}, func(e *env) {
		for range 3 {
			e.watchSome(50)
			advance(10 * time.Second)
			if workers := e.Workers(); workers == 0 || workers > 50 {
				t.Errorf("50 views have %d workers", workers)
			}
			for _, v := range e.viewers {
				v.leave()
			}
			e.viewers = nil
			synctest.Wait()
			if e.Workers() > 0 || e.Views() > 0 {
				t.Fatalf("without viewers there are %d workers and %d views", e.Workers(), e.Views())
			}
		}
	})
}

func TestWritesWhilePollOfOneWaitsForSlotCauseNoFurtherPoll(t *testing.T) {
	within(t, poll.Config{Interval: 100 * second, Timeout: 50 * second, MaxInFlight: 1}, func(e *env) {
		e.subscribe(newRequest("/slow"))
		e.subscribe(newRequest("/fast"))
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if !isSlow(r) {
				return document("2"), nil
			}
			select {
			case <-time.After(10 * time.Second):
				return document("2"), nil
			case <-r.Context().Done():
				return nil, context.Cause(r.Context())
			}
		})
		before := e.polls()
		e.Invalidate("example.com", "/slow")
		synctest.Wait()
		for range 3 {
			e.Invalidate("example.com", "/fast")
			advance(2 * time.Second)
		}
		advance(5 * time.Second) // before the polls that follow those of a write
		if polls := e.polls() - before; polls != 2 {
			t.Errorf("there were %d polls, want one of each document", polls)
		}
	})
}
