package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// target is the attacked Caddy, with the outcomes of the attack.
type target struct {
	http, https string // addresses

	mu     sync.Mutex
	counts map[string]int

	resident, buffers int64 // maximums, valid after the attack
}

// count counts the outcome of an attempt.
func (t *target) count(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[what]++
}

func (t *target) attempts() (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, count := range t.counts {
		n += count
	}
	return n
}

func (t *target) outcome() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(t.counts)) {
		parts = append(parts, fmt.Sprintf("%s: %d", what, t.counts[what]))
	}
	return strings.Join(parts, ", ")
}

// sample records the memory of Caddy and the kernel until the attack ends.
func (t *target) sample(ctx context.Context, caddy *caddyProcess) {
	for ctx.Err() == nil {
		if u, err := caddy.usage(); err == nil {
			t.resident = max(t.resident, u.rss)
		}
		t.buffers = max(t.buffers, tcpBuffers())
		_ = pause(ctx, 200*time.Millisecond) // the loop checks the context
	}
}

// flood runs workers that repeat an attempt until the attack ends, and counts the
// outcomes.
func (t *target) flood(ctx context.Context, workers int, attempt func() string) {
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for ctx.Err() == nil {
				t.count(attempt())
			}
		})
	}
	all.Wait()
}

// hold makes n attempts at the same time and counts their outcomes.
func (t *target) hold(ctx context.Context, n int, attempt func(i int) string) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { t.count(attempt(i)) })
	}
	all.Wait()
}

// served returns how many of the connections Caddy still has open.
func (t *target) served(ours []net.Conn) (n int) {
	ports := make(map[uint64]bool)
	for _, c := range ours {
		ports[uint64(c.LocalAddr().(*net.TCPAddr).Port)] = true
	}
	stat, _ := os.ReadFile("/proc/net/tcp")
	for line := range strings.Lines(string(stat)) {
		fields := strings.Fields(line)
		const established = "01"
		if len(fields) < 4 || fields[3] != established {
			continue
		}
		local, remote := portOf(fields[1]), portOf(fields[2])
		if ports[remote] && (strings.HasSuffix(t.http, fmt.Sprintf(":%d", local)) || strings.HasSuffix(t.https, fmt.Sprintf(":%d", local))) {
			n++
		}
	}
	return n
}

// portOf returns the port of an address in /proc/net/tcp.
func portOf(address string) uint64 {
	_, port, _ := strings.Cut(address, ":")
	n, _ := strconv.ParseUint(port, 16, 16)
	return n
}
