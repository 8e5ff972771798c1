package forward

import (
	"container/heap"
	"time"
)

// queue has those deliveries of which none is under way. It costs the logarithm
// of their number to take one: an app that was down for long leaves many.
type queue struct {
	waiting pile // for their time
	ready   pile // for their turn
}

func newQueue() queue {
	return queue{
		waiting: pile{before: func(a, b *pending) bool { return a.due.Before(b.due) }},
		ready:   pile{before: func(a, b *pending) bool { return a.seq < b.seq }},
	}
}

func (q *queue) add(p *pending) { heap.Push(&q.waiting, p) }

// take takes the oldest of those that are due. If none is, it returns how long
// it is until one will be, or idle.
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

// pile is a heap.
type pile struct {
	all    []*pending
	before func(a, b *pending) bool
}

func (p *pile) Len() int           { return len(p.all) }
func (p *pile) Less(i, j int) bool { return p.before(p.all[i], p.all[j]) }
func (p *pile) Swap(i, j int)      { p.all[i], p.all[j] = p.all[j], p.all[i] }
func (p *pile) Push(x any)         { p.all = append(p.all, x.(*pending)) }

func (p *pile) Pop() any {
	last := len(p.all) - 1
	x := p.all[last]
	p.all[last] = nil
	p.all = p.all[:last]
	return x
}
