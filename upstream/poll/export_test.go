package poll

import (
	"maps"
	"slices"
)

// shipped is what is left to chance outside of tests.
var shipped = chance

// Steady takes chance out of the times of polls.
func Steady() {
	chance.jitter = 0
	chance.first = func() float64 { return 1 }
}

// Keys are the keys of the views that are polled.
func (p *Poller) Keys() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.views))
}

// Varies is of how many URLs the poller knows what they vary by.
func (p *Poller) Varies() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.varies)
}
