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

// crashConfig names the configuration that this binary runs, instead of its
// tests, until it is killed or told to exit.
const crashConfig = "CADDY_SSE_CRASH_CONFIG"

// crashWriteTimeout is how long its clients may block a write, if it isn't the
// default.
const crashWriteTimeout = "CADDY_SSE_CRASH_WRITE_TIMEOUT"

// runUntilKilled is Caddy. Each line of its standard input is a configuration
// to load, or empty, and is answered with a status.
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

// processStatus is what a Caddy in a process of its own says of itself.
type processStatus struct {
	Error      string // of the load
	Heap       uint64 // what is in use after a collection
	Goroutines int
}

func (s *processStatus) read() {
	runtime.GC()
	runtime.GC() // what finalizers and pools have held until the first
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	s.Heap, s.Goroutines = stats.HeapAlloc, runtime.NumGoroutine()
}

// mortal is a Caddy in a process of its own, which can be killed.
type mortal struct {
	*site
	config string
	child  *exec.Cmd
	stdin  io.WriteCloser // held on to: the process ends with it
	stdout *bufio.Scanner
}

func startMortal(t *testing.T, global, directives string) *mortal {
	t.Helper()
	s := &site{t: t, http: freePort(t), https: freePort(t), admin: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	s = s.withClients()
	m := &mortal{site: s, config: filepath.Join(t.TempDir(), "caddy.json")}
	m.write(global, directives)
	m.start()
	t.Cleanup(m.kill)
	return m
}

// write makes a configuration the one that the process starts with.
func (m *mortal) write(global, directives string) {
	m.t.Helper()
	config, err := adapt(m.caddyfile(global, directives))
	if err == nil {
		err = os.WriteFile(m.config, config, 0o600)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *mortal) start() {
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

func (m *mortal) kill() {
	_ = m.child.Process.Kill()
	_ = m.child.Wait() // which closes what it was read and written by
}

// tell has the process load a configuration, if there is a path.
func (m *mortal) tell(path string) (s processStatus) {
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

func (m *mortal) reload(global, directives string) {
	m.t.Helper()
	m.write(global, directives)
	if s := m.tell(m.config); s.Error != "<nil>" {
		m.t.Fatalf("loading: %s", s.Error)
	}
}

// rss is what Linux counts as the process's memory, in bytes; 0 where that
// isn't told.
func (m *mortal) rss() int64 {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", m.child.Process.Pid))
	if err != nil {
		return 0
	}
	pages, _ := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// cpu is how long the process has kept a CPU busy; 0 where that isn't told.
func (m *mortal) cpu() time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.child.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // the third, and so on
	user, _ := strconv.ParseInt(fields[14-3], 10, 64)
	system, _ := strconv.ParseInt(fields[15-3], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// deliverAtLast posts an event as a sender does who never gives up.
func (m *mortal) deliverAtLast(ctx context.Context, data string) (id string) {
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

// collectAtLast reads as a client does who never gives up.
func (m *mortal) collectAtLast(ctx context.Context, protocol, position string) (got []string) {
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

// Every event that was acknowledged reaches every client once and in order,
// whenever Caddy is killed.
func TestRepeatedKillsLoseNoAcknowledgedEvent(t *testing.T) {
	kills, clients := 5, 10
	if testing.Short() {
		kills, clients = 2, 4
	}
	dir := filepath.Join(t.TempDir(), "sse")
	m := startMortal(t, "sse {\n store file "+dir+"\n history 1000000 24h 1GiB\n }", fmt.Sprintf(pubsub, ""))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	position := m.deliverAtLast(ctx, "start")

	stop := make(chan struct{})
	var published []string
	results := make([][]string, clients)
	var publishing, reading sync.WaitGroup
	publishing.Go(func() { published = m.deliverUntil(ctx, stop) })
	for i := range results {
		protocol := protocols[i%2]
		reading.Go(func() { results[i] = m.collectAtLast(ctx, protocol, position) })
	}
	for range kills {
		time.Sleep(time.Duration(100+rand.IntN(400)) * time.Millisecond) // at any moment
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

// deliverUntil publishes numbers until stop is closed, and then the last event.
func (m *mortal) deliverUntil(ctx context.Context, stop <-chan struct{}) (published []string) {
	for n := 0; ctx.Err() == nil; n++ {
		data := strconv.Itoa(n)
		select {
		case <-stop:
			data = lastEvent
		default:
		}
		m.deliverAtLast(ctx, data)
		if published = append(published, data); data == lastEvent {
			break
		}
	}
	return published
}

// delivery is one that a sender must get through, from one to three times.
type delivery struct {
	number int
	times  int
	acked  bool
	ids    map[string]bool // what it was answered
}

// persistent tells whether the sender doesn't give up.
func (d *delivery) persistent() bool { return d.number%2 == 1 }

// Senders repeat themselves, give up or don't, and Caddy is killed: what was
// acknowledged is there, nothing is there twice, and the same delivery is
// always answered alike.
func TestTenThousandDeliveriesArePublishedOnceDespiteKills(t *testing.T) {
	total, senders, kills := 10_000, 50, 3
	if testing.Short() {
		total, kills = 1_000, 1
	}
	dir := filepath.Join(t.TempDir(), "sse")
	m := startMortal(t, "sse {\n store file "+dir+"\n history 1000000 24h 1GiB\n }", fmt.Sprintf(pubsub, ""))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	position := m.deliverAtLast(ctx, "start")

	deliveries := make([]*delivery, total)
	work := make(chan *delivery, 3*total)
	for i := range deliveries {
		deliveries[i] = &delivery{number: i, times: 1 + rand.IntN(3), ids: make(map[string]bool)}
	}
	for round := range 3 { // so that the same one comes from several senders at once
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
	m.deliverAtLast(ctx, lastEvent)

	times := make(map[string]int)
	for _, data := range m.collectAtLast(ctx, "HTTP/2.0", position) {
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

// tryDelivery sends a delivery once, or until it is acknowledged if it is one
// whose sender doesn't give up.
func (m *mortal) tryDelivery(ctx context.Context, d *delivery, mu *sync.Mutex) {
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
