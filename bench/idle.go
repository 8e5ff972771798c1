package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
)

type idleOptions struct {
	streams, events int
	total           time.Duration
	only, profile   string
}

func (o *idleOptions) flags() {
	flag.IntVar(&o.streams, "streams", 10000, "idle: open streams")
	flag.IntVar(&o.events, "events", 20, "idle: events for all streams, one after the other")
	flag.DurationVar(&o.total, "idle-for", 45*time.Second, "idle: time in which the CPU of heartbeats is measured")
	flag.StringVar(&o.only, "idle-only", "", "idle: measure only rows with this text in their names")
	flag.StringVar(&o.profile, "idle-heapprofile", "", "idle: file for a heap profile of Caddy in the last row")
}

// idleRow is a row of idle streams over one protocol, with its results.
type idleRow struct {
	*protocol
	bare bool // uses naive instead of the module

	opening       time.Duration
	before, after memory
	rss           int64
	meter         *meter
	ended         int64           // streams that ended early, on a busy machine
	medians, last []time.Duration // per event: the time to half of the streams, and to all
}

func (s *idleRow) name() string {
	name := fmt.Sprintf("%s, %d per connection", s.protocol.name, s.perConnection)
	if s.bare {
		name += ", without the module"
	}
	return name
}

func idleRows() (all []*idleRow) {
	h1, h2, h3 := protocols(1)
	_, h2Many, h3Many := protocols(100)
	for _, w := range []*protocol{h1, h2, h2Many, h3, h3Many} {
		all = append(all, &idleRow{protocol: w}, &idleRow{protocol: w, bare: true})
	}
	return all
}

func benchIdle(ctx context.Context, o *idleOptions) error {
	if err := needFiles(o.streams + 200); err != nil {
		return err
	}
	where := machine()
	all := slices.DeleteFunc(idleRows(), func(s *idleRow) bool { return !strings.Contains(s.name(), o.only) })
	for _, s := range all {
		progressf("%d streams: %s", o.streams, s.name())
		if err := s.turn(ctx, o); err != nil {
			return fmt.Errorf("%s: %w", s.name(), err)
		}
		progressf("%s", s.line(o))
	}
	printIdle(o, all, where)
	return nil
}

func (s *idleRow) turn(ctx context.Context, o *idleOptions) (err error) {
	unused := httptest.NewServer(http.NotFoundHandler())
	defer unused.Close()
	rule := "sse /events {\n topic bench\n }" + publishing
	if s.bare {
		rule = "route /events {\n naive\n }"
	}
	caddy, err := startCaddy("", rule, unused.Listener.Addr().String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, caddy.stop()) }()
	atRest, err := caddy.usage()
	if err != nil {
		return err
	}
	s.before = caddy.atRest
	arrivals := new(arrivals)
	audience := &audience{seen: arrivals.add}
	defer audience.leave()
	started := time.Now()
	if err := audience.open(ctx, s.protocol, o.streams, func(int) string { return s.base(caddy) + "/events" }); err != nil {
		return err
	}
	s.opening = time.Since(started)
	if err := s.rest(ctx, o, caddy); err != nil {
		return err
	}
	s.rss = s.meter.rss - atRest.rss
	if err := s.publish(ctx, o, caddy, arrivals); err != nil {
		return err
	}
	if s.ended = audience.ended.Load(); s.ended > int64(o.streams/100) {
		return fmt.Errorf("%d streams have ended", s.ended)
	}
	return nil
}

// rest measures while Caddy sends only heartbeats.
func (s *idleRow) rest(ctx context.Context, o *idleOptions, caddy *caddyProcess) (err error) {
	if err := pause(ctx, 5*time.Second); err != nil { // until the opening's work is done
		return err
	}
	if s.meter, err = newMeter(caddy); err != nil {
		return err
	}
	if err := errors.Join(pause(ctx, o.total), s.meter.stop()); err != nil {
		return err
	}
	if o.profile != "" {
		if _, err := caddy.command("heap " + o.profile); err != nil {
			return err
		}
	}
	s.after, err = caddy.command("memory")
	return err
}

func (s *idleRow) publish(ctx context.Context, o *idleOptions, caddy *caddyProcess, a *arrivals) error {
	if s.bare {
		return nil
	}
	for i := range o.events {
		all := a.expect(o.streams)
		if _, err := caddy.publish(ctx, "bench", fmt.Sprintf(`{"n":%d}`, i)); err != nil {
			return err
		}
		select {
		case delays := <-all:
			s.medians, s.last = append(s.medians, median(delays)), append(s.last, slices.Max(delays))
		case <-time.After(20 * time.Second):
			return fmt.Errorf("event %d did not reach all streams within 20 s", i)
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// arrivals records when one event reaches each of many streams.
type arrivals struct {
	mu     sync.Mutex
	from   time.Time
	want   int
	delays []time.Duration
	all    chan []time.Duration
}

// expect starts with an event that is published now. The channel receives all
// delays when the event has reached every stream.
func (a *arrivals) expect(streams int) <-chan []time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.from, a.want, a.delays, a.all = time.Now(), streams, nil, make(chan []time.Duration, 1)
	return a.all
}

func (a *arrivals) add() {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.delays = append(a.delays, now.Sub(a.from)); len(a.delays) == a.want {
		a.all <- a.delays
	}
}

func printIdle(o *idleOptions, all []*idleRow, where string) {
	fmt.Printf("%d idle streams, a heartbeat every 15 s; CPU measured for %v, then %d events for all of them. %s.\n\n", o.streams, o.total, o.events, where)
	fmt.Println("| | opened in | resident | heap in use | stacks | goroutines | Caddy, of a core | other processes | streams that ended | event to the median stream | to the last | to the last, worst |")
	fmt.Println("| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |")
	for _, s := range all {
		fmt.Println(s.line(o))
	}
	fmt.Println()
}

func (s *idleRow) line(o *idleOptions) string {
	per := func(n int64) string { return kib(float64(n) / float64(o.streams)) }
	events := "| | |"
	if len(s.last) > 0 {
		events = fmt.Sprintf("%s | %s | %s |", short(median(s.medians)), short(median(s.last)), short(slices.Max(s.last)))
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %.2f | %s | %s | %d | %s", s.name(), short(s.opening), per(s.rss),
		per(int64(s.after.Heap)-int64(s.before.Heap)), per(int64(s.after.Stacks)-int64(s.before.Stacks)),
		float64(s.after.Goroutines-s.before.Goroutines)/float64(o.streams),
		percent(s.meter.caddyCPU, s.meter.elapsed), percent(s.meter.others, s.meter.elapsed), s.ended, events)
}
