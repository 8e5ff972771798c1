package forward

import (
	"container/heap"
	"time"
)

// queue holds the pending deliveries that aren't in flight. Taking one costs the
// logarithm of their number: an app that was down for long leaves many.
type queue struct {
	waiting deliveryHeap // not due yet, by due time
	ready   deliveryHeap // due, by age
}

func newQueue() queue {
	return queue{
		waiting: deliveryHeap{less: func(a, b *pending) bool { return a.due.Before(b.due) }},
		ready:   deliveryHeap{less: func(a, b *pending) bool { return a.seq < b.seq }},
	}
}

func (q *queue) add(p *pending) { heap.Push(&q.waiting, p) }

// take takes the oldest delivery that is due. If none is due, it returns how long
// to wait for the next one, or idle.
func (q *queue) take(now time.Time) (*pending, time.Duration) {
	for len(q.waiting.all) > 0 && !q.waiting.all[0].due.After(now) {
		heap.Push(&q.ready, heap.Pop(&q.waiting))
	}
	switch {
	case len(q.ready.all) > 0:
		return heap.Pop(&q.ready).(*pending), 0
	case len(q.waiting.all) > 0:
		return nil, min(idle, q.waiting.all[0].due.Sub(now))
	default:
		return nil, idle
	}
}

// deliveryHeap implements [heap.Interface].
type deliveryHeap struct {
	all  []*pending
	less func(a, b *pending) bool
}

func (h *deliveryHeap) Len() int           { return len(h.all) }
func (h *deliveryHeap) Less(i, j int) bool { return h.less(h.all[i], h.all[j]) }
func (h *deliveryHeap) Swap(i, j int)      { h.all[i], h.all[j] = h.all[j], h.all[i] }
func (h *deliveryHeap) Push(x any)         { h.all = append(h.all, x.(*pending)) }

func (h *deliveryHeap) Pop() any {
	last := len(h.all) - 1
	x := h.all[last]
	h.all[last] = nil
	h.all = h.all[:last]
	return x
}
