package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"time"
)

type churnOptions struct {
	streams, stride, visitors int
	bare                      bool
	rest, idleTimeout         time.Duration
	profile                   string
}

func (o *churnOptions) flags() {
	flag.IntVar(&o.streams, "churn-streams", 100000, "churn: streams that come and go")
	flag.IntVar(&o.stride, "churn-stride", 10000, "churn: how many do between two looks at the memory")
	flag.IntVar(&o.visitors, "churn-visitors", 30, "churn: connections at a time")
	flag.BoolVar(&o.bare, "churn-bare", false, "churn: without the module, responses with heartbeats only")
	flag.DurationVar(&o.idleTimeout, "churn-idle-timeout", 15*time.Second, "churn: Caddy's idle timeout, for which connections of HTTP/2 and HTTP/3 stay in memory that have ended with open streams")
	flag.DurationVar(&o.rest, "churn-rest", time.Minute, "churn: how long nobody comes before the last look")
	flag.StringVar(&o.profile, "churn-heapprofile", "", "churn: file for a heap profile of Caddy at the end, and with .base that after the first stride")
}

// churn is streams that come and go.
type churn struct {
	*churnOptions
	caddy *caddyProcess
	ways  [3]*way
	left  atomic.Int64 // streams that are still to come before the next look

	opened [3]atomic.Int64 // by way
	cut    atomic.Int64    // with their connections
	events atomic.Int64    // that were waited for
	failed atomic.Int64    // connections that a busy machine was too late with
}

func benchChurn(ctx context.Context, o *churnOptions) (err error) {
	where := machine()
	nobody := httptest.NewServer(http.NotFoundHandler())
	defer nobody.Close()
	rule := "sse /events {\n topic bench\n }" + publishing
	if o.bare {
		rule = "route /events {\n hold\n }"
	}
	c := &churn{churnOptions: o}
	c.ways[0], c.ways[1], c.ways[2] = ways(3)
	if c.caddy, err = startCaddyWith(fmt.Sprintf("timeouts {\n idle %v\n }", o.idleTimeout), "", rule, nobody.Listener.Addr().String()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.caddy.stop()) }()
	looks, err := c.strides(ctx)
	if err != nil {
		return err
	}
	printChurn(c, looks, where)
	return nil
}

// strides has all streams come and go, and looks at Caddy whenever those of a
// stride are gone, and in the end.
func (c *churn) strides(ctx context.Context) (looks []look, err error) {
	err = c.lookAgain(ctx, &looks, 0)
	for done := 0; done < c.streams && err == nil; done += c.stride {
		c.left.Store(int64(min(c.stride, c.streams-done)))
		if err = c.stretch(ctx); err == nil {
			err = c.lookAgain(ctx, &looks, 0)
		}
		if err == nil && done == 0 {
			err = c.profileHeap(".base")
		}
	}
	if err == nil {
		err = c.lookAgain(ctx, &looks, c.rest)
	}
	return looks, errors.Join(err, c.profileHeap(""))
}

func (c *churn) lookAgain(ctx context.Context, looks *[]look, rest time.Duration) error {
	if c.bare { // whose followers aren't counted
		rest += 35 * time.Second
	}
	if err := pause(ctx, rest); err != nil {
		return err
	}
	l, err := c.caddy.settle(ctx)
	l.streams = c.opened[0].Load() + c.opened[1].Load() + c.opened[2].Load()
	*looks = append(*looks, l)
	tell("%+v", l)
	return err
}

func (c *churn) profileHeap(suffix string) error {
	if c.profile == "" {
		return nil
	}
	_, err := c.caddy.tell("heap " + c.profile + suffix)
	return err
}

// stretch has some streams come and go.
func (c *churn) stretch(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var visitors, publisher sync.WaitGroup
	over := make(chan struct{})
	publisher.Go(func() { c.publish(ctx, cancel, over) })
	for i := range c.visitors {
		visitors.Go(func() {
			for c.left.Load() > 0 && ctx.Err() == nil {
				if err := c.visit(ctx, i%len(c.ways)); err != nil && c.failed.Add(1) > int64(c.streams/100) {
					cancel(fmt.Errorf("too many have failed, at last by: %w", err))
				}
			}
		})
	}
	visitors.Wait()
	close(over)
	publisher.Wait()
	return context.Cause(ctx)
}

func (c *churn) publish(ctx context.Context, fail context.CancelCauseFunc, over <-chan struct{}) {
	for n := 0; !c.bare; n++ {
		select {
		case <-over:
			return
		case <-ctx.Done():
			return
		case <-time.After(50 * time.Millisecond):
		}
		if _, err := c.caddy.publish(ctx, "bench", fmt.Sprint(n)); err != nil {
			fail(err)
		}
	}
}

// visit is one connection with a stream or several, each of which has its first
// bytes, and one in four an event. One in four connections is cut, with streams
// on it; on the others each stream is ended before the connection is.
func (c *churn) visit(ctx context.Context, kind int) error {
	w := c.ways[kind]
	conn, err := w.connect()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var streams []io.ReadCloser
	for range 1 + rand.IntN(w.perConnection) {
		body, err := c.watch(ctx, w, conn.Client)
		if err != nil {
			conn.Leave()
			return fmt.Errorf("%s: %w", w.name, err)
		}
		streams = append(streams, body)
	}
	n := int64(len(streams))
	c.left.Add(-n)
	c.opened[kind].Add(n)
	if rand.IntN(4) == 0 {
		conn.Cut()
		c.cut.Add(n)
		return nil
	}
	for _, body := range streams {
		body.Close()
	}
	err = pause(ctx, rand.N(10*time.Millisecond)) // most ends come before the connection's
	conn.Leave()
	return err
}

// watch opens a stream and reads its first bytes, or up to its first event.
func (c *churn) watch(ctx context.Context, w *way, client *http.Client) (io.ReadCloser, error) {
	body, err := openStream(ctx, w, client, w.base(c.caddy)+"/events")
	if err != nil {
		return nil, err
	}
	if c.bare || rand.IntN(4) > 0 {
		_, err = io.ReadFull(body, make([]byte, 1))
		return body, err
	}
	c.events.Add(1)
	for lines := bufio.NewReader(body); ; {
		if line, err := lines.ReadString('\n'); err != nil || line == "\n" {
			return body, err
		}
	}
}

func printChurn(c *churn, looks []look, where string) {
	fmt.Printf("Streams over %s, %s and %s: %d, %d and %d; %d of connections that were cut, %d waited for an event; %d connections failed; %d connections at a time. %s.\n\n",
		c.ways[0].name, c.ways[1].name, c.ways[2].name, c.opened[0].Load(), c.opened[1].Load(), c.opened[2].Load(), c.cut.Load(), c.events.Load(), c.failed.Load(), c.visitors, where)
	fmt.Println("| streams so far | heap in use | stacks | goroutines | resident | open files | followers |")
	fmt.Println("| --: | --: | --: | --: | --: | --: | --: |")
	for _, l := range looks {
		fmt.Printf("| %d | %s | %s | %d | %.1f MiB | %d | %d |\n", l.streams, kib(float64(l.Heap)), kib(float64(l.Stacks)), l.Goroutines, float64(l.rss)/(1<<20), l.files, l.followers)
	}
	fmt.Println()
}
