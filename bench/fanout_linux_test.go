package main

import (
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain lets the test's program be the servers and clients, too.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 {
		runChild(os.Args[1], os.Args[2])
	}
	goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) // packages of Caddy start some
}

func TestFanoutLosesNothingWithFewStreams(t *testing.T) {
	o := &fanoutOptions{warmup: 100 * time.Millisecond, total: time.Second, window: 8}
	for _, sc := range []*scenario{
		{name: "h1-rate", protocol: "h1", streams: 50, perConnection: 1, rate: 20, stalled: 2, fills: 2},
		{name: "h1", protocol: "h1", streams: 50, perConnection: 1},
		{name: "h2", protocol: "h2", streams: 50, perConnection: 20},
		{name: "h3", protocol: "h3", streams: 50, perConnection: 20},
	} {
		for _, s := range fanoutServers(o)[:3] { // these need no other programs
			if sc.protocol != "h1" && !s.tls {
				continue
			}
			t.Run(sc.name+"/"+s.name, func(t *testing.T) {
				r, err := sc.turn(t.Context(), o, s)
				if err != nil {
					t.Fatal(err)
				}
				if r.Deliveries == 0 || r.Missing != 0 || r.Doubled != 0 || r.Reordered != 0 || r.Ended != 0 {
					t.Errorf("%d deliveries, %d missing, %d doubled, %d reordered, %d streams ended", r.Deliveries, r.Missing, r.Doubled, r.Reordered, r.Ended)
				}
				if r.at(1) == 0 || r.at(0.99) < r.at(0.5) {
					t.Errorf("latency %v", r.Latency)
				}
			})
		}
	}
}

func TestUsageOfProcessesCountsSharedMemoryOnce(t *testing.T) {
	const rollup = "55d0c0a00000-7ffd0f3fe000 ---p 00000000 00:00 0   [rollup]\nRss:      1640 kB\nPss:       423 kB\nPss_Dirty:  96 kB\n"
	if got := sharedMemory([]byte(rollup)); got != 423<<10 {
		t.Errorf("%d bytes", got)
	}
	u, err := usageOf(descendants(os.Getpid()))
	if err != nil || u.rss == 0 {
		t.Errorf("%v, %v", u, err)
	}
}
