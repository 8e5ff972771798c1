package poll

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// originalJitter is the jitter outside of tests.
var originalJitter = defaultJitter

// Steady removes the jitter from the times of polls.
func Steady() {
	defaultJitter.fraction = 0
	defaultJitter.firstPause = func() float64 { return 1 }
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

// Related returns those of some paths of a host that a write to one concerns.
func Related(paths []string, written string) (related []string) {
	var p pathIndex
	views := make([]*view, len(paths))
	for i, path := range paths {
		views[i] = &view{target: &target{hostname: "a", path: path}}
		p.add(views[i])
		other := &view{target: &target{hostname: "b", path: path}}
		p.add(other)
		if i%3 == 0 {
			p.remove(other)
		}
	}
	p.related("a", written, func(v *view) { related = append(related, v.target.path) })
	for _, v := range views {
		p.remove(v)
	}
	p.related("a", written, func(*view) { panic("it was removed") })
	return related
}

// WriteAmong returns a write to one of n views.
func WriteAmong(n int) func() {
	p := &Poller{config: new(Config)}
	for i := range n {
		v := &view{target: &target{hostname: "example.com", path: fmt.Sprintf("/v1/orders/%d", i)}}
		v.loop = &pollLoop{view: v, pollNow: make(chan struct{}, 1)}
		p.byPath.add(v)
	}
	return func() { p.Invalidate("example.com", "/v1/orders/7") }
}

// IsForAll and Acceptable read what strangers and backends write.
func IsForAll(h http.Header) bool { return isCacheableForAll(h) }

// Acceptable is what absorb asks of a request and a kept answer.
func Acceptable(request, answer http.Header) bool {
	return new(Config).satisfies(request, &cachedResponse{header: answer})
}

// Listed are the members of a header.
func Listed(h http.Header, name string) []string { return slices.Collect(listMembers(h, name)) }

// Len is how many topics views have a part in.
func (o *TopicLeases) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.byTopic)
}
