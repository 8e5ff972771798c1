package caddysse_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/connection"
)

// churnStreams is the environment variable with the number of streams, if it is
// to be more than CI has time for. go run ./bench -run churn uses 100,000.
const churnStreams = "CADDY_SSE_CHURN"

// untilNoticed is how long Caddy may need to notice the last client that has fallen
// silent over HTTP/3. quic-go waits for three probe timeouts if these are longer than
// the idle timeout, and once more after a heartbeat: on a machine that is so busy
// that round trips take seconds, half a minute.
const untilNoticed = 2 * time.Minute

// Streams open and close over connections of their own. Some connections are
// reset or fall silent.
func TestOpeningAndClosingStreamsLeaksNothing(t *testing.T) {
	total := int64(2000)
	if testing.Short() {
		total = 300
	}
	if more := os.Getenv(churnStreams); more != "" {
		var err error
		if total, err = strconv.ParseInt(more, 10, 64); err != nil {
			t.Fatalf("%s: %v", churnStreams, err)
		}
	}
	hub := newHubName()
	backend := startBackend(t, newDocument(`1`).ServeHTTP)
	// golang.org/x/net/http2 and quic-go start a connection's idle timer when its
	// last stream ends, even if the connection has ended, and keep it until then:
	// 5m by default.
	s := watchedSite(t, "servers {\n timeouts {\n idle 5s\n }\n }\n sse "+hub, fmt.Sprintf(`
	sse /events {
		topic news
		hub %[1]s
	}
	sse /document {
		poll 1s {
			linger 10ms
		}
		hub %[1]s
	}
	reverse_proxy %[2]s`, hub, backend))
	s.openAndClose(30) // now all that is allocated once exists
	s.waitUntilEmpty(hub)
	before, heapBefore := stableGoroutines(), heap()

	s.openAndClose(total)

	s.waitUntilEmpty(hub)
	goroutines, bytes := before+int(total/100), heapBefore+512<<10+512*uint64(total)
	for deadline := time.Now().Add(untilNoticed); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if runtime.NumGoroutine() <= goroutines && heap() <= bytes {
			return
		}
	}
	var stacks strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
	t.Errorf("before there were %d goroutines and %d bytes in use, now %d and %d:\n%s", before, heapBefore, runtime.NumGoroutine(), heap(), stacks.String())
}

// openAndClose opens and closes this many streams.
func (s *site) openAndClose(streams int64) {
	var left atomic.Int64
	left.Store(streams)
	var visitors sync.WaitGroup
	for i := range 30 {
		visitors.Go(func() {
			for n := left.Add(-1); n >= 0 && !s.t.Failed(); n = left.Add(-1) {
				s.visit(protocols[i%len(protocols)], []string{"/events", "/document"}[n%2], n%3 == 0)
			}
		})
	}
	visitors.Wait()
}

// visit opens a stream on a connection of its own, reads its first line, and
// closes it, resets it or abandons it.
func (s *site) visit(protocol, path string, rudely bool) {
	conn, err := connect(protocol)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(protocol, path), nil)
	if err != nil {
		s.t.Error(err)
		return
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := conn.Client.Do(req)
	if err != nil {
		s.t.Errorf("%s %s: %v", protocol, path, err)
		return
	}
	defer resp.Body.Close()
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); !strings.HasPrefix(line, "retry: ") {
		s.t.Errorf("%s %s: got %s and %q: %v", protocol, path, resp.Status, line, err)
	}
	if rudely {
		conn.Break()
	} else if rand.IntN(2) == 0 {
		resp.Body.Close() // the stream ends before its connection
	}
}

// connect opens a connection that Caddy drops 3 s after it has fallen silent.
func connect(protocol string) (*connection.Connection, error) {
	switch protocol {
	case "HTTP/1.1":
		return connection.TCP((*http.Protocols).SetHTTP1), nil
	case "HTTP/2.0":
		return connection.TCP((*http.Protocols).SetHTTP2), nil
	default:
		return connection.QUIC(3 * time.Second)
	}
}

// waitUntilEmpty waits until the admin API shows no streams, topics and views of
// a hub.
func (s *site) waitUntilEmpty(hub string) {
	s.t.Helper()
	var left string
	for deadline := time.Now().Add(untilNoticed); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if left = s.left(hub); left == "" {
			return
		}
	}
	_, streams := s.requestAdmin("GET", "/sse/streams")
	var stacks strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
	s.t.Fatalf("all have left, and there are %s: %s\n%s", left, streams, stacks.String())
}

func (s *site) left(hub string) string {
	var list struct {
		Hubs []struct {
			Hub               string
			Topics, Followers int
		}
		Total int // of views
	}
	_, hubs := s.requestAdmin("GET", "/sse/hubs")
	_, views := s.requestAdmin("GET", "/sse/views?hub="+hub)
	for _, body := range []string{hubs, views} {
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			s.t.Fatal(err)
		}
	}
	for _, h := range list.Hubs {
		if h.Hub == hub && h.Topics+h.Followers+list.Total > 0 {
			return fmt.Sprintf("%d topics, %d followers, %d views", h.Topics, h.Followers, list.Total)
		}
	}
	return ""
}

// stableGoroutines returns the number of goroutines when none has ended for a
// while.
func stableGoroutines() int {
	count := runtime.NumGoroutine()
	for since := time.Now(); time.Since(since) < 500*time.Millisecond; time.Sleep(10 * time.Millisecond) {
		if n := runtime.NumGoroutine(); n < count {
			count, since = n, time.Now()
		}
	}
	return count
}

// heap returns the bytes in use after a full collection.
func heap() uint64 {
	runtime.GC()
	runtime.GC() // the first runs finalizers and empties pools
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
