package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

type encodeOptions struct {
	streams, rounds int
	total           time.Duration
	only            string
}

func (o *encodeOptions) flags() {
	flag.IntVar(&o.streams, "encode-streams", 1000, "encode: open streams")
	flag.IntVar(&o.rounds, "encode-rounds", 3, "encode: rounds in which the rows alternate")
	flag.DurationVar(&o.total, "encode-for", 10*time.Second, "encode: the time in which two events per second are measured")
	flag.StringVar(&o.only, "encode-only", "", "encode: measure only rows with this text in their names")
}

// encodeRow is one way to send events, with its results in each round.
type encodeRow struct {
	*protocol
	size  int // about, of an event's data
	name  string
	rule  string
	gzip  bool
	naive bool

	bytes, cpu, heap []float64 // bytes and µs per delivery, bytes per stream
}

func encodeRows() (all []*encodeRow) {
	h1, _, _ := protocols(1)
	_, h2, h3 := protocols(100)
	const ours = "sse /events {\n topic bench\n encode gzip\n }" + publishing
	const naive = "route /events {\n naive\n }"
	const encoded = "route /events {\n encode {\n gzip\n minimum_length 1\n match {\n header Content-Type *\n }\n }\n naive\n }"
	for _, w := range []*protocol{h1, h2, h3} {
		for _, size := range []int{1 << 10, 10 << 10} {
			all = append(all,
				&encodeRow{protocol: w, size: size, name: "not compressed", rule: ours},
				&encodeRow{protocol: w, size: size, name: "`encode gzip`", rule: ours, gzip: true},
				&encodeRow{protocol: w, size: size, name: "naive handler", rule: naive, naive: true},
				&encodeRow{protocol: w, size: size, name: "naive handler under Caddy's `encode gzip`", rule: encoded, naive: true, gzip: true})
		}
	}
	return all
}

func (r *encodeRow) title() string {
	return fmt.Sprintf("%s | %d KiB | %s", r.protocol.name, r.size>>10, r.name)
}

// benchEncode measures streams of JSON with and without compression.
func benchEncode(ctx context.Context, o *encodeOptions) error {
	if err := needFiles(o.streams + 200); err != nil {
		return err
	}
	where := machine()
	var rows []*encodeRow
	for _, r := range encodeRows() {
		if strings.Contains(r.title(), o.only) {
			rows = append(rows, r)
		}
	}
	for round := range o.rounds {
		for _, r := range rows {
			progressf("round %d of %d: %s", round+1, o.rounds, r.title())
			if err := r.turn(ctx, o); err != nil {
				return fmt.Errorf("%s: %w", r.title(), err)
			}
		}
	}
	fmt.Printf("%d streams × 2 events/s for %v, medians of %d rounds. %s.\n\n", o.streams, o.total, o.rounds, where)
	fmt.Println("| protocol | event | | bytes per delivery | Caddy's CPU per delivery | heap per stream |")
	fmt.Println("| --- | --: | --- | --: | --: | --: |")
	for _, r := range rows {
		fmt.Printf("| %s | %.0f | %.1f µs | %s |\n", r.title(), median(r.bytes), median(r.cpu), kib(median(r.heap)))
	}
	fmt.Println()
	return nil
}

func (r *encodeRow) turn(ctx context.Context, o *encodeOptions) (err error) {
	caddy, err := startCaddy("", r.rule, "127.0.0.1:9")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, caddy.stop()) }()
	audience := &audience{gzip: r.gzip}
	defer audience.leave()
	if err := audience.open(ctx, r.protocol, o.streams, func(int) string { return r.base(caddy) + "/events" }); err != nil {
		return err
	}
	err = pause(ctx, 500*time.Millisecond)                                                            // until the clients have what streams begin with
	if err := errors.Join(err, r.publish(ctx, caddy, audience, o.streams, time.Second)); err != nil { // a warm-up
		return err
	}
	events, bytes := audience.events.Load(), audience.bytes.Load()
	m, err := newMeter(caddy)
	if err != nil {
		return err
	}
	if err := errors.Join(r.publish(ctx, caddy, audience, o.streams, o.total), m.stop()); err != nil {
		return err
	}
	deliveries := float64(audience.events.Load() - events)
	after, err := caddy.command("memory")
	r.bytes = append(r.bytes, float64(audience.bytes.Load()-bytes)/deliveries)
	r.cpu = append(r.cpu, float64(m.caddyCPU.Microseconds())/deliveries)
	r.heap = append(r.heap, (float64(after.Heap)-float64(caddy.atRest.Heap))/float64(o.streams))
	return err
}

// publish publishes two events per second, more of which Caddy's encode can't
// compress for each stream, and waits until all streams have them.
func (r *encodeRow) publish(ctx context.Context, caddy *caddyProcess, a *audience, streams int, total time.Duration) error {
	want := a.events.Load()
	tick := time.NewTicker(time.Second / 2)
	defer tick.Stop()
	for range total / (time.Second / 2) {
		<-tick.C
		if err := r.publishOne(ctx, caddy); err != nil {
			return err
		}
		want += int64(streams)
	}
	for deadline := time.Now().Add(20 * time.Second); a.events.Load() < want; {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d deliveries are missing", want-a.events.Load(), want)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (r *encodeRow) publishOne(ctx context.Context, caddy *caddyProcess) error {
	data := ordersJSON(r.size)
	if !r.naive {
		_, err := caddy.publish(ctx, "bench", data)
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, caddy.url+"/events", strings.NewReader(data))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// ordersJSON returns a list of orders of about n bytes, as a shop's API may have it.
// Each call returns other ones.
func ordersJSON(n int) string {
	names := []string{"Ada Lovelace", "Grace Hopper", "Edsger Dijkstra", "Barbara Liskov", "Tony Hoare", "Frances Allen"}
	states := []string{"pending", "paid", "shipped", "delivered", "cancelled"}
	list := []byte(`{"orders":[`)
	for len(list) < n-100 {
		order, _ := json.Marshal(map[string]any{ // it always marshals
			"id": rand.IntN(1e6), "token": fmt.Sprintf("%016x%016x", rand.Uint64(), rand.Uint64()),
			"customer": names[rand.IntN(len(names))], "status": states[rand.IntN(len(states))],
			"total": float64(rand.IntN(1e5)) / 100, "currency": "EUR", "items": rand.IntN(9),
			"created_at": time.Unix(1.7e9+rand.Int64N(1e7), 0).UTC().Format(time.RFC3339),
			"url":        fmt.Sprintf("https://shop.example.com/orders/%d", rand.IntN(1e6)),
		})
		list = append(append(list, order...), ',')
	}
	return string(list[:len(list)-1]) + "]}"
}
