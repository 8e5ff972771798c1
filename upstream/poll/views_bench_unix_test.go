//go:build unix

package poll_test

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// BenchmarkPoll measures one poll of a document that hasn't changed, without a
// proxy and its transport: a handler responds after a time. One hundred views are
// polled ten times a second each. cpu-ns/poll is the time of all cores.
func BenchmarkPoll(b *testing.B) {
	for name, took := range map[string]time.Duration{"at once": 0, "after 5ms": 5 * time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			var polls atomic.Int64
			polls.Store(math.MinInt64)
			enough := make(chan struct{})
			e := newEnv(b, poll.Config{Interval: caddy.Duration(100 * time.Millisecond), MaxViewsPerClient: 1000, MaxInFlight: 100}, store.NewMemory())
			stop := e.watch(b, 100, func(w http.ResponseWriter, r *http.Request) error {
				time.Sleep(took)
				if polls.Add(1) == int64(b.N) {
					close(enough)
				}
				return smallDocument(w, r)
			})
			b.ReportAllocs()
			before := cpuTime(b)
			polls.Store(0)
			b.ResetTimer()
			<-enough
			b.StopTimer()
			b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/poll")
			stop()
		})
	}
}

// BenchmarkViewAtRest measures what a view and its subscription take between two
// polls, without the stream.
func BenchmarkViewAtRest(b *testing.B) {
	const views = 10_000
	for b.Loop() {
		e := newEnv(b, poll.Config{Interval: caddy.Duration(time.Hour), MaxViews: views, MaxViewsPerClient: views}, store.NewMemory())
		before := memoryInUse()
		stop := e.watch(b, views, smallDocument)
		after := memoryInUse()
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/views, "heap-B/view")
		b.ReportMetric(float64(after.StackInuse-before.StackInuse)/views, "stack-B/view")
		stop()
	}
}

// watch makes views of different documents, each with one subscription, until stop
// is called.
func (e *env) watch(b *testing.B, views int, h caddyhttp.HandlerFunc) (stop func()) {
	server := new(caddyhttp.Server)
	subscriptions := make([]*poll.Subscription, views)
	for i := range views {
		// Strings of their own, as a server makes them.
		r := newRequest(fmt.Sprintf("/v1/orders/%d", i), "User-Agent", strings.Clone("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"), "Accept-Language", strings.Clone("en-GB,en;q=0.9,de;q=0.8"))
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), httptest.NewRecorder(), server)
		viewing, refused, err := e.Subscribe(r, subrequest.New(r, h))
		if viewing == nil {
			b.Fatal(refused, err)
		}
		subscriptions[i] = viewing
	}
	return func() {
		for _, viewing := range subscriptions {
			viewing.Close()
		}
		e.Retire()
		_ = e.hub.Close()
	}
}

func smallDocument(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Content-Type", "application/json")
	_, err := fmt.Fprintf(w, `{"path":%q,"state":"open","total":"17.00"}`, r.URL.Path)
	return err
}

func memoryInUse() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC() // frees what pools held during the first
	runtime.ReadMemStats(&m)
	return m
}

// cpuTime returns the time that the process has used of all cores.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
