// Package signal is a one-time notification, like the close of a channel. A waiter
// needs no goroutine: the signal calls it.
package signal

import (
	"container/list"
	"sync"
	"sync/atomic"
)

// Signal is set once and stays set. The zero value is not set. A nil Signal is
// never set. A Signal is safe for concurrent use and must not be copied.
type Signal struct {
	isSet atomic.Bool

	mu      sync.Mutex
	done    chan struct{} // nil until Done is called
	waiting list.List     // of Waker
}

// Waker is woken when a signal is set. It must be safe for concurrent use, must
// not block, and must not call the signal.
type Waker interface{ Wake() }

// Set sets the signal and wakes everything that waits for it. Further calls do
// nothing.
func (s *Signal) Set() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isSet.Swap(true) {
		return
	}
	if s.done != nil {
		close(s.done)
	}
	for e := s.waiting.Front(); e != nil; e = e.Next() {
		e.Value.(Waker).Wake()
	}
}

// IsSet reports whether the signal is set.
func (s *Signal) IsSet() bool { return s != nil && s.isSet.Load() }

// Done returns a channel that is closed when the signal is set. It returns nil
// for a nil Signal.
func (s *Signal) Done() <-chan struct{} {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done == nil {
		s.done = make(chan struct{})
		if s.isSet.Load() {
			close(s.done)
		}
	}
	return s.done
}

// Wait wakes w when the signal is set, at once if it is set already. The caller
// calls [Waiting.Stop] when w no longer waits.
func (s *Signal) Wait(w Waker) Waiting {
	if s == nil {
		return Waiting{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isSet.Load() {
		w.Wake()
		return Waiting{}
	}
	return Waiting{s, s.waiting.PushBack(w)}
}

// Waiting is one call of [Signal.Wait]. The zero value waits for nothing.
type Waiting struct {
	signal  *Signal
	element *list.Element
}

// Stop ends the wait. The waker may be woken once more at this moment. Further
// calls do nothing.
func (w Waiting) Stop() {
	if w.signal == nil {
		return
	}
	w.signal.mu.Lock()
	defer w.signal.mu.Unlock()
	w.signal.waiting.Remove(w.element)
}
