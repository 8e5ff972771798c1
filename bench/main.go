// Command bench measures the module: streams against polling clients, many
// documents, webhooks, many streams, idle or short-lived, and attacks. Caddy runs
// in a process of its own, so that its CPU and memory can be measured. The clients
// and the backend share this process. All connections use the loopback interface
// or network namespaces.
//
//	go run ./bench -run table   # polling clients against streams
//	go run ./bench -run views   # 10,000 documents with one viewer each
//	go run ./bench -run webhooks
//	go run ./bench -run idle    # 10,000 idle streams
//	go run ./bench -run churn   # 100,000 streams that come and go
//	go run ./bench -run storm   # 2,000 clients that reconnect within a second
//	go run ./bench -run hostile # the cost of attacks and their effect on other clients
//	go run ./bench -run vanished # how long Caddy holds a vanished client's streams
//	go run ./bench -run encode # compressed events
//	go run ./bench -run fanout # events for thousands of streams, beside other servers
//	go run ./bench -run all
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 {
		runChild(os.Args[1], os.Args[2])
	}
	runs := runs()
	names := strings.Join(runNames(runs), ", ")
	run := flag.String("run", "all", "what to measure: "+names+" or all")
	limit := flag.Duration("timeout", time.Hour, "the longest run")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	var err error
	known := false
	for _, r := range runs {
		if *run == r.name || *run == "all" {
			known = true
			err = errors.Join(err, r.measure(ctx))
		}
	}
	if !known {
		err = fmt.Errorf("unknown -run %q: use %s or all", *run, names)
	}
	exit(err)
}

// benchmark is one value of -run.
type benchmark struct {
	name    string
	measure func(context.Context) error
}

// runs returns all benchmarks and registers their flags.
func runs() []benchmark {
	var t tableOptions
	var v viewsOptions
	var w webhookOptions
	var i idleOptions
	var c churnOptions
	var s stormOptions
	var h hostileOptions
	var gone vanishedOptions
	var f fanoutOptions
	var e encodeOptions
	for _, o := range []interface{ flags() }{&t, &v, &w, &i, &c, &s, &h, &gone, &f, &e} {
		o.flags()
	}
	return []benchmark{
		{"table", func(ctx context.Context) error { return benchTable(ctx, &t) }},
		{"views", func(ctx context.Context) error { return benchViews(ctx, &v) }},
		{"webhooks", func(ctx context.Context) error { return benchWebhooks(ctx, &w) }},
		{"idle", func(ctx context.Context) error { return benchIdle(ctx, &i) }},
		{"churn", func(ctx context.Context) error { return benchChurn(ctx, &c) }},
		{"storm", func(ctx context.Context) error { return benchStorm(ctx, &s) }},
		{"hostile", func(ctx context.Context) error { return benchHostile(ctx, &h) }},
		{"vanished", func(ctx context.Context) error { return benchVanished(ctx, &gone) }},
		{"encode", func(ctx context.Context) error { return benchEncode(ctx, &e) }},
		{"fanout", func(ctx context.Context) error { return benchFanout(ctx, &f) }},
	}
}

func runNames(runs []benchmark) (names []string) {
	for _, r := range runs {
		names = append(names, r.name)
	}
	return names
}

// runChild runs this program as one of its own child processes.
func runChild(word, argument string) {
	switch word {
	case childWord:
		exit(serveCaddy(argument))
	case vanishingServer:
		limit, err := time.ParseDuration(argument)
		exit(errors.Join(err, runVanishingServer(limit)))
	case vanishingClient:
		exit(runVanishingClient())
	case clientsWord:
		exit(runClients(argument))
	case floorWord:
		exit(runFloor(argument))
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// pause waits, and fails if the context ends first.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
