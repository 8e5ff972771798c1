package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"
)

type viewsOptions struct {
	views, perConnection, maxInFlight int
	interval, total, responseTime     time.Duration
	profile, heap                     string
	http1                             bool
}

func (o *viewsOptions) flags() {
	flag.IntVar(&o.views, "views", 10000, "views: documents with one viewer each")
	flag.IntVar(&o.perConnection, "per-connection", 50, "views: streams per HTTP/2 connection, at most 250")
	flag.IntVar(&o.maxInFlight, "max-in-flight", 100, "views: the option max_in_flight")
	flag.BoolVar(&o.http1, "views-http1", false, "views: streams over cleartext HTTP/1.1, each on a connection of its own, in place of HTTP/2")
	flag.DurationVar(&o.interval, "views-interval", 10*time.Second, "views: interval between polls")
	flag.DurationVar(&o.total, "views-for", 3*time.Minute, "views: time of the measurement")
	flag.DurationVar(&o.responseTime, "answer-time", 10*time.Millisecond, "views: response time of the backend")
	flag.StringVar(&o.profile, "cpuprofile", "", "views: file for a CPU profile of Caddy")
	flag.StringVar(&o.heap, "heapprofile", "", "views: file for a heap profile of Caddy at the end")
}

// viewsResult is the result of a run.
type viewsResult struct {
	opening       time.Duration
	before, after memory
	rssBefore     int64
	meter         *meter
	from, to      time.Time
	events, ended int64
}

func benchViews(ctx context.Context, o *viewsOptions) (err error) {
	where := machine()
	app := &documents{arrivals: make([][]time.Time, o.views), responseTime: o.responseTime}
	server := httptest.NewServer(app)
	defer server.Close()
	rule := fmt.Sprintf("sse {\n poll %v {\n max_views %d\n max_in_flight %d\n max_views_per_client %d\n }\n }", o.interval, o.views, o.maxInFlight, o.views)
	caddy, err := startCaddy("", rule, server.Listener.Addr().String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, caddy.stop()) }()
	result := &viewsResult{before: caddy.atRest}
	if err := result.measure(ctx, o, caddy); err != nil {
		return err
	}
	printViews(o, app, result, where)
	return nil
}

func (r *viewsResult) measure(ctx context.Context, o *viewsOptions, caddy *caddyProcess) error {
	usage, err := caddy.usage()
	if err != nil {
		return err
	}
	r.rssBefore = usage.rss
	progressf("opening %d streams", o.views)
	started := time.Now()
	audience := new(audience)
	defer audience.leave()
	cleartext := &protocol{"HTTP/2, cleartext", "HTTP/2.0", o.perConnection, overTCP((*http.Protocols).SetUnencryptedHTTP2)}
	if o.http1 {
		cleartext, _, _ = protocols(o.perConnection)
	}
	if err := audience.open(ctx, cleartext, o.views, func(i int) string { return fmt.Sprintf("%s/views/%d", caddy.url, i) }); err != nil {
		return err
	}
	r.opening = time.Since(started)
	// The second poll of each view comes after a random part of the interval.
	progressf("open after %s; measuring in %v, for %v", short(r.opening), 2*o.interval, o.total)
	if err := pause(ctx, 2*o.interval); err != nil {
		return err
	}
	if err := r.span(ctx, o, caddy, audience); err != nil {
		return err
	}
	if r.after, err = caddy.command("memory"); err == nil && o.heap != "" {
		_, err = caddy.command("heap " + o.heap)
	}
	return err
}

// span measures one span of time.
func (r *viewsResult) span(ctx context.Context, o *viewsOptions, caddy *caddyProcess, a *audience) error {
	profiled, err := caddy.profile(o.profile)
	if err != nil {
		return err
	}
	events := a.events.Load()
	if r.meter, err = newMeter(caddy); err != nil {
		return err
	}
	r.from = time.Now()
	if err := pause(ctx, o.total); err != nil {
		return err
	}
	r.to = time.Now()
	r.events, r.ended = a.events.Load()-events, a.ended.Load()
	return errors.Join(r.meter.stop(), profiled())
}

