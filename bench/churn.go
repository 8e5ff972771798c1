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
	flag.IntVar(&o.stride, "churn-stride", 10000, "churn: streams between two measurements")
	flag.IntVar(&o.visitors, "churn-visitors", 30, "churn: connections at a time")
	flag.BoolVar(&o.bare, "churn-bare", false, "churn: without the module, responses with heartbeats only")
	flag.DurationVar(&o.idleTimeout, "churn-idle-timeout", 15*time.Second, "churn: Caddy's idle timeout; HTTP/2 and HTTP/3 connections that end with open streams stay in memory for it")
	flag.DurationVar(&o.rest, "churn-rest", time.Minute, "churn: pause before the last measurement")
	flag.StringVar(&o.profile, "churn-heapprofile", "", "churn: file for a heap profile of Caddy at the end; .base is appended for the one after the first stride")
}

// churn opens and ends many streams.
type churn struct {
	*churnOptions
	caddy     *caddyProcess
	protocols [3]*protocol
	left      atomic.Int64 // streams to open before the next measurement

	opened [3]atomic.Int64 // by protocol
	cut    atomic.Int64    // with their connections
	events atomic.Int64    // that clients waited for
	failed atomic.Int64    // connections that failed, on a busy machine
}

func benchChurn(ctx context.Context, o *churnOptions) (err error) {
	where := machine()
	unused := httptest.NewServer(http.NotFoundHandler())
	defer unused.Close()
	rule := "sse /events {\n topic bench\n }" + publishing
	if o.bare {
		rule = "route /events {\n naive\n }"
	}
	c := &churn{churnOptions: o}
	c.protocols[0], c.protocols[1], c.protocols[2] = protocols(3)
	if c.caddy, err = startCaddyWith(fmt.Sprintf("timeouts {\n idle %v\n }", o.idleTimeout), "", rule, unused.Listener.Addr().String()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.caddy.stop()) }()
	states, err := c.strides(ctx)
	if err != nil {
		return err
	}
	printChurn(c, states, where)
	return nil
}

// strides opens and ends all streams. It records Caddy's state after each stride,
// and at the end.
func (c *churn) strides(ctx context.Context) (states []state, err error) {
	err = c.record(ctx, &states, 0)
	for done := 0; done < c.streams && err == nil; done += c.stride {
		c.left.Store(int64(min(c.stride, c.streams-done)))
		if err = c.runStride(ctx); err == nil {
			err = c.record(ctx, &states, 0)
		}
		if err == nil && done == 0 {
			err = c.profileHeap(".base")
		}
	}
	if err == nil {
		err = c.record(ctx, &states, c.rest)
	}
	return states, errors.Join(err, c.profileHeap(""))
}

func (c *churn) record(ctx context.Context, states *[]state, rest time.Duration) error {
	if c.bare { // without the module nothing counts the open streams
		rest += 35 * time.Second
	}
	if err := pause(ctx, rest); err != nil {
		return err
	}
	l, err := c.caddy.waitUntilQuiet(ctx)
	l.streams = c.opened[0].Load() + c.opened[1].Load() + c.opened[2].Load()
	*states = append(*states, l)
	progressf("%+v", l)
	return err
}

func (c *churn) profileHeap(suffix string) error {
	if c.profile == "" {
		return nil
	}
	_, err := c.caddy.command("heap " + c.profile + suffix)
	return err
}

// runStride opens and ends the streams of a stride.
func (c *churn) runStride(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var visitors, publisher sync.WaitGroup
	over := make(chan struct{})
	publisher.Go(func() { c.publish(ctx, cancel, over) })
	for i := range c.visitors {
		visitors.Go(func() {
			for c.left.Load() > 0 && ctx.Err() == nil {
				if err := c.visit(ctx, i%len(c.protocols)); err != nil && c.failed.Add(1) > int64(c.streams/100) {
					cancel(fmt.Errorf("too many connections have failed, the last with: %w", err))
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

// visit opens a connection with one stream or several. Each stream receives its
// first bytes, one in four an event. Visit cuts one in four connections with its
// streams open; on the others it ends the streams first.
func (c *churn) visit(ctx context.Context, kind int) error {
	w := c.protocols[kind]
	conn, err := w.connect()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var streams []io.ReadCloser
	for range 1 + rand.IntN(w.perConnection) {
		body, err := c.open(ctx, w, conn.Client)
		if err != nil {
			conn.Close()
			return fmt.Errorf("%s: %w", w.name, err)
		}
		streams = append(streams, body)
	}
	n := int64(len(streams))
	c.left.Add(-n)
	c.opened[kind].Add(n)
	if rand.IntN(4) == 0 {
		conn.Break()
		c.cut.Add(n)
		return nil
	}
	for _, body := range streams {
		body.Close()
	}
	err = pause(ctx, rand.N(10*time.Millisecond)) // so that most streams end before the connection
	conn.Close()
	return err
}

// open opens a stream and reads its first byte, or up to its first event.
func (c *churn) open(ctx context.Context, w *protocol, client *http.Client) (io.ReadCloser, error) {
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

func printChurn(c *churn, states []state, where string) {
	fmt.Printf("Streams over %s, %s and %s: %d, %d and %d; %d on connections that were cut, %d waited for an event; %d connections failed; %d connections at a time. %s.\n\n",
		c.protocols[0].name, c.protocols[1].name, c.protocols[2].name, c.opened[0].Load(), c.opened[1].Load(), c.opened[2].Load(), c.cut.Load(), c.events.Load(), c.failed.Load(), c.visitors, where)
	fmt.Println("| streams so far | heap in use | stacks | goroutines | resident | open files | subscribers |")
	fmt.Println("| --: | --: | --: | --: | --: | --: | --: |")
	for _, l := range states {
		fmt.Printf("| %d | %s | %s | %d | %.1f MiB | %d | %d |\n", l.streams, kib(float64(l.Heap)), kib(float64(l.Stacks)), l.Goroutines, float64(l.rss)/(1<<20), l.files, l.subscribers)
	}
	fmt.Println()
}
