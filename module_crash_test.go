package caddysse_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	caddysse "github.com/caddy-sse/caddy-sse"
)

// crashConfig is the environment variable with the configuration that this
// binary runs instead of its tests, until it is killed or told to exit.
const crashConfig = "CADDY_SSE_CRASH_CONFIG"

// crashWriteTimeout is the environment variable with the limit of one write to
// a client, if it isn't the default.
const crashWriteTimeout = "CADDY_SSE_CRASH_WRITE_TIMEOUT"

// runUntilKilled runs Caddy. It reads lines from standard input, each a
// configuration to load or empty, and responds to each with a processStatus.
func runUntilKilled(path string) int {
	if d, err := time.ParseDuration(os.Getenv(crashWriteTimeout)); err == nil {
		*caddysse.WriteTimeout = d
	}
	caddy.TrapSignals()
	if err := loadFile(path); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("up")
	answers := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var s processStatus
		if path := lines.Text(); path != "" {
			s.Error = fmt.Sprint(loadFile(path))
		}
		s.read()
		if err := answers.Encode(s); err != nil {
			break
		}
	}
	return 1 // the test has ended
}

func loadFile(path string) error {
	config, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

// processStatus is the status of a Caddy in a process of its own.
type processStatus struct {
	Error      string // of the load
	Heap       uint64 // in use after a collection
	Goroutines int
}

func (s *processStatus) read() {
	runtime.GC()
	runtime.GC() // the first runs finalizers and empties pools
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	s.Heap, s.Goroutines = stats.HeapAlloc, runtime.NumGoroutine()
}

// childCaddy is a Caddy in a process of its own, which a test can kill.
type childCaddy struct {
	*site
	config string
	child  *exec.Cmd
	stdin  io.WriteCloser // the process ends when this closes
	stdout *bufio.Scanner
}

func startMortal(t *testing.T, global, directives string) *childCaddy {
	t.Helper()
	s := &site{t: t, http: freePort(t), https: freePort(t), admin: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	s = s.withClients()
	m := &childCaddy{site: s, config: filepath.Join(t.TempDir(), "caddy.json")}
	m.write(global, directives)
	m.start()
	t.Cleanup(m.kill)
	return m
}

// write sets the configuration with which the process starts.
func (m *childCaddy) write(global, directives string) {
	m.t.Helper()
	config, err := adapt(m.caddyfile(global, directives))
	if err == nil {
		err = os.WriteFile(m.config, config, 0o600)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *childCaddy) start() {
	m.t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), crashConfig+"="+m.config)
	in, inErr := child.StdinPipe()
	out, err := child.StdoutPipe()
	if err = errors.Join(inErr, err); err == nil {
		err = child.Start()
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.child, m.stdin, m.stdout = child, in, bufio.NewScanner(out)
	if !m.stdout.Scan() || m.stdout.Text() != "up" {
		m.t.Fatalf("Caddy does not start: %s", m.stdout.Text())
	}
}

func (m *childCaddy) kill() {
	_ = m.child.Process.Kill()
	_ = m.child.Wait() // closes the pipes, too
}

// load makes the process load the configuration at a path, if there is one.
func (m *childCaddy) load(path string) (s processStatus) {
	m.t.Helper()
	if _, err := fmt.Fprintln(m.stdin, path); err != nil {
		m.t.Fatal(err)
	}
	if !m.stdout.Scan() {
		m.t.Fatalf("Caddy has ended: %v", m.stdout.Err())
	}
	if err := json.Unmarshal(m.stdout.Bytes(), &s); err != nil {
		m.t.Fatal(err)
	}
	return s
}

func (m *childCaddy) reload(global, directives string) {
	m.t.Helper()
	m.write(global, directives)
	if s := m.load(m.config); s.Error != "<nil>" {
		m.t.Fatalf("loading: %s", s.Error)
	}
}

// rss returns the process's resident memory in bytes; 0 on other systems than
// Linux.
func (m *childCaddy) rss() int64 {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", m.child.Process.Pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// cpu returns the process's CPU time; 0 on other systems than Linux.
func (m *childCaddy) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.child.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third on
	user, _ := strconv.ParseInt(fields[14-3], 10, 64)
	system, _ := strconv.ParseInt(fields[15-3], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// publishUntilAcknowledged repeats a webhook until it is acknowledged.
func (m *childCaddy) publishUntilAcknowledged(ctx context.Context, data string) (id string) {
	for ctx.Err() == nil {
		resp, err := m.send(ctx, "HTTP/1.1", "POST", "/hooks/news?id=d"+data, data)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusAccepted {
				return "d" + data
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	m.t.Errorf("event %s could not be delivered", data)
	return ""
}

// collectUntilDone reads like a client that always reconnects.
func (m *childCaddy) collectUntilDone(ctx context.Context, protocol, position string) (got []string) {
	for ctx.Err() == nil {
		c, err := m.tryOpen(protocol, "/events/news", "Last-Event-ID", position)
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		for e := range c.events {
			if e.Name != "" {
				m.t.Errorf("after %s: event %s with %s", position, e.Name, e.Data)
				return got
			}
			position = e.ID
			if got = append(got, string(e.Data)); string(e.Data) == lastEvent {
				c.close()
				return got
			}
		}
		c.close()
	}
	return got
}

// Each acknowledged event reaches each client once and in order, whenever Caddy
// is killed.
func TestRepeatedKillsLoseNoAcknowledgedEvent(t *testing.T) {
	kills, clients := 5, 10
	if testing.Short() {
		kills, clients = 2, 4
	}
	dir := filepath.Join(t.TempDir(), "sse")
	m := startMortal(t, "sse {\n store file "+dir+"\n history 1000000 24h 1GiB\n }", fmt.Sprintf(pubsub, ""))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	position := m.publishUntilAcknowledged(ctx, "start")

	stop := make(chan struct{})
	var published []string
	results := make([][]string, clients)
	var publishing, reading sync.WaitGroup
	publishing.Go(func() { published = m.publishNumbersUntil(ctx, stop) })
	for i := range results {
		protocol := protocols[i%2]
		reading.Go(func() { results[i] = m.collectUntilDone(ctx, protocol, position) })
	}
	for range kills {
		time.Sleep(time.Duration(100+rand.IntN(400)) * time.Millisecond) // at a random time
		m.kill()
		m.start()
	}
	close(stop)
	publishing.Wait()
	reading.Wait()
	for i, got := range results {
		if !slices.Equal(got, published) {
			t.Errorf("client %d has %d events of %d, or not in order", i, len(got), len(published))
		}
	}
	t.Logf("%d events, %d clients, %d kills", len(published), clients, kills)
}

// publishNumbersUntil publishes numbers until stop closes, and then the last event.
func (m *childCaddy) publishNumbersUntil(ctx context.Context, stop <-chan struct{}) (published []string) {
	for n := 0; ctx.Err() == nil; n++ {
		data := strconv.Itoa(n)
		select {
		case <-stop:
			data = lastEvent
		default:
		}
		m.publishUntilAcknowledged(ctx, data)
		if published = append(published, data); data == lastEvent {
			break
		}
	}
	return published
}

// delivery is a webhook that a sender sends one to three times.
type delivery struct {
	number int
	times  int
	acked  bool
	ids    map[string]bool // of the responses
}

// persistent reports whether the sender repeats the delivery until it is
// acknowledged.
func (d *delivery) persistent() bool { return d.number%2 == 1 }

// Senders repeat deliveries or give up while Caddy is killed. Each acknowledged
// delivery is published once, and all responses to it are equal.
func TestTenThousandDeliveriesArePublishedOnceDespiteKills(t *testing.T) {
	total, senders, kills := 10_000, 50, 3
	if testing.Short() {
		total, kills = 1_000, 1
	}
	dir := filepath.Join(t.TempDir(), "sse")
	m := startMortal(t, "sse {\n store file "+dir+"\n history 1000000 24h 1GiB\n }", fmt.Sprintf(pubsub, ""))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	position := m.publishUntilAcknowledged(ctx, "start")

	deliveries := make([]*delivery, total)
	work := make(chan *delivery, 3*total)
	for i := range deliveries {
		deliveries[i] = &delivery{number: i, times: 1 + rand.IntN(3), ids: make(map[string]bool)}
	}
	for round := range 3 { // so that several senders send the same delivery at once
		for _, d := range deliveries {
			if round < d.times {
				work <- d
			}
		}
	}
	close(work)
	var mu sync.Mutex
	var sent atomic.Int64
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			for d := range work {
				m.tryDelivery(ctx, d, &mu)
				sent.Add(1)
			}
		})
	}
	for i := range kills {
		for sent.Load() < int64((i+1)*total/(kills+1)) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		m.kill()
		m.start()
	}
	sending.Wait()
	m.publishUntilAcknowledged(ctx, lastEvent)

	times := make(map[string]int)
	for _, data := range m.collectUntilDone(ctx, "HTTP/2.0", position) {
		times[data]++
	}
	acked := 0
	for _, d := range deliveries {
		n := times[strconv.Itoa(d.number)]
		if d.acked {
			acked++
		}
		if n > 1 || d.acked && n == 0 || len(d.ids) > 1 || d.persistent() && !d.acked {
			t.Errorf("delivery %d: acknowledged %t, %d times in the log, answered with %v", d.number, d.acked, n, d.ids)
		}
	}
	t.Logf("%d deliveries sent %d times, %d acknowledged, %d kills", total, sent.Load(), acked, kills)
}

// tryDelivery sends a delivery once or, if its sender is persistent, until it is
// acknowledged.
func (m *childCaddy) tryDelivery(ctx context.Context, d *delivery, mu *sync.Mutex) {
	data := strconv.Itoa(d.number)
	for ctx.Err() == nil {
		resp, err := m.send(ctx, "HTTP/1.1", "POST", "/hooks/news?id=n"+data, data)
		if err == nil {
			body, readErr := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode == http.StatusAccepted && readErr == nil {
				mu.Lock()
				defer mu.Unlock()
				d.acked, d.ids[string(body)] = true, true
				return
			}
		}
		if !d.persistent() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