func printViews(o *viewsOptions, app *documents, r *viewsResult, where string) {
	const bucket = 100 * time.Millisecond
	tolerance := o.interval / 20
	low, high := o.interval*98/100, o.interval*102/100 // the module's jitter
	counts, gaps := app.between(r.from, r.to, high+tolerance, bucket)
	seconds := sums(counts, int(time.Second/bucket))
	polls := float64(sums(counts, len(counts))[0])
	fmt.Printf("%d documents with a viewer each, polls every %v, response time %v, `max_in_flight` %d; measured for %v. %s.\n\n",
		o.views, o.interval, o.responseTime, o.maxInFlight, o.total, where)
	line := func(name, format string, args ...any) {
		fmt.Printf("| %s | %s |\n", name, fmt.Sprintf(format, args...))
	}
	line("", "")
	line("---", "--:")
	line("streams opened in", "%s", short(r.opening))
	line("streams that ended", "%d", r.ended)
	line("changes sent", "%d", r.events)
	line("polls per second: mean, median, minimum, maximum", "%.0f, %d, %d, %d", polls/o.total.Seconds(), median(seconds), slices.Min(seconds), slices.Max(seconds))
	logBursts(counts, bucket)
	mean := polls / float64(len(counts))
	line("polls per 100 ms: median, 99th percentile, maximum", "%d, %d, %d", median(counts), quantile(slices.Sorted(slices.Values(counts)), 0.99), slices.Max(counts))
	line("maximum that random jitter explains per 100 ms", "%.0f", mean+math.Sqrt(2*mean*math.Log(float64(len(counts)))))
	line("polls in flight, maximum, including the opening", "%d", app.maxInFlight)
	printGaps(line, gaps, low, high, tolerance)
	line("Caddy, of a core", "%s", percent(r.meter.caddyCPU, r.meter.elapsed))
	line("Caddy's CPU per poll", "%.0f µs", r.meter.caddyCPU.Seconds()*1e6/polls)
	line("backend and clients, of a core", "%s", percent(r.meter.us, r.meter.elapsed))
	line("other processes, of a core", "%s", percent(r.meter.others, r.meter.elapsed))
	printMemory(line, o, r)
	fmt.Println()
}

// logBursts logs when most polls came, to show whether bursts are periodic.
func logBursts(counts []int, bucket time.Duration) {
	order := make([]int, len(counts))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return counts[b] - counts[a] })
	for _, i := range order[:min(12, len(order))] {
		progressf("%d polls within %v at %v", counts[i], bucket, time.Duration(i)*bucket)
	}
}

// printGaps prints how late polls are. A gap is a random time between low and high
// plus the delay of its second poll.
func printGaps(line func(name, format string, args ...any), gaps []time.Duration, low, high, tolerance time.Duration) {
	var sum time.Duration
	within, late := 0, 0
	for _, gap := range gaps {
		sum += gap
		if gap >= low-tolerance && gap <= high+tolerance {
			within++
		}
		if gap > high+10*time.Millisecond {
			late++
		}
	}
	mean := sum / time.Duration(len(gaps))
	margin := 1.96 * (high - low).Seconds() / math.Sqrt(12*float64(len(gaps)))
	line(fmt.Sprintf("gaps between polls of a document within %v to %v", low-tolerance, high+tolerance), "%.3f %% of %d", 100*float64(within)/float64(len(gaps)), len(gaps))
	line("shortest and longest gap", "%.3f s, %.3f s", gaps[0].Seconds(), gaps[len(gaps)-1].Seconds())
	line(fmt.Sprintf("gaps longer than %v + 10 ms", high), "%.3f %%", 100*float64(late)/float64(len(gaps)))
	line("mean delay of a poll, from the mean gap", "%.1f ms ± %.1f ms", (mean-(low+high)/2).Seconds()*1000, margin*1000)
}

func printMemory(line func(name, format string, args ...any), o *viewsOptions, r *viewsResult) {
	per := func(n int64) string { return kib(float64(n) / float64(o.views)) }
	line("memory per view and stream: resident", "%s", per(r.meter.rss-r.rssBefore))
	line("memory per view and stream: heap in use", "%s", per(int64(r.after.Heap)-int64(r.before.Heap)))
	line("memory per view and stream: stacks", "%s", per(int64(r.after.Stacks)-int64(r.before.Stacks)))
	line("goroutines per view and stream", "%.2f", float64(r.after.Goroutines-r.before.Goroutines)/float64(o.views))
}
