// Command bench measures what one poll for all viewers saves, what it costs to
// watch many documents, and how many webhooks are taken. Caddy runs in a process of its own, so that its CPU
// and memory are told apart from those of the clients and the backend, which
// share this one. All connections are on the loopback interface.
//
//	go run ./bench -run table   # polling clients against streams
//	go run ./bench -run views   # 10,000 documents, a viewer each
//	go run ./bench -run webhooks
//	go run ./bench -run all
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == childWord {
		exit(serveCaddy(os.Args[2]))
	}
	var t tableOptions
	var v viewsOptions
	var w webhookOptions
	run := flag.String("run", "all", "what to measure: table, views, webhooks or all")
	limit := flag.Duration("timeout", 30*time.Minute, "end after so long in any case")
	t.flags()
	v.flags()
	w.flags()
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	exit(measure(ctx, *run, &t, &v, &w))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func measure(ctx context.Context, run string, t *tableOptions, v *viewsOptions, w *webhookOptions) error {
	switch run {
	case "table":
		return benchTable(ctx, t)
	case "views":
		return benchViews(ctx, v)
	case "webhooks":
		return benchWebhooks(ctx, w)
	case "all":
		return errors.Join(benchTable(ctx, t), benchViews(ctx, v), benchWebhooks(ctx, w))
	default:
		return fmt.Errorf("unknown -run %q: use table, views, webhooks or all", run)
	}
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
