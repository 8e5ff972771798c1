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

// crowded is a slow backend that counts concurrent requests.
type crowded struct {
	takes time.Duration

	mu            sync.Mutex
	inside, most  int
	asked, served map[string]int
}

func newCrowded(takes time.Duration) *crowded {
	return &crowded{takes: takes, asked: make(map[string]int), served: make(map[string]int)}
}

func (c *crowded) answer(r *http.Request) (*subrequest.Response, error) {
	c.enter(r, 1, c.asked)
	defer c.enter(r, -1, c.served)
	select {
	case <-time.After(c.takes):
		return document(fmt.Sprintf("%q", r.URL.Path)), nil
	case <-r.Context().Done():
		return nil, context.Cause(r.Context())
	}
}

func (c *crowded) enter(r *http.Request, n int, count map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inside += n
	c.most = max(c.most, c.inside)
	count[r.URL.Path]++
}

func (c *crowded) want(t *testing.T, inside, most int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inside != inside || c.most != most {
		t.Errorf("%d polls are in flight, want %d; %d were at most, want %d", c.inside, inside, c.most, most)
	}
}

func TestMaxInFlightBoundsConcurrentPolls(t *testing.T) {
	within(t, poll.Config{MaxInFlight: 3, Timeout: 5 * second}, func(e *env) {
		b := newCrowded(time.Second)
		e.setFunc(b.answer)
		for i := range 50 {
			e.start(ask(fmt.Sprintf("/%d", i)), new(caller), "")
		}
		pass(17 * time.Second) // 50 of 3 a second
		for i, v := range e.viewers {
			v.want(t, fmt.Sprintf(`"/%d"`, i))
		}
		for range 60 {
			pass(time.Second)
			e.Invalidate("example.com", "/")
		}
		b.want(t, 3, 3)
		for i := range 50 {
			if n := b.asked[fmt.Sprintf("/%d", i)]; n < 3 {
				t.Errorf("/%d was polled %d times only", i, n)
			}
		}
	})
}

func TestPollThatWaitsForSlotBlocksNoOthers(t *testing.T) {
	within(t, poll.Config{MaxInFlight: 2, Linger: -1, Timeout: 60 * second}, func(e *env) {
		b := newCrowded(10 * time.Second)
		e.setFunc(b.answer)
		for i := range 8 {
			e.watch(ask(fmt.Sprintf("/%d", i)))
		}
		b.want(t, 2, 2)
		for i, v := range e.viewers {
			if b.asked[fmt.Sprintf("/%d", i)] == 0 { // it waits
				v.leave()
			}
		}
		synctest.Wait()
		if e.Views() != 2 {
			t.Errorf("%d views", e.Views())
		}
		late := e.start(ask("/late"), new(caller), "")
		pass(9 * time.Second)
		b.want(t, 2, 2)
		late.want(t)
		pass(11 * time.Second)
		late.want(t, `"/late"`)
		b.want(t, b.inside, 2)
	})
}

func TestPollReleasesSlotWhenViewerLeaves(t *testing.T) {
	within(t, poll.Config{MaxInFlight: 1, Linger: -1, Timeout: 60 * second}, func(e *env) {
		b := newCrowded(10 * time.Second)
		e.setFunc(b.answer)
		first := e.watch(ask("/1"))
		second := e.watch(ask("/2"))
		pass(time.Second)
		first.leave()
		pass(10 * time.Second)
		second.want(t, `"/2"`)
		b.want(t, 0, 1)
	})
}

func TestTimeoutStartsWhenPollAcquiresSlot(t *testing.T) {
	within(t, poll.Config{MaxInFlight: 1, Timeout: 5 * second}, func(e *env) {
		e.setFunc(newCrowded(4 * time.Second).answer)
		for i := range 5 {
			e.start(ask(fmt.Sprintf("/%d", i)), new(caller), "")
		}
		pass(time.Minute)
		for i, v := range e.viewers {
			v.want(t, fmt.Sprintf(`"/%d"`, i))
		}
	})
}

func TestFailedPollReleasesSlot(t *testing.T) {
	within(t, poll.Config{MaxInFlight: 1, Timeout: second}, func(e *env) {
		e.take(time.Hour)
		for i := range 3 {
			e.start(ask(fmt.Sprintf("/%d", i)), new(caller), "")
		}
		pass(10 * time.Second)
		for _, v := range e.viewers {
			v.want(t, "stale")
		}
		e.take(0)
		pass(time.Minute)
		for _, v := range e.viewers {
			v.want(t, "stale", "1")
		}
	})
}
