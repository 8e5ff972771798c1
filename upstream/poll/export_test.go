package poll

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// originalJitter is the jitter outside of tests.
var originalJitter = defaultJitter

// Steady removes the jitter from the times of polls.
func Steady() {
	defaultJitter.fraction = 0
	defaultJitter.firstPause = func() float64 { return 1 }
}

// Keys returns the keys of all views.
func (p *Poller) Keys() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.views))
}

// Known returns how many resources, clients and outages the poller remembers.
func (p *Poller) Known() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.resources) + len(p.clients) + len(p.sessions) + len(p.failures.current)
}

// Workers returns the number of workers.
func (p *Poller) Workers() int {
	p.workers.mu.Lock()
	defer p.workers.mu.Unlock()
	return p.workers.all
}

// Related returns those of the paths that an unsafe request to written
// invalidates.
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

// InvalidateAmong returns a function that invalidates one of n views.
func InvalidateAmong(n int) func() {
	p := &Poller{config: new(Config)}
	for i := range n {
		v := &view{target: &target{hostname: "example.com", path: fmt.Sprintf("/v1/orders/%d", i)}}
		v.loop = pollLoop{view: v, phase: polling}
		p.byPath.add(v)
	}
	return func() { p.Invalidate("example.com", "/v1/orders/7") }
}

// IsCacheableForAll exports isCacheableForAll for fuzzing.
func IsCacheableForAll(h http.Header) bool { return isCacheableForAll(h) }

// Satisfies exports Config.satisfies for fuzzing.
func Satisfies(request, response http.Header) bool {
	return new(Config).satisfies(request, &cachedResponse{header: response})
}

// Freshness exports freshness for fuzzing.
func Freshness(h http.Header) time.Duration { return freshness(h) }

// ListMembers returns the members of a list header.
func ListMembers(h http.Header, name string) []string { return slices.Collect(listMembers(h, name)) }

// Len returns the number of topics whose lease is held or wanted.
func (o *TopicLeases) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.byTopic)
}

// NamedCookies exports varyBy.namedCookies for fuzzing.
func NamedCookies(fields []string, names ...string) []string {
	return (&varyBy{cookies: setOf(names...)}).namedCookies(fields)
}

// FillAddressChecks records as many checks as the poller may.
func (p *Poller) FillAddressChecks() {
	for i := range maxAddressChecks {
		p.addressChecks.record(strconv.Itoa(i), time.Now())
	}
}

// WithoutPorts exports withoutPorts for fuzzing.
func WithoutPorts(name, value string) string { return withoutPorts(name, []string{value})[0] }
