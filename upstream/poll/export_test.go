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

// Known is of how many resources the poller knows something, and of how many
// clients.
func (p *Poller) Known() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.resources) + len(p.clients) + len(p.failures.current)
}
