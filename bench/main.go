// Command bench measures what one poll for all viewers saves, what it costs to
// watch many documents, how many webhooks are taken, what many streams cost, at
// rest and when they come and go, and what hostile clients can do. Caddy runs in
// a process of its own, so that its CPU and memory are told apart from those of
// the clients and the backend, which share this one. All connections are on the
// loopback interface, or within network namespaces.
//
//	go run ./bench -run table   # polling clients against streams
//	go run ./bench -run views   # 10,000 documents, a viewer each
//	go run ./bench -run webhooks
//	go run ./bench -run idle    # 10,000 streams on which nothing happens
//	go run ./bench -run churn   # 100,000 streams that come and go
//	go run ./bench -run storm   # 2,000 clients that come back in a second
//	go run ./bench -run hostile # what attacks cost, and what others feel of them
//	go run ./bench -run vanished # how long a client that is gone is held
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
		beChild(os.Args[1], os.Args[2])
	}
	runs := runs()
	names := strings.Join(runNames(runs), ", ")
	run := flag.String("run", "all", "what to measure: "+names+" or all")
	limit := flag.Duration("timeout", time.Hour, "end after so long in any case")
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

// benchmark is one of the things that can be measured.
type benchmark struct {
	name    string
	measure func(context.Context) error
}

// runs are all of them, whose flags it adds.
func runs() []benchmark {
	var t tableOptions
	var v viewsOptions
	var w webhookOptions
	var i idleOptions
	var c churnOptions
	var s stormOptions
	var h hostileOptions
	var gone vanishedOptions
	for _, o := range []interface{ flags() }{&t, &v, &w, &i, &c, &s, &h, &gone} {
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
	}
}

func runNames(runs []benchmark) (names []string) {
	for _, r := range runs {
		names = append(names, r.name)
	}
	return names
}

// beChild is for the processes that this program starts of itself.
func beChild(word, argument string) {
	switch word {
	case childWord:
		exit(serveCaddy(argument))
	case vanishingServer:
		limit, err := time.ParseDuration(argument)
		exit(errors.Join(err, serveVanishing(limit)))
	case vanishingClient:
		exit(beVanishing())
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// pause waits, and fails if the run is to end.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
