package inflight_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-sse/caddy-sse/internal/inflight"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// slow returns a function that takes a second and yields how often it has run.
func slow(runs *atomic.Int64) func(context.Context) (int64, error) {
	return func(ctx context.Context) (int64, error) {
		n := runs.Add(1)
		select {
		case <-time.After(time.Second):
			return n, nil
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

func TestCallersWithSameKeyShareOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g inflight.Group[int64]
		var runs, sharers atomic.Int64
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				value, shared, err := g.Do(t.Context(), "key", slow(&runs))
				if shared {
					sharers.Add(1)
				}
				if value != 1 || err != nil {
					t.Errorf("got %d, %v", value, err)
				}
			})
		}
		callers.Wait()
		if runs.Load() != 1 || sharers.Load() != 99 {
			t.Errorf("%d calls, %d callers shared", runs.Load(), sharers.Load())
		}
		if value, shared, _ := g.Do(t.Context(), "key", slow(&runs)); value != 2 || shared || g.Len() != 0 {
			t.Errorf("afterwards: got %d, shared %v, %d calls left", value, shared, g.Len())
		}
	})
}

func TestCallersWithDifferentKeysShareNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g inflight.Group[int64]
		var runs atomic.Int64
		var callers sync.WaitGroup
		for i := range 10 {
			callers.Go(func() {
				if _, shared, err := g.Do(t.Context(), fmt.Sprint(i), slow(&runs)); shared || err != nil {
					t.Errorf("shared %v, %v", shared, err)
				}
			})
		}
		callers.Wait()
		if runs.Load() != 10 {
			t.Errorf("%d calls", runs.Load())
		}
	})
}

func TestErrorReachesEachCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g inflight.Group[int]
		failure := errors.New("no")
		var callers sync.WaitGroup
		for range 10 {
			callers.Go(func() {
				_, _, err := g.Do(t.Context(), "", func(context.Context) (int, error) { time.Sleep(time.Second); return 0, failure })
				if !errors.Is(err, failure) {
					t.Errorf("got %v", err)
				}
			})
		}
		callers.Wait()
	})
}

func TestCallOutlivesItsFirstCallerAndEndsWithItsLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g inflight.Group[int64]
		var runs atomic.Int64
		first, leave := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() {
			if _, _, err := g.Do(first, "key", slow(&runs)); !errors.Is(err, context.Canceled) {
				t.Errorf("first caller got %v", err)
			}
		})
		synctest.Wait()
		callers.Go(func() {
			if value, shared, err := g.Do(t.Context(), "key", slow(&runs)); value != 1 || !shared || err != nil {
				t.Errorf("second caller got %d, shared %v, %v", value, shared, err)
			}
		})
		synctest.Wait()
		leave()
		callers.Wait()

		cancelled := make(chan struct{})
		alone, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		_, _, err := g.Do(alone, "key", func(ctx context.Context) (int64, error) { <-ctx.Done(); close(cancelled); return 0, nil })
		<-cancelled
		if !errors.Is(err, context.DeadlineExceeded) || g.Len() != 0 {
			t.Errorf("got %v, %d calls left", err, g.Len())
		}
	})
}

// The call that was cancelled is still running when the next one begins.
func TestCallThatEveryoneLeftIsNotShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := inflight.Group[int]{TTL: time.Hour, MaxKept: 10}
		done := make(chan struct{})
		gone, leave := context.WithCancel(t.Context())
		leave()
		_, _, _ = g.Do(gone, "key", func(context.Context) (int, error) { <-done; return 1, nil })
		value, shared, err := g.Do(t.Context(), "key", func(context.Context) (int, error) { return 2, nil })
		close(done)
		synctest.Wait()
		if value != 2 || shared || err != nil {
			t.Errorf("got %d, shared %v, %v", value, shared, err)
		}
		if value, shared, _ = g.Do(t.Context(), "key", nil); value != 2 || !shared {
			t.Errorf("kept is %d, shared %v", value, shared)
		}
		time.Sleep(2 * time.Hour)
	})
}

func TestDetachedCallOutlivesAllCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := inflight.Group[int64]{Detached: true}
		var runs atomic.Int64
		gone, leave := context.WithCancel(t.Context())
		leave()
		_, _, _ = g.Do(gone, "key", slow(&runs))
		if value, shared, err := g.Do(t.Context(), "key", slow(&runs)); value != 1 || !shared || err != nil {
			t.Errorf("got %d, shared %v, %v", value, shared, err)
		}
	})
}

func TestResultIsKeptForTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := inflight.Group[int64]{TTL: time.Second, MaxKept: 1}
		var runs atomic.Int64
		for _, c := range []struct {
			after  time.Duration
			want   int64
			shared bool
		}{{0, 1, false}, {900 * time.Millisecond, 1, true}, {200 * time.Millisecond, 2, false}} {
			time.Sleep(c.after)
			if value, shared, _ := g.Do(t.Context(), "key", slow(&runs)); value != c.want || shared != c.shared {
				t.Errorf("%v later: got %d, shared %v", c.after, value, shared)
			}
		}
		time.Sleep(2 * time.Second)
		if g.Len() != 0 {
			t.Errorf("%d results outlive their TTL", g.Len())
		}
	})
}

func TestFullGroupStartsNoFurtherCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := inflight.Group[int64]{Detached: true, MaxCalls: 2}
		var runs atomic.Int64
		gone, leave := context.WithCancel(t.Context())
		leave()
		for i := range 2 {
			_, _, _ = g.Do(gone, fmt.Sprint(i), slow(&runs))
		}
		if _, _, err := g.Do(t.Context(), "2", slow(&runs)); !errors.Is(err, inflight.ErrFull) {
			t.Errorf("a third call: %v", err)
		}
		if _, shared, err := g.Do(t.Context(), "1", slow(&runs)); !shared || err != nil {
			t.Errorf("a caller of the second call: shared %v, %v", shared, err)
		}
		if _, _, err := g.Do(t.Context(), "2", slow(&runs)); err != nil {
			t.Errorf("a call after the others: %v", err)
		}
		time.Sleep(time.Hour)
	})
}

func TestFullGroupKeepsNoFurtherResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := inflight.Group[int64]{TTL: time.Minute, MaxKept: 3}
		var runs atomic.Int64
		for i := range 10 {
			_, _, _ = g.Do(t.Context(), fmt.Sprint(i), slow(&runs))
		}
		if g.Len() != 3 {
			t.Errorf("%d results are kept", g.Len())
		}
		if _, shared, _ := g.Do(t.Context(), "9", slow(&runs)); shared {
			t.Error("the last result is kept")
		}
		time.Sleep(time.Hour)
	})
}
