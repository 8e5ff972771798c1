package poll_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// slowBackend is a slow backend that counts concurrent requests.
type slowBackend struct {
	takes time.Duration

	mu              sync.Mutex
	inside, most    int
	started, served map[string]int
}

func newSlowBackend(takes time.Duration) *slowBackend {
	return &slowBackend{takes: takes, started: make(map[string]int), served: make(map[string]int)}
}

func (c *slowBackend) answer(r *http.Request) (*subrequest.Response, error) {
	c.count(r, 1, c.started)
	defer c.count(r, -1, c.served)
	select {
	case <-time.After(c.takes):
		return document(fmt.Sprintf("%q", r.URL.Path)), nil
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
}

func (c *slowBackend) count(r *http.Request, n int, counts map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inside += n
	c.most = max(c.most, c.inside)
	counts[r.URL.Path]++
}

func (c *slowBackend) want(t *testing.T, inside, most int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inside != inside || c.most != most {
		t.Errorf("%d polls are in flight, want %d; %d were at most, want %d", c.inside, inside, c.most, most)
	}
}

func TestMaxInFlightBoundsConcurrentPolls(t *testing.T) {
	within(t, poll.Config{MaxInFlight: 3, Timeout: 5 * second}, func(e *env) {
		b := newSlowBackend(time.Second)
		e.setFunc(b.answer)
		for i := range 50 {
			e.start(newRequest(fmt.Sprintf("/%d", i)), new(caller), "")
		}
		advance(17 * time.Second) // 50 of 3 a second
		for i, v := range e.viewers {
			v.want(t, fmt.Sprintf(`"/%d"`, i))
		}
		for range 60 {
			advance(time.Second)
			e.Invalidate("example.com", "/")
		}
		b.want(t, 3, 3)
		for i := range 50 {
			if n := b.started[fmt.Sprintf("/%d", i)]; n < 3 {
				t.Errorf("/%d was polled %d times only", i, n)
			}
		}
	})
}

func TestPollThatWaitsForSlotBlocksNoOthers(t *testing.T) {
	within(t, poll.Config{MaxInFlight: 2, Linger: -1, Timeout: 60 * second}, func(e *env) {
		b := newSlowBackend(10 * time.Second)
		e.setFunc(b.answer)
		for i := range 8 {
			e.subscribe(newRequest(fmt.Sprintf("/%d", i)))
		}
		b.want(t, 2, 2)
		for i, v := range e.viewers {
			if b.started[fmt.Sprintf("/%d", i)] == 0 { // it waits
				v.leave()
			}
		}
		synctest.Wait()
		if e.Views() != 2 {
			t.Errorf("%d views", e.Views())
		}
		late := e.start(newRequest("/late"), new(caller), "")
		advance(9 * time.Second)
		b.want(t, 2, 2)
		late.want(t)
		advance(11 * time.Second)
		late.want(t, `"/late"`)
		b.want(t, b.inside, 2)
	})
}

func TestPollReleasesSlotWhenViewerLeaves(t *testing.T) {
	within(t, poll.Config{MaxInFlight: 1, Linger: -1, Timeout: 60 * second}, func(e *env) {
		b := newSlowBackend(10 * time.Second)
		e.setFunc(b.answer)
		first := e.subscribe(newRequest("/1"))
		second := e.subscribe(newRequest("/2"))
		advance(time.Second)
		first.leave()
		advance(10 * time.Second)
		second.want(t, `"/2"`)
		b.want(t, 0, 1)
	})
}

func TestTimeoutStartsWhenPollAcquiresSlot(t *testing.T) {
	within(t, poll.Config{MaxInFlight: 1, Timeout: 5 * second}, func(e *env) {
		e.setFunc(newSlowBackend(4 * time.Second).answer)
		for i := range 5 {
			e.start(newRequest(fmt.Sprintf("/%d", i)), new(caller), "")
		}
		advance(time.Minute)
		for i, v := range e.viewers {
			v.want(t, fmt.Sprintf(`"/%d"`, i))
		}
	})
}

func TestFailedPollReleasesSlot(t *testing.T) {
	within(t, poll.Config{MaxInFlight: 1, Timeout: second}, func(e *env) {
		e.take(time.Hour)
		for i := range 3 {
			e.start(newRequest(fmt.Sprintf("/%d", i)), new(caller), "")
		}
		advance(10 * time.Second)
		for _, v := range e.viewers {
			v.want(t, "stale")
		}
		e.take(0)
		advance(time.Minute)
		for _, v := range e.viewers {
			v.want(t, "stale", "1")
		}
	})
}
