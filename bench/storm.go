package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

type stormOptions struct {
	clients    int
	within     time.Duration
	answerTime time.Duration
	only       string
	profile    string
}

func (o *stormOptions) flags() {
	flag.IntVar(&o.clients, "storm-clients", 2000, "storm: clients that come back")
	flag.DurationVar(&o.within, "storm-within", time.Second, "storm: the time in which they do")
	flag.DurationVar(&o.answerTime, "storm-answer-time", 10*time.Millisecond, "storm: how long the backend takes to answer")
	flag.StringVar(&o.only, "storm-only", "", "storm: leave out rows without this text in their names")
	flag.StringVar(&o.profile, "storm-cpuprofile", "", "storm: file for a CPU profile of the last row's Caddy")
}

// storm is clients that all come back, to a Caddy that has just been started.
type storm struct {
	*way
	watching string // what they watch
	rule     string
	alike    bool // they all have the same credentials

	delays      []time.Duration // from the connection's beginning to the first event
	all         time.Duration   // from the first client's to the last one's
	again       atomic.Int64    // connections that a busy machine was too late with: their clients try once more
	requests    int64           // at the backend
	calm, rough []time.Duration // delays of the events of a stream that is open already
	meter       *meter
}

func (s *storm) name() string {
	whose := ", each with a cookie of their own"
	if s.alike {
		whose = ""
	}
	return s.way.name + ", " + s.watching + whose
}

const (
	stormTopic = "sse /watch {\n topic bench\n %s }"
	stormPoll  = "sse /watch {\n poll 10s {\n %s max_in_flight 100\n max_views_per_client 10000\n }\n }"
)

func storms() (all []*storm) {
	h1, h2, h3 := ways(1)
	topic := fmt.Sprintf(stormTopic, "")
	for _, w := range []*way{h1, h2, h3} {
		all = append(all, &storm{way: w, watching: "`topic`", rule: topic, alike: true},
			&storm{way: w, watching: "without the module", rule: "route /watch {\n hold\n }", alike: true})
	}
	authorized := fmt.Sprintf(stormTopic, "authorize /may\n")
	shared, own := fmt.Sprintf(stormPoll, "share\n"), fmt.Sprintf(stormPoll, "")
	return append(all,
		&storm{way: h2, watching: "`topic` with `authorize`", rule: authorized, alike: true},
		&storm{way: h2, watching: "`topic` with `authorize`", rule: authorized},
		&storm{way: h2, watching: "`poll`", rule: own, alike: true},
		&storm{way: h2, watching: "`poll` with `share`", rule: shared},
		&storm{way: h2, watching: "`poll`", rule: own},
	)
}

func benchStorm(ctx context.Context, o *stormOptions) error {
	if err := needFiles(o.clients + 200); err != nil {
		return err
	}
	where := machine()
	all := slices.DeleteFunc(storms(), func(s *storm) bool { return !strings.Contains(s.name(), o.only) })
	for _, s := range all {
		tell("%d clients: %s", o.clients, s.name())
		if err := s.turn(ctx, o); err != nil {
			return fmt.Errorf("%s: %w", s.name(), err)
		}
	}
	printStorms(o, all, where)
	return nil
}

func (s *storm) turn(ctx context.Context, o *stormOptions) (err error) {
	var requests atomic.Int64
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		time.Sleep(o.answerTime)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"state":"open"}`)
	}))
	defer backend.Close()
	caddy, err := startCaddy("", s.rule+publishing+"\n sse /witness {\n topic witness\n }", backend.Listener.Addr().String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, caddy.stop()) }()
	position, err := missed(ctx, caddy)
	if err != nil {
		return err
	}
	w, err := callWitness(ctx, caddy)
	if err != nil {
		return err
	}
	if s.meter, err = newMeter(caddy); err != nil {
		return err
	}
	profiled, err := caddy.profile(o.profile)
	if err != nil {
		return err
	}
	before := w.sent.count()
	err = s.comeBack(ctx, o, caddy, position)
	err = errors.Join(err, profiled())
	s.requests = requests.Load()
	err = errors.Join(err, s.meter.stop())
	delays, witnessErr := w.dismiss()
	s.calm, s.rough = delays[:min(before, len(delays))], delays[min(before, len(delays)):]
	return errors.Join(err, witnessErr)
}

// missed publishes what clients have missed, and returns where they were before.
func missed(ctx context.Context, caddy *caddyProcess) (position string, err error) {
	for i := range 11 {
		id, err := caddy.publish(ctx, "bench", fmt.Sprintf(`{"missed":%d}`, i))
		if err != nil {
			return "", err
		}
		if i == 0 {
			position = id
		}
	}
	return position, nil
}

// comeBack has the clients come one after the other, each with a connection of
// its own, and waits until all have had their first event. They stay until all
// have.
func (s *storm) comeBack(ctx context.Context, o *stormOptions, caddy *caddyProcess, position string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	delays := make(chan time.Duration, o.clients)
	began := time.Now()
	for i := range o.clients {
		header := []string{"Last-Event-ID", position}
		if !s.alike {
			header = append(header, "Cookie", fmt.Sprintf("session=%d", i))
		}
		clients.Go(func() {
			start := began.Add(o.within * time.Duration(i) / time.Duration(o.clients))
			_ = pause(ctx, time.Until(start)) // the loop sees that it is over
			for ctx.Err() == nil {
				err := s.watch(ctx, caddy, header, func() { delays <- time.Since(start) })
				if err != nil && s.again.Add(1) <= 3 {
					tell("client %d comes once more: %v", i, err)
				}
			}
		})
	}
	for range o.clients {
		select {
		case d := <-delays:
			s.delays = append(s.delays, d)
		case <-ctx.Done():
			return fmt.Errorf("%d of %d clients have their stream after two minutes", len(s.delays), o.clients)
		}
	}
	s.all = time.Since(began)
	return nil
}

// watch is one client's: it tells when it has the first event, and stays.
func (s *storm) watch(ctx context.Context, caddy *caddyProcess, header []string, first func()) error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	defer conn.Leave()
	body, err := openStream(ctx, s.way, conn.Client, s.base(caddy)+"/watch", header...)
	if err != nil {
		return err
	}
	defer body.Close()
	err = readEvents(body, func([]byte) {
		if first != nil {
			first()
			first = nil
		}
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func printStorms(o *stormOptions, all []*storm, where string) {
	fmt.Printf("%d clients that come back within %v with new connections; the backend answers in %v. %s.\n\n", o.clients, o.within, o.answerTime, where)
	fmt.Println("| | connection to first event, median | 99th percentile | all have theirs after | requests at the backend | another stream's events, median before | median meanwhile | 99th percentile | worst | Caddy's CPU | others on the machine | connections that failed |")
	fmt.Println("| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |")
	for _, s := range all {
		slices.Sort(s.delays)
		slices.Sort(s.rough)
		fmt.Printf("| %s | %s | %s | %s | %d | %s | %s | %s | %s | %s | %s | %d |\n", s.name(), short(quantile(s.delays, 0.5)), short(quantile(s.delays, 0.99)), short(s.all), s.requests,
			short(median(s.calm)), short(quantile(s.rough, 0.5)), short(quantile(s.rough, 0.99)), short(quantile(s.rough, 1)), short(s.meter.caddyCPU), percent(s.meter.others, s.meter.elapsed), s.again.Load())
	}
	fmt.Println()
}
