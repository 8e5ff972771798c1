// Command petstore is the backend of the demo: a plain JSON API with an
// in-memory database, logins by cookie and webhooks. It has no streams.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// shutdownGrace limits how long requests in flight may take after a signal to
// stop.
const shutdownGrace = 5 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "petstore:", err)
		stop()
		os.Exit(1)
	}
}

// settings are the values of the flags and the environment.
type settings struct {
	listen  string
	step    time.Duration
	shop    time.Duration
	think   time.Duration
	webhook string
	secret  []byte
}

// parseSettings reads the flags, and the secret from the environment, because
// the process list would show a flag.
func parseSettings(args []string, getenv func(string) string) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("petstore", flag.ExitOnError)
	flags.StringVar(&s.listen, "listen", "127.0.0.1:9001", "address to listen on")
	flags.DurationVar(&s.step, "step", 3*time.Second, "time an order spends in each status")
	flags.DurationVar(&s.shop, "shop", 4*time.Second, "average interval between spontaneous changes of stock or price; 0 turns them off")
	flags.DurationVar(&s.think, "think", 3*time.Second, "time that recommendations take")
	flags.StringVar(&s.webhook, "webhook", "http://localhost:8080/hooks/petstore", "URL for notifications; empty sends none")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if s.step <= 0 || s.shop < 0 || s.think < 0 {
		return s, errors.New("-step must be above zero, -shop and -think can't be negative")
	}
	var err error
	s.secret, err = parseSecret(getenv(secretVariable))
	return s, err
}

// notifies reports whether there is a URL for notifications and a secret to sign
// them.
func (s settings) notifies() bool { return s.webhook != "" && len(s.secret) > 0 }

// announcement returns the line that run prints when it accepts connections.
func (s settings) announcement(addr net.Addr) string {
	switch {
	case s.notifies():
		return fmt.Sprintf("petstore: listening on http://%s, webhooks to %s", addr, s.webhook)
	case s.webhook != "":
		return fmt.Sprintf("petstore: listening on http://%s, no webhooks: %s is not set", addr, secretVariable)
	default:
		return fmt.Sprintf("petstore: listening on http://%s, no webhooks", addr)
	}
}

// run serves the petstore until ctx ends, and returns when all goroutines that it
// started have ended.
func run(ctx context.Context, args []string, getenv func(string) string, stdout io.Writer) error {
	s, err := parseSettings(args, getenv)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.listen)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var background sync.WaitGroup
	defer background.Wait()
	defer cancel()

	handler := open(ctx, s, &background)
	fmt.Fprintln(stdout, s.announcement(listener.Addr()))
	return serve(ctx, listener, handler)
}

// open makes the shop and starts its background goroutines.
func open(ctx context.Context, s settings, background *sync.WaitGroup) http.Handler {
	notify := func(Notification) {}
	if s.notifies() {
		notifier := NewNotifier(s.webhook, s.secret)
		background.Go(func() { notifier.Run(ctx) })
		notify = notifier.Send
	}
	inventory := NewInventory()
	if s.shop > 0 {
		background.Go(func() { inventory.Trade(ctx, s.shop) })
	}
	return (&api{
		inventory: inventory,
		orders:    NewOrders(inventory, s.step, notify),
		sessions:  NewSessions(),
		requests:  NewRequests(),
		think:     s.think,
	}).routes()
}

// serve serves requests until ctx ends, which also cancels the contexts of
// requests in flight.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	return server.Shutdown(grace)
}
