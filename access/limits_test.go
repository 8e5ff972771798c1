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

// acquire acquires a slot that must be free.
func acquire(t *testing.T, s *access.StreamLimiter, l *access.Limits, client, user string) *access.Slot {
	t.Helper()
	slot, refused := s.Acquire(l, client, user)
	if refused != nil {
		t.Fatalf("%s %s is refused: %v", client, user, refused)
	}
	return slot
}

// limitReached fails the test unless Acquire is refused with status.
func limitReached(t *testing.T, s *access.StreamLimiter, l *access.Limits, client, user string, status int) {
	t.Helper()
	_, refused := s.Acquire(l, client, user)
	if refused == nil || refused.Status != status || refused.RetryAfter <= 0 {
		t.Errorf("%s %s: got %v, want a %d with Retry-After", client, user, refused, status)
	}
}

func TestStreamBeyondLimitIsRefusedUntilAnotherEnds(t *testing.T) {
	for _, c := range []struct {
		limits                 access.Limits
		client, user           string // of the stream beyond the limit
		otherClient, otherUser string // of a stream that the limit doesn't concern
		status                 int
	}{
		{access.Limits{Rule: 2}, "192.0.2.9", "zoe", "", "", http.StatusServiceUnavailable},
		{access.Limits{PerClient: 2}, "192.0.2.1", "zoe", "192.0.2.2", "ann", http.StatusTooManyRequests},
		{access.Limits{PerUser: 2}, "192.0.2.9", "ann", "192.0.2.1", "zoe", http.StatusTooManyRequests},
		{access.Limits{Rule: 9, PerClient: 9, PerUser: 2}, "192.0.2.9", "ann", "192.0.2.1", "", http.StatusTooManyRequests},
	} {
		s := new(access.StreamLimiter)
		first := acquire(t, s, &c.limits, "192.0.2.1", "ann")
		acquire(t, s, &c.limits, "192.0.2.1", "ann")
		limitReached(t, s, &c.limits, c.client, c.user, c.status)
		if c.otherClient != "" {
			acquire(t, s, &c.limits, c.otherClient, c.otherUser)
		}
		first.Release()
		acquire(t, s, &c.limits, c.client, c.user)
		limitReached(t, s, &c.limits, c.client, c.user, c.status)
	}
}

func TestStreamsWithoutUserHaveNoUserLimit(t *testing.T) {
	s := new(access.StreamLimiter)
	for range 10 {
		acquire(t, s, &access.Limits{PerUser: 1}, "192.0.2.1", "")
	}
}

func TestReservedSlotIsForItsOwnerOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, limits := new(access.StreamLimiter), &access.Limits{Rule: 1}
		acquire(t, s, limits, "192.0.2.1", "ann").Reserve(5 * time.Second)
		time.Sleep(4 * time.Second)
		limitReached(t, s, limits, "192.0.2.2", "ann", http.StatusServiceUnavailable)
		limitReached(t, s, limits, "192.0.2.1", "zoe", http.StatusServiceUnavailable)
		slot := acquire(t, s, limits, "192.0.2.1", "ann")
		time.Sleep(time.Minute) // the slot is no longer reserved, but acquired
		limitReached(t, s, limits, "192.0.2.2", "zoe", http.StatusServiceUnavailable)
		slot.Reserve(5 * time.Second)
		time.Sleep(5*time.Second + 1)
		synctest.Wait()
		acquire(t, s, limits, "192.0.2.2", "zoe")
	})
}

// A slot that is acquired and reserved again is reserved for the full duration.
func TestSlotIsReservedForWholeDuration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, limits := new(access.StreamLimiter), &access.Limits{Rule: 1}
		acquire(t, s, limits, "192.0.2.1", "").Reserve(5 * time.Second)
		time.Sleep(4 * time.Second)
		acquire(t, s, limits, "192.0.2.1", "").Reserve(5 * time.Second)
		time.Sleep(4 * time.Second) // the first reservation would be over
		limitReached(t, s, limits, "192.0.2.2", "", http.StatusServiceUnavailable)
		time.Sleep(2 * time.Second)
		acquire(t, s, limits, "192.0.2.2", "")
	})
}

