package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// benchFanout measures servers of event streams in turn, in several rounds.
func benchFanout(ctx context.Context, o *fanoutOptions) error {
	all, err := chosen(o)
	if err != nil {
		return err
	}
	servers, missing, err := chosenServers(o)
	if err != nil {
		return err
	}
	for _, s := range missing {
		progressf("not measured: %s: %s", s.name, s.missing)
	}
	r := newFanoutReport(missing)
	if o.rounds == 0 {
		all = nil // prints earlier results
	}
	for _, sc := range all {
		if err := needFiles(sc.streams + sc.stalled + 500); err != nil {
			return err
		}
		if err := sc.measure(ctx, o, servers, r); err != nil {
			return err
		}
	}
	return r.write(o)
}

// measure measures the servers in turn. A failure ends only the server's own turn.
func (sc *scenario) measure(ctx context.Context, o *fanoutOptions, servers []*server, r *fanoutReport) error {
	report := r.begin(o, sc)
	for round := range o.rounds {
		for _, s := range servers {
			if !s.tls && sc.protocol != "h1" {
				continue
			}
			result, err := sc.turn(ctx, o, s)
			if ctx.Err() != nil {
				return errors.Join(context.Cause(ctx), err)
			}
			if err != nil {
				progressf("%s, round %d of %d: %s FAILED: %v", sc.name, round+1, o.rounds, s.name, err)
			} else {
				progressf("%s, round %d of %d: %s: %s", sc.name, round+1, o.rounds, s.name, result)
			}
			report.add(s, result, err)
		}
	}
	return nil
}

// turn measures a server once, in a new process and with new clients.
func (sc *scenario) turn(ctx context.Context, o *fanoutOptions, s *server) (result *clientsResult, err error) {
	running, err := s.start(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, running.stop()) }()
	job, err := json.Marshal(clientsJob{
		Protocol: sc.protocol, Address: running.address(sc.protocol), Target: running.target,
		Streams: sc.streams, PerConnection: sc.perConnection, Stalled: sc.stalled,
		Publish: running.publish(fanoutData(fanoutBytes)), Fill: running.publish(fanoutData(4 << 10)), Fills: sc.fills, Rate: sc.rate, Window: o.window, Silent: sc.idle,
		Settle: o.settle, Warmup: o.warmup, For: o.total, Server: descendants(running.pid),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, o.warmup+o.total+2*time.Minute)
	defer cancel()
	out, err := runJob(ctx, job)
	if err != nil {
		return nil, err
	}
	result = new(clientsResult)
	return result, json.Unmarshal(out, result)
}

func (s *serving) address(protocol string) string {
	if protocol == "h1" {
		return s.http
	}
	return s.https
}

func chosen(o *fanoutOptions) (all []*scenario, err error) {
	names := split(o.scenarios)
	for _, name := range names {
		if !slices.Contains(scenarioNames(), name) {
			return nil, fmt.Errorf("unknown scenario %q: use %v", name, scenarioNames())
		}
	}
	return slices.DeleteFunc(scenarios(), func(s *scenario) bool {
		return len(names) > 0 && !slices.Contains(names, s.name)
	}), nil
}

// chosenServers returns the servers to measure, and those that are missing.
func chosenServers(o *fanoutOptions) (servers, missing []*server, err error) {
	all, names := fanoutServers(o), split(o.servers)
	for _, name := range names {
		if !slices.ContainsFunc(all, func(s *server) bool { return s.name == name }) {
			return nil, nil, fmt.Errorf("unknown server %q", name)
		}
	}
	for _, s := range all {
		switch {
		case len(names) > 0 && !slices.Contains(names, s.name):
		case s.missing != "":
			missing = append(missing, s)
		default:
			servers = append(servers, s)
		}
	}
	return servers, missing, nil
}

func newSubscribers(job *clientsJob, b *book) (subscribers, error) {
	switch job.Protocol {
	case "h1":
		return newEpollClients(job, b)
	case "h2":
		return newH2Clients(job, b), nil
	case "h3":
		return newH3Clients(job, b), nil
	default:
		return nil, fmt.Errorf("unknown protocol %q", job.Protocol)
	}
}

// inParallel calls f for each of n connections, for a few at the same time.
func inParallel(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := range n {
		group.Go(func() error { return f(ctx, i) })
	}
	return group.Wait()
}
