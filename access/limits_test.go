package access_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/access"
)

// enter takes a place that must be free.
func enter(t *testing.T, s *access.StreamLimiter, l *access.Limits, client, user string) *access.Slot {
	t.Helper()
	place, refused := s.Acquire(l, client, user)
	if refused != nil {
		t.Fatalf("%s %s is refused: %v", client, user, refused)
	}
	return place
}

// limitReached is for a place that must not be free.
func limitReached(t *testing.T, s *access.StreamLimiter, l *access.Limits, client, user string, status int) {
	t.Helper()
	_, refused := s.Acquire(l, client, user)
	if refused == nil || refused.Status != status || refused.RetryAfter <= 0 {
		t.Errorf("%s %s: got %v, want a %d that says when to come back", client, user, refused, status)
	}
}

func TestStreamBeyondLimitIsRefusedUntilAnotherEnds(t *testing.T) {
	for _, c := range []struct {
		limits                 access.Limits
		client, user           string // of the one too many
		otherClient, otherUser string // of one who has nothing to do with it
		status                 int
	}{
		{access.Limits{Rule: 2}, "192.0.2.9", "zoe", "", "", http.StatusServiceUnavailable},
		{access.Limits{PerClient: 2}, "192.0.2.1", "zoe", "192.0.2.2", "ann", http.StatusTooManyRequests},
		{access.Limits{PerUser: 2}, "192.0.2.9", "ann", "192.0.2.1", "zoe", http.StatusTooManyRequests},
		{access.Limits{Rule: 9, PerClient: 9, PerUser: 2}, "192.0.2.9", "ann", "192.0.2.1", "", http.StatusTooManyRequests},
	} {
		s := new(access.StreamLimiter)
		first := enter(t, s, &c.limits, "192.0.2.1", "ann")
		enter(t, s, &c.limits, "192.0.2.1", "ann")
		limitReached(t, s, &c.limits, c.client, c.user, c.status)
		if c.otherClient != "" {
			enter(t, s, &c.limits, c.otherClient, c.otherUser)
		}
		first.Release()
		enter(t, s, &c.limits, c.client, c.user)
		limitReached(t, s, &c.limits, c.client, c.user, c.status)
	}
}

func TestStreamsWithoutUserHaveNoUserLimit(t *testing.T) {
	s := new(access.StreamLimiter)
	for range 10 {
		enter(t, s, &access.Limits{PerUser: 1}, "192.0.2.1", "")
	}
}

func TestReservedSlotIsForItsOwnerOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, limits := new(access.StreamLimiter), &access.Limits{Rule: 1}
		enter(t, s, limits, "192.0.2.1", "ann").Reserve(5 * time.Second)
		time.Sleep(4 * time.Second)
		limitReached(t, s, limits, "192.0.2.2", "ann", http.StatusServiceUnavailable)
		limitReached(t, s, limits, "192.0.2.1", "zoe", http.StatusServiceUnavailable)
		place := enter(t, s, limits, "192.0.2.1", "ann")
		time.Sleep(time.Minute) // the place is no longer kept, but taken
		limitReached(t, s, limits, "192.0.2.2", "zoe", http.StatusServiceUnavailable)
		place.Reserve(5 * time.Second)
		time.Sleep(5*time.Second + 1)
		synctest.Wait()
		enter(t, s, limits, "192.0.2.2", "zoe")
	})
}

// A place that was taken up again is kept anew for all of its time.
func TestSlotIsReservedForWholeDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, limits := new(access.StreamLimiter), &access.Limits{Rule: 1}
		enter(t, s, limits, "192.0.2.1", "").Reserve(5 * time.Second)
		time.Sleep(4 * time.Second)
		enter(t, s, limits, "192.0.2.1", "").Reserve(5 * time.Second)
		time.Sleep(4 * time.Second) // the first time would be over
		limitReached(t, s, limits, "192.0.2.2", "", http.StatusServiceUnavailable)
		time.Sleep(2 * time.Second)
		enter(t, s, limits, "192.0.2.2", "")
	})
}

// A reload lowers the limit while streams are open: who moves has a place.
func TestLowerLimitKeepsReservations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(access.StreamLimiter)
		wide, narrow := &access.Limits{Rule: 100, PerClient: 20}, &access.Limits{Rule: 3, PerClient: 1}
		var places []*access.Slot
		for i := range 100 {
			places = append(places, enter(t, s, wide, fmt.Sprintf("192.0.2.%d", i%10), ""))
		}
		for i, place := range places {
			place.Reserve(5 * time.Second)
			limitReached(t, s, narrow, "198.51.100.1", "", http.StatusServiceUnavailable)
			places[i] = enter(t, s, narrow, fmt.Sprintf("192.0.2.%d", i%10), "")
		}
		for _, place := range places {
			place.Release()
		}
		enter(t, s, narrow, "198.51.100.1", "")
	})
}

func TestRequestWaitsForSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, limits := new(access.StreamLimiter), &access.Limits{PerUser: 1}
		soon := func(ctx context.Context) (*access.Slot, time.Duration) {
			began := time.Now()
			place, _ := s.AcquireWait(ctx, limits, "192.0.2.1", "ann")
			return place, time.Since(began)
		}
		first := enter(t, s, limits, "192.0.2.1", "ann")
		time.AfterFunc(200*time.Millisecond, enter(t, s, limits, "192.0.2.1", "zoe").Release)
		time.AfterFunc(300*time.Millisecond, first.Release)
		place, took := soon(t.Context())
		if place == nil || took != 300*time.Millisecond {
			t.Errorf("got %v after %v", place, took)
		}
		if place, took := soon(t.Context()); place != nil || took != access.MaxSlotWait {
			t.Errorf("got %v after %v", place, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if place, took := soon(ctx); place != nil || took != time.Millisecond {
			t.Errorf("who has left got %v after %v", place, took)
		}
	})
}

func TestRequestsWaitingForSlotsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, limits := new(access.StreamLimiter), &access.Limits{Rule: 1}
		only := enter(t, s, limits, "", "")
		var got, atOnce atomic.Int32
		var waiting sync.WaitGroup
		for range 2 * access.MaxWaiters {
			waiting.Go(func() {
				began := time.Now()
				if place, _ := s.AcquireWait(t.Context(), limits, "", ""); place != nil {
					got.Add(1)
				}
				if time.Since(began) == 0 {
					atOnce.Add(1)
				}
			})
		}
		synctest.Wait()
		if n := atOnce.Load(); n != access.MaxWaiters {
			t.Errorf("%d were refused at once", n)
		}
		only.Release()
		waiting.Wait()
		if n := got.Load(); n != 1 {
			t.Errorf("%d got the place", n)
		}
	})
}

func TestLimiterForgetsFormerOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(access.StreamLimiter)
		for i := range 1000 {
			place := enter(t, s, &access.Limits{PerClient: 1}, fmt.Sprintf("192.0.2.%d", i), fmt.Sprint(i))
			if i%2 == 0 {
				place.Release()
			} else {
				place.Reserve(time.Second)
			}
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := s.Entries(); n != 0 {
			t.Errorf("%d are known", n)
		}
	})
}
