package signal_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-sse/caddy-sse/internal/signal"
)

type counter struct{ n atomic.Int32 }

func (c *counter) Wake() { c.n.Add(1) }

func TestSetWakesEachWaiterOnce(t *testing.T) {
	s := new(signal.Signal)
	var before, stopped, after counter
	s.Wait(&before)
	s.Wait(&stopped).Stop()
	s.Set()
	s.Set()
	s.Wait(&after).Stop()
	if before.n.Load() != 1 || stopped.n.Load() != 0 || after.n.Load() != 1 {
		t.Errorf("woken: %d, %d after Stop, %d after Set", before.n.Load(), stopped.n.Load(), after.n.Load())
	}
}

func TestDoneIsClosedWhenSet(t *testing.T) {
	s := new(signal.Signal)
	done := s.Done()
	select {
	case <-done:
		t.Fatal("closed before Set")
	default:
	}
	if s.IsSet() {
		t.Error("set before Set")
	}
	s.Set()
	<-done
	<-s.Done()
	if !s.IsSet() {
		t.Error("not set after Set")
	}
}

func TestNilSignalIsNeverSet(t *testing.T) {
	var s *signal.Signal
	s.Wait(new(counter)).Stop()
	if s.IsSet() || s.Done() != nil {
		t.Error("a nil signal is set or has a channel")
	}
}

func TestStopInAnyOrderAndTwice(t *testing.T) {
	s := new(signal.Signal)
	var wakers [100]counter
	var waiting [100]signal.Waiting
	for i := range wakers {
		waiting[i] = s.Wait(&wakers[i])
	}
	var wg sync.WaitGroup
	for i := range wakers {
		if i%3 > 0 {
			wg.Go(func() {
				waiting[i].Stop()
				waiting[i].Stop()
			})
		}
	}
	wg.Wait()
	s.Set()
	for i := range wakers {
		if got := wakers[i].n.Load(); (got == 1) != (i%3 == 0) {
			t.Errorf("waiter %d was woken %d times", i, got)
		}
	}
}
