package main

import (
	"flag"
	"strings"
	"time"
)

type fanoutOptions struct {
	rounds                int
	total, warmup, settle time.Duration
	window                int
	scenarios             string
	servers               string
	against               string
	json, svg             string
}

func (o *fanoutOptions) flags() {
	flag.IntVar(&o.rounds, "fanout-rounds", 3, "fanout: rounds in which the servers alternate; with 0, it prints the results in -fanout-json")
	flag.DurationVar(&o.total, "fanout-for", 2*time.Second, "fanout: the time that each measurement lasts, after its warm-up")
	flag.DurationVar(&o.warmup, "fanout-warmup", time.Second, "fanout: the time before each measurement")
	flag.DurationVar(&o.settle, "fanout-settle", time.Second, "fanout: the time between the opening of the streams and the measurement of idle memory")
	flag.IntVar(&o.window, "fanout-window", 32, "fanout: as fast as it goes: how many events the publisher is ahead of the clients; a naive handler drops events beyond 64")
	flag.StringVar(&o.scenarios, "fanout-only", "", "fanout: names of scenarios, separated by commas: "+strings.Join(scenarioNames(), ", "))
	flag.StringVar(&o.servers, "fanout-servers", "", "fanout: names of servers, separated by commas (default all)")
	flag.StringVar(&o.against, "fanout-against", "", "fanout: other builds of this program, as name=path, separated by commas; measured beside this one")
	flag.StringVar(&o.json, "fanout-json", "", "fanout: file for the results; scenarios that are in it and not measured now remain")
	flag.StringVar(&o.svg, "fanout-svg", "", "fanout: folder for plots of the results")
}

// scenario is what servers are compared in.
type scenario struct {
	name          string
	title         string
	protocol      string // "h1", "h2" or "h3"
	streams       int
	perConnection int
	rate          float64 // events per second; 0: as many as the server takes
	stalled       int     // further streams that stop reading
	fills         int     // events of 4 KiB before the measurement, which fill the buffers of stalled streams
	idle          bool    // publishes nothing
}

const fanoutBytes = 256 // of an event's data

func scenarios() []*scenario {
	return []*scenario{
		{name: "h1-rate", title: "HTTP/1.1, 5,000 streams × 10 events/s", protocol: "h1", streams: 5000, perConnection: 1, rate: 10},
		{name: "h1-1000", title: "HTTP/1.1, 1,000 streams, as fast as it goes", protocol: "h1", streams: 1000, perConnection: 1},
		{name: "h1-10000", title: "HTTP/1.1, 10,000 streams, as fast as it goes", protocol: "h1", streams: 10000, perConnection: 1},
		{name: "h2-rate", title: "HTTP/2, 5,000 streams × 10 events/s, 100 streams per connection", protocol: "h2", streams: 5000, perConnection: 100, rate: 10},
		{name: "h2-5000", title: "HTTP/2, 5,000 streams, as fast as it goes, 100 streams per connection", protocol: "h2", streams: 5000, perConnection: 100},
		{name: "h3-rate", title: "HTTP/3, 5,000 streams × 10 events/s, 100 streams per connection", protocol: "h3", streams: 5000, perConnection: 100, rate: 10},
		{name: "h3-5000", title: "HTTP/3, 5,000 streams, as fast as it goes, 100 streams per connection", protocol: "h3", streams: 5000, perConnection: 100},
		{name: "h2-single", title: "HTTP/2, 2,000 idle streams, each with a connection", protocol: "h2", streams: 2000, perConnection: 1, idle: true},
		{name: "h3-single", title: "HTTP/3, 2,000 idle streams, each with a connection", protocol: "h3", streams: 2000, perConnection: 1, idle: true},
		{name: "h1-reading", title: "HTTP/1.1, 10,000 streams × 5 events/s, all read", protocol: "h1", streams: 10000, perConnection: 1, rate: 5, fills: 32},
		{name: "h1-stalled", title: "HTTP/1.1, 10,000 streams × 5 events/s, and 100 that stop reading", protocol: "h1", streams: 10000, perConnection: 1, rate: 5, fills: 32, stalled: 100},
	}
}

func scenarioNames() (names []string) {
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	return names
}

// build is another build of this program.
type build struct{ name, path string }

func (o *fanoutOptions) builds() (all []build) {
	for _, item := range split(o.against) {
		name, path, _ := strings.Cut(item, "=")
		all = append(all, build{name, path})
	}
	return all
}

// split splits a list at its commas. An empty list has no items.
func split(list string) []string {
	return strings.FieldsFunc(list, func(c rune) bool { return c == ',' })
}
