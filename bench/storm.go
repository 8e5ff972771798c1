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
	clients      int
	within       time.Duration
	responseTime time.Duration
	only         string
	profile      string
}

func (o *stormOptions) flags() {
	flag.IntVar(&o.clients, "storm-clients", 2000, "storm: clients that reconnect")
	flag.DurationVar(&o.within, "storm-within", time.Second, "storm: the time within which they reconnect")
	flag.DurationVar(&o.responseTime, "storm-answer-time", 10*time.Millisecond, "storm: response time of the backend")
	flag.StringVar(&o.only, "storm-only", "", "storm: measure only rows with this text in their names")
	flag.StringVar(&o.profile, "storm-cpuprofile", "", "storm: file for a CPU profile of Caddy in the last row")
}

// storm is a row in which all clients reconnect to a new Caddy, with its results.
type storm struct {
	*protocol
	subject         string // of the streams
	rule            string
	sameCredentials bool // of all clients

	delays         []time.Duration // from the connection's start to the first event
	served         time.Duration   // time until all clients have had an event
	retried        atomic.Int64    // connections that failed, on a busy machine; the clients retry
	requests       int64           // at the backend
	before, during []time.Duration // delays of the witness's events
	meter          *meter
}

func (s *storm) name() string {
	whose := ", each with its own cookie"
	if s.sameCredentials {
		whose = ""
	}
	return s.protocol.name + ", " + s.subject + whose
}

const (
	stormTopic = "sse /watch {\n topic bench\n %s }"
	stormPoll  = "sse /watch {\n poll 10s {\n %s max_in_flight 100\n max_views_per_client 10000\n }\n }"
)

func storms() (all []*storm) {
	h1, h2, h3 := protocols(1)
	topic := fmt.Sprintf(stormTopic, "")
	for _, w := range []*protocol{h1, h2, h3} {
		all = append(all, &storm{protocol: w, subject: "`topic`", rule: topic, sameCredentials: true},
			&storm{protocol: w, subject: "without the module", rule: "route /watch {\n naive\n }", sameCredentials: true})
	}
	authorized := fmt.Sprintf(stormTopic, "authorize /may\n")
	shared, own := fmt.Sprintf(stormPoll, "share\n"), fmt.Sprintf(stormPoll, "")
	return append(all,
		&storm{protocol: h2, subject: "`topic` with `authorize`", rule: authorized, sameCredentials: true},
		&storm{protocol: h2, subject: "`topic` with `authorize`", rule: authorized},
		&storm{protocol: h2, subject: "`poll`", rule: own, sameCredentials: true},
		&storm{protocol: h2, subject: "`poll` with `share`", rule: shared},
		&storm{protocol: h2, subject: "`poll`", rule: own},
	)
}

func benchStorm(ctx context.Context, o *stormOptions) error {
	if err := needFiles(o.clients + 200); err != nil {
		return err
	}
	where := machine()
	all := slices.DeleteFunc(storms(), func(s *storm) bool { return !strings.Contains(s.name(), o.only) })
	for _, s := range all {
		progressf("%d clients: %s", o.clients, s.name())
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
		time.Sleep(o.responseTime)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"state":"open"}`)
	}))
	defer backend.Close()
	caddy, err := startCaddy("", s.rule+publishing+"\n sse /witness {\n topic witness\n }", backend.Listener.Addr().String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, caddy.stop()) }()
	position, err := publishMissed(ctx, caddy)
	if err != nil {
		return err
	}
	w, err := startWitness(ctx, caddy)
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
	err = s.reconnect(ctx, o, caddy, position)
	err = errors.Join(err, profiled())
	s.requests = requests.Load()
	err = errors.Join(err, s.meter.stop())
	delays, witnessErr := w.stop()
	s.before, s.during = delays[:min(before, len(delays))], delays[min(before, len(delays)):]
	return errors.Join(err, witnessErr)
}

// publishMissed publishes events that the clients have missed, and returns the
// position before them.
func publishMissed(ctx context.Context, caddy *caddyProcess) (position string, err error) {
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

// reconnect starts the clients one after the other, each with a new connection, and
// waits until all have received their first event. No client leaves before.
func (s *storm) reconnect(ctx context.Context, o *stormOptions, caddy *caddyProcess, position string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	delays := make(chan time.Duration, o.clients)
	began := time.Now()
	for i := range o.clients {
		header := []string{"Last-Event-ID", position}
		if !s.sameCredentials {
			header = append(header, "Cookie", fmt.Sprintf("session=%d", i))
		}
		clients.Go(func() {
			start := began.Add(o.within * time.Duration(i) / time.Duration(o.clients))
			_ = pause(ctx, time.Until(start)) // the loop checks the context
			for ctx.Err() == nil {
				err := s.runClient(ctx, caddy, header, func() { delays <- time.Since(start) })
				if err != nil && s.retried.Add(1) <= 3 {
					progressf("client %d retries: %v", i, err)
				}
			}
		})
	}
	for range o.clients {
		select {
		case d := <-delays:
			s.delays = append(s.delays, d)
		case <-ctx.Done():
			return fmt.Errorf("%d of %d clients have received an event after two minutes", len(s.delays), o.clients)
		}
	}
	s.served = time.Since(began)
	return nil
}

// runClient runs one client. It calls first at the first event, and stays until
// the context ends.
func (s *storm) runClient(ctx context.Context, caddy *caddyProcess, header []string, first func()) error {
	conn, err := s.connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	body, err := openStream(ctx, s.protocol, conn.Client, s.base(caddy)+"/watch", header...)
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
	fmt.Printf("%d clients that reconnect within %v with new connections; the backend responds in %v. %s.\n\n", o.clients, o.within, o.responseTime, where)
	fmt.Println("| | connection to first event, median | 99th percentile | all served after | requests at the backend | another stream's events, median before | median during | 99th percentile | worst | Caddy's CPU | other processes | connections that failed |")
	fmt.Println("| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |")
	for _, s := range all {
		slices.Sort(s.delays)
		slices.Sort(s.during)
		fmt.Printf("| %s | %s | %s | %s | %d | %s | %s | %s | %s | %s | %s | %d |\n", s.name(), short(quantile(s.delays, 0.5)), short(quantile(s.delays, 0.99)), short(s.served), s.requests,
			short(median(s.before)), short(quantile(s.during, 0.5)), short(quantile(s.during, 0.99)), short(quantile(s.during, 1)), short(s.meter.caddyCPU), percent(s.meter.others, s.meter.elapsed), s.retried.Load())
	}
	fmt.Println()
}
