package stream

import (
	"cmp"
	"container/heap"
	"sync"
	"time"
)

// schedule wakes streams at their times, with one timer for all. The zero value is
// ready to use.
type schedule struct {
	mu    sync.Mutex
	due   dueHeap
	timer *time.Timer // nil until a stream is set; it may fire too early
	at    time.Time   // when the timer fires; zero if it is stopped
}

// scheduled is a stream's place in the schedule.
type scheduled struct {
	at    time.Time
	place int // in the heap, from 1; 0: it is not in the schedule
}

// set makes the schedule wake the stream at a time, in place of an earlier one.
func (c *schedule) set(s *Stream, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.schedule.at = at
	if s.schedule.place == 0 {
		heap.Push(&c.due, s)
	} else {
		heap.Fix(&c.due, s.schedule.place-1)
	}
	c.resetLocked()
}

func (c *schedule) remove(s *Stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.schedule.place > 0 {
		heap.Remove(&c.due, s.schedule.place-1)
	}
	if len(c.due) == 0 && c.timer != nil {
		c.timer.Stop()
		c.at = time.Time{}
	}
}

// resetLocked makes the timer fire no later than the first stream is due.
func (c *schedule) resetLocked() {
	if len(c.due) == 0 {
		return
	}
	first := c.due[0].schedule.at
	if !c.at.IsZero() && !first.Before(c.at) {
		return
	}
	c.at = first
	if c.timer == nil {
		c.timer = time.AfterFunc(time.Until(first), c.fire)
	} else {
		c.timer.Reset(time.Until(first))
	}
}

// fire wakes the streams that are due. A stream that a write blocks doesn't wake:
// fire aborts the write when it takes too long.
func (c *schedule) fire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for len(c.due) > 0 && !c.due[0].schedule.at.After(now) {
		s := c.due[0]
		timeout := s.options.WriteTimeout
		s.schedule.at = now.Add(cmp.Or(timeout, s.interval)) // unless the stream sets another time
		switch blocked := s.sender().blockedSince(); {
		case timeout == 0 || blocked.IsZero():
			s.due.Store(true)
			s.Wake()
		case now.Sub(blocked) < timeout:
			s.schedule.at = blocked.Add(timeout)
		default:
			go s.Abort() // over HTTP/2 it waits for the connection's goroutine
		}
		heap.Fix(&c.due, 0)
	}
	c.at = time.Time{}
	c.resetLocked()
}

// dueHeap implements [heap.Interface].
type dueHeap []*Stream

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].schedule.at.Before(h[j].schedule.at) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].schedule.place, h[j].schedule.place = i+1, j+1
}

// Push implements [heap.Interface].
func (h *dueHeap) Push(x any) {
	s := x.(*Stream)
	*h = append(*h, s)
	s.schedule.place = len(*h)
}

// Pop implements [heap.Interface].
func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil // so that the array keeps no pointer
	*h = (*h)[:last]
	s.schedule.place = 0
	return s
}