// A reload lowers the limit while streams are open: clients that move keep their
// slots.
func TestLowerLimitKeepsReservations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(access.StreamLimiter)
		wide, narrow := &access.Limits{Rule: 100, PerClient: 20}, &access.Limits{Rule: 3, PerClient: 1}
		var slots []*access.Slot
		for i := range 100 {
			slots = append(slots, acquire(t, s, wide, fmt.Sprintf("192.0.2.%d", i%10), ""))
		}
		for i, slot := range slots {
			slot.Reserve(5 * time.Second)
			limitReached(t, s, narrow, "198.51.100.1", "", http.StatusServiceUnavailable)
			slots[i] = acquire(t, s, narrow, fmt.Sprintf("192.0.2.%d", i%10), "")
		}
		for _, slot := range slots {
			slot.Release()
		}
		acquire(t, s, narrow, "198.51.100.1", "")
	})
}

func TestRequestWaitsForSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, limits := new(access.StreamLimiter), &access.Limits{PerUser: 1}
		acquireWait := func(ctx context.Context) (*access.Slot, time.Duration) {
			began := time.Now()
			slot, _ := s.AcquireWait(ctx, limits, "192.0.2.1", "ann")
			return slot, time.Since(began)
		}
		first := acquire(t, s, limits, "192.0.2.1", "ann")
		time.AfterFunc(200*time.Millisecond, acquire(t, s, limits, "192.0.2.1", "zoe").Release)
		time.AfterFunc(300*time.Millisecond, first.Release)
		slot, took := acquireWait(t.Context())
		if slot == nil || took != 300*time.Millisecond {
			t.Errorf("got %v after %v", slot, took)
		}
		if slot, took := acquireWait(t.Context()); slot != nil || took != access.MaxSlotWait {
			t.Errorf("got %v after %v", slot, took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if slot, took := acquireWait(ctx); slot != nil || took != time.Millisecond {
			t.Errorf("a disconnected client got %v after %v", slot, took)
		}
	})
}

func TestRequestsWaitingForSlotsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, limits := new(access.StreamLimiter), &access.Limits{Rule: 1}
		held := acquire(t, s, limits, "", "")
		var got, atOnce atomic.Int32
		var waiting sync.WaitGroup
		for i := range 2 * access.MaxWaiters {
			waiting.Go(func() {
				began := time.Now()
				if slot, _ := s.AcquireWait(t.Context(), limits, fmt.Sprint(i), ""); slot != nil {
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
		held.Release()
		waiting.Wait()
		if n := got.Load(); n != 1 {
			t.Errorf("%d got the slot", n)
		}
	})
}

func TestOneClientsWaitingRequestsLeaveRoomForOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, limits := new(access.StreamLimiter), &access.Limits{Rule: 1}
		held := acquire(t, s, limits, "", "")
		var waiting sync.WaitGroup
		for range 2 * access.MaxWaiters {
			waiting.Go(func() {
				if slot, _ := s.AcquireWait(t.Context(), limits, "192.0.2.66", ""); slot != nil {
					slot.Release()
				}
			})
		}
		synctest.Wait()
		time.AfterFunc(access.MaxSlotWait/2, held.Release)
		if slot, refused := s.AcquireWait(t.Context(), limits, "198.51.100.1", ""); slot == nil {
			t.Errorf("another client is refused: %v", refused)
		} else {
			slot.Release()
		}
		waiting.Wait()
		if n := s.Entries(); n != 0 {
			t.Errorf("%d entries are left", n)
		}
	})
}

func TestLimiterForgetsFormerOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(access.StreamLimiter)
		for i := range 1000 {
			slot := acquire(t, s, &access.Limits{PerClient: 1}, fmt.Sprintf("192.0.2.%d", i), fmt.Sprint(i))
			if i%2 == 0 {
				slot.Release()
			} else {
				slot.Reserve(time.Second)
			}
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := s.Entries(); n != 0 {
			t.Errorf("%d entries are left", n)
		}
	})
}

func TestLimitsNeedABoundAndNoNegativeOne(t *testing.T) {
	for _, l := range []access.Limits{{}, {Rule: -1}, {PerClient: -1, Rule: 1}, {PerUser: -1, Rule: 1}} {
		if err := l.Validate(); err == nil {
			t.Errorf("%+v is valid", l)
		}
	}
	for _, l := range []access.Limits{{Rule: 1}, {PerClient: 1}, {PerUser: 1}} {
		if err := l.Validate(); err != nil {
			t.Errorf("%+v: %v", l, err)
		}
	}
}
