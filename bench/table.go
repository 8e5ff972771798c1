package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"
)

type tableOptions struct {
	total, change, interval time.Duration
	rounds, viewers         int
	only, profile           string
}

func (o *tableOptions) flags() {
	flag.DurationVar(&o.total, "for", 90*time.Second, "table: the time of each row in all rounds")
	flag.IntVar(&o.rounds, "rounds", 3, "table: rounds in which the rows alternate")
	flag.IntVar(&o.viewers, "viewers", 1000, "table: viewers of the document")
	flag.StringVar(&o.profile, "table-cpuprofile", "", "table: file for a CPU profile of Caddy in the last round")
	flag.StringVar(&o.only, "only", "", "table: measure only rows with this text in their names")
	flag.DurationVar(&o.change, "change", 10*time.Second, "table: interval between changes of the document")
	flag.DurationVar(&o.interval, "interval", 2*time.Second, "table: interval between polls")
}

// row is a way to keep viewers up to date, with its results.
type row struct {
	name        string
	send        string // how the module sends changes; empty: clients poll the backend
	conditional bool   // clients poll with If-None-Match
	put         bool   // changes pass through the proxy

	elapsed, caddyCPU, others time.Duration
	requests, bytes           int64
	changes                   int
	delays                    []time.Duration
}

func rows() []*row {
	return []*row{
		{name: "clients poll the backend"},
		{name: "clients poll the backend, `If-None-Match`", conditional: true},
		{name: "`poll`, changed directly at the backend", send: "full"},
		{name: "`poll`, changed directly at the backend, `send patch`", send: "patch"},
		{name: "`poll`, changed by a `PUT` through the proxy", send: "full", put: true},
		{name: "`poll`, changed by a `PUT` through the proxy, `send patch`", send: "patch", put: true},
	}
}

func benchTable(ctx context.Context, o *tableOptions) error {
	where := machine()
	all := slices.DeleteFunc(rows(), func(r *row) bool { return !strings.Contains(r.name, o.only) })
	if len(all) == 0 {
		return fmt.Errorf("no row has %q in its name", o.only)
	}
	for round := range o.rounds {
		for _, r := range all {
			progressf("round %d of %d: %s", round+1, o.rounds, r.name)
			if err := r.turn(ctx, o); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
		}
	}
	printTable(o, all, where)
	return nil
}

// turn measures a row once, with a new backend and Caddy.
func (r *row) turn(ctx context.Context, o *tableOptions) (err error) {
	app := new(prices)
	app.set(0)
	server := httptest.NewServer(app)
	defer server.Close()
	if r.send == "" {
		return r.measure(ctx, o, app, nil, server.URL, func(ctx context.Context, v *viewer) error {
			return v.poll(ctx, o.interval, r.conditional)
		}, func() error { return pause(ctx, o.interval+o.interval/2) })
	}
	caddy, err := startCaddy("", fmt.Sprintf("sse {\n poll %v {\n send %s\n }\n }", o.interval, r.send), server.Listener.Addr().String())
	if err != nil {
		return err
	}
	profiled, err := caddy.profile(o.profile)
	if err != nil {
		return errors.Join(err, caddy.stop())
	}
	defer func() { err = errors.Join(err, profiled(), caddy.stop()) }()
	opened := make(chan struct{}, o.viewers)
	return r.measure(ctx, o, app, caddy, caddy.url, func(ctx context.Context, v *viewer) error {
		return v.stream(ctx, func() { opened <- struct{}{} })
	}, func() error { return allOpened(ctx, opened, o.viewers) })
}

// allOpened waits until all streams are open, and one second longer.
func allOpened(ctx context.Context, opened <-chan struct{}, n int) error {
	late := time.After(30 * time.Second)
	for i := range n {
		select {
		case <-opened:
		case <-late:
			return fmt.Errorf("%d of %d streams are open after 30 s", i, n)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return pause(ctx, time.Second)
}

// measure starts the viewers, and measures from when they are ready.
func (r *row) measure(ctx context.Context, o *tableOptions, app *prices, caddy *caddyProcess, url string, task func(context.Context, *viewer) error, ready func() error) error {
	crowd := gather(ctx, o.viewers, url+"/prices", &app.changes, task)
	if err := ready(); err != nil {
		_, failed := crowd.leave()
		return errors.Join(err, failed)
	}
	m, err := newMeter(caddy)
	requests, bytes := app.requests.Load(), crowd.bytes.Load()
	change := func(n int) error { app.set(n); return nil }
	if r.put {
		change = func(n int) error { return put(ctx, url+"/prices", n) }
	}
	err = errors.Join(err, r.changeAll(ctx, o, &app.changes, change), m.stop())
	r.requests += app.requests.Load() - requests
	r.bytes += crowd.bytes.Load() - bytes
	r.elapsed, r.caddyCPU, r.others = r.elapsed+m.elapsed, r.caddyCPU+m.caddyCPU, r.others+m.others
	delays, failed := crowd.leave()
	r.delays = append(r.delays, delays...)
	progressf("median of each change: %v; other processes used %s of a core", crowd.byChange(), percent(m.others, m.elapsed))
	return errors.Join(err, failed)
}

// changeAll makes one change in each span, at a random moment, so that changes and
// polls are not in step, but early enough to arrive before the span's end.
func (r *row) changeAll(ctx context.Context, o *tableOptions, b *changeLog, change func(int) error) error {
	room := max(o.change-o.interval-o.interval/2, time.Millisecond)
	for range max(1, int(o.total/time.Duration(o.rounds)/o.change)) {
		wait := rand.N(room)
		if err := pause(ctx, wait); err != nil {
			return err
		}
		before := time.Now()
		r.changes++
		if err := change(b.next()); err != nil {
			return err
		}
		if err := pause(ctx, o.change-wait-time.Since(before)); err != nil {
			return err
		}
	}
	return nil
}

func put(ctx context.Context, url string, n int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader(strconv.Itoa(n)))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("PUT: %s", resp.Status)
	}
	return nil
}

func printTable(o *tableOptions, all []*row, where string) {
	document := newPriceTable(0).body
	fmt.Printf("%d viewers, a document of %s (%s with gzip), a change every %v, polls every %v; %v per row in %d rounds. %s.\n\n",
		o.viewers, kib(float64(len(document))), kib(float64(gzipped(document))), o.change, o.interval, all[0].elapsed.Round(time.Second), o.rounds, where)
	fmt.Println("| | requests at the backend per minute | bytes to each viewer per minute | change to viewer, median | 99th percentile | received | Caddy, of a core | other processes |")
	fmt.Println("| --- | --: | --: | --: | --: | --: | --: | --: |")
	for _, r := range all {
		slices.Sort(r.delays)
		seen := float64(len(r.delays)) / float64(r.changes*o.viewers)
		fmt.Printf("| %s | %.0f | %s | %s | %s | %.2f %% of %d | %s | %s |\n", r.name,
			float64(r.requests)/r.elapsed.Minutes(), kib(float64(r.bytes)/r.elapsed.Minutes()/float64(o.viewers)),
			short(quantile(r.delays, 0.5)), short(quantile(r.delays, 0.99)), 100*seen, r.changes*o.viewers,
			percent(r.caddyCPU, r.elapsed), percent(r.others, r.elapsed))
	}
	fmt.Println()
}

func gzipped(data []byte) int {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(data)
	_ = w.Close()
	return out.Len()
}
