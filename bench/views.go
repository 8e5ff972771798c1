package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

type viewsOptions struct {
	views, perConnection, maxInFlight int
	interval, total, answerTime       time.Duration
	profile                           string
}

func (o *viewsOptions) flags() {
	flag.IntVar(&o.views, "views", 10000, "views: documents, each with a viewer of its own")
	flag.IntVar(&o.perConnection, "per-connection", 50, "views: streams on an HTTP/2 connection, at most 250")
	flag.IntVar(&o.maxInFlight, "max-in-flight", 100, "views: the option max_in_flight")
	flag.DurationVar(&o.interval, "views-interval", 10*time.Second, "views: how often each is polled")
	flag.DurationVar(&o.total, "views-for", 3*time.Minute, "views: how long to measure")
	flag.DurationVar(&o.answerTime, "answer-time", 10*time.Millisecond, "views: how long the backend takes to answer")
	flag.StringVar(&o.profile, "cpuprofile", "", "views: file for a CPU profile of Caddy")
}

// audience are the viewers, over HTTP/2 without TLS.
type audience struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	ended  atomic.Int64 // streams that have, before the audience was to leave
	events atomic.Int64
}

// viewsResult is what a run has come to.
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
	app := &watched{arrivals: make([][]time.Time, o.views), answerTime: o.answerTime}
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
	tell("opening %d streams", o.views)
	started := time.Now()
	audience, err := openAll(ctx, o, caddy.url)
	defer audience.leave()
	if err != nil {
		return err
	}
	r.opening = time.Since(started)
	// The second poll of each comes at a random part of the interval.
	tell("open after %s; measuring in %v, for %v", short(r.opening), 2*o.interval, o.total)
	if err := pause(ctx, 2*o.interval); err != nil {
		return err
	}
	if err := r.span(ctx, o, caddy, audience); err != nil {
		return err
	}
	r.after, err = caddy.tell("memory")
	return err
}

// span is what is measured.
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

// openAll opens the streams, on several connections at the same time.
func openAll(ctx context.Context, o *viewsOptions, url string) (*audience, error) {
	a := new(audience)
	ctx, a.cancel = context.WithCancel(ctx)
	errs := make(chan error)
	connections := 0
	for first := 0; first < o.views; first += o.perConnection {
		last := min(first+o.perConnection, o.views)
		go func() { errs <- a.openSome(ctx, url, first, last) }()
		connections++
	}
	var err error
	for range connections {
		err = errors.Join(err, <-errs)
	}
	return a, err
}

// openSome opens streams on a connection of their own, one after the other.
func (a *audience) openSome(ctx context.Context, url string, first, last int) error {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols, DisableCompression: true}
	client := &http.Client{Transport: transport}
	context.AfterFunc(ctx, transport.CloseIdleConnections)
	for i := first; i < last; i++ {
		if err := a.open(ctx, client, fmt.Sprintf("%s/views/%d", url, i)); err != nil {
			return err
		}
	}
	return nil
}

func (a *audience) open(ctx context.Context, client *http.Client, url string) error {
	v := &viewer{client: client, url: url}
	resp, err := v.get(ctx, "Accept", "text/event-stream")
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
		resp.Body.Close()
		return fmt.Errorf("%s: %s %s", url, resp.Proto, resp.Status)
	}
	a.done.Go(func() { a.read(ctx, resp.Body) })
	return nil
}

func (a *audience) read(ctx context.Context, body io.ReadCloser) {
	defer body.Close()
	buf := make([]byte, 1024)
	for {
		n, err := body.Read(buf)
		if n > 1 && buf[n-1] == '\n' && buf[0] != ':' { // a small event is one write
			a.events.Add(1)
		}
		if err != nil {
			if ctx.Err() == nil {
				a.ended.Add(1)
			}
			return
		}
	}
}

func (a *audience) leave() {
	a.cancel()
	a.done.Wait()
}

func printViews(o *viewsOptions, app *watched, r *viewsResult, where string) {
	const bucket = 100 * time.Millisecond
	tolerance := o.interval / 20
	low, high := o.interval*98/100, o.interval*102/100 // what the module leaves to chance
	counts, gaps := app.between(r.from, r.to, high+tolerance, bucket)
	seconds := sums(counts, int(time.Second/bucket))
	polls := float64(sums(counts, len(counts))[0])
	fmt.Printf("%d documents with a viewer each, polls every %v, answered in %v, `max_in_flight` %d; measured for %v. %s.\n\n",
		o.views, o.interval, o.answerTime, o.maxInFlight, o.total, where)
	line := func(name, format string, args ...any) {
		fmt.Printf("| %s | %s |\n", name, fmt.Sprintf(format, args...))
	}
	line("", "")
	line("---", "--:")
	line("streams opened in", "%s", short(r.opening))
	line("streams that ended", "%d", r.ended)
	line("changes sent", "%d", r.events)
	line("polls per second: mean, median, least, most", "%.0f, %d, %d, %d", polls/o.total.Seconds(), median(seconds), slices.Min(seconds), slices.Max(seconds))
	tellBursts(counts, bucket)
	mean := polls / float64(len(counts))
	line("polls per 100 ms: median, 99th percentile, most", "%d, %d, %d", median(counts), quantile(slices.Sorted(slices.Values(counts)), 0.99), slices.Max(counts))
	line("the most that chance alone would bring per 100 ms", "%.0f", mean+math.Sqrt(2*mean*math.Log(float64(len(counts)))))
	line("polls in flight, most, opening included", "%d", app.mostFlight)
	printGaps(line, gaps, low, high, tolerance)
	line("Caddy, of a core", "%s", percent(r.meter.caddyCPU, r.meter.elapsed))
	line("Caddy's CPU per poll", "%.0f µs", r.meter.caddyCPU.Seconds()*1e6/polls)
	line("backend and clients, of a core", "%s", percent(r.meter.us, r.meter.elapsed))
	line("others on the machine, of a core", "%s", percent(r.meter.others, r.meter.elapsed))
	printMemory(line, o, r)
	fmt.Println()
}

// tellBursts says when most polls came, so that bursts can be told to be
// periodic or not.
func tellBursts(counts []int, bucket time.Duration) {
	order := make([]int, len(counts))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return counts[b] - counts[a] })
	for _, i := range order[:min(12, len(order))] {
		tell("%d polls within %v at %v", counts[i], bucket, time.Duration(i)*bucket)
	}
}

// printGaps tells how late polls are. A gap is a random length between low and
// high, and what the second of its polls was late.
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
	line("how late a poll is, by the mean gap", "%.1f ms ± %.1f ms", (mean-(low+high)/2).Seconds()*1000, margin*1000)
}

func printMemory(line func(name, format string, args ...any), o *viewsOptions, r *viewsResult) {
	per := func(n int64) string { return kib(float64(n) / float64(o.views)) }
	line("memory per view and stream: resident", "%s", per(r.meter.rss-r.rssBefore))
	line("memory per view and stream: heap in use", "%s", per(int64(r.after.Heap)-int64(r.before.Heap)))
	line("memory per view and stream: stacks", "%s", per(int64(r.after.Stacks)-int64(r.before.Stacks)))
	line("goroutines per view and stream", "%.2f", float64(r.after.Goroutines-r.before.Goroutines)/float64(o.views))
}
