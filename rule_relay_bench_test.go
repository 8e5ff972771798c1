package caddysse_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkRelayedEvent measures the time from the backend's write of an event of
// 100 bytes to the last of its readers, through relay and, in the same site, through
// reverse_proxy alone: one op is one event at all readers. With relay, the readers
// share one response of the backend; with reverse_proxy, each has its own.
func BenchmarkRelayedEvent(b *testing.B) {
	for _, readers := range []int{1, 100} {
		for _, path := range []string{"/proxy", "/relay"} {
			b.Run(fmt.Sprintf("readers=%d%s", readers, path), func(b *testing.B) { benchmarkRelay(b, path, readers) })
		}
	}
}

func benchmarkRelay(b *testing.B, path string, readers int) {
	var mu sync.Mutex
	var responses []http.ResponseWriter
	address := startBackend(b, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		mu.Lock()
		responses = append(responses, w)
		mu.Unlock()
		_ = http.NewResponseController(w).Flush() // now the readers begin
		<-r.Context().Done()
	})
	s := startSite(b, "", "sse /relay {\n relay {\n share\n }\n }\n reverse_proxy "+address)
	received := make(chan struct{}, readers)
	ctx, cancel := context.WithCancel(context.Background())
	b.Cleanup(cancel)
	for range readers {
		resp, err := s.send(ctx, "HTTP/1.1", http.MethodGet, path, "", "Accept", "text/event-stream")
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { resp.Body.Close() })
		go func() {
			for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
				if len(lines.Bytes()) > 90 {
					received <- struct{}{}
				}
			}
		}()
	}
	event := fmt.Appendf(nil, "data: %090d\n\n", 1)
	times := make([]time.Duration, 0, 1000)
	mu.Lock()
	defer mu.Unlock()
	b.ResetTimer()
	for b.Loop() {
		start := time.Now()
		for _, w := range responses {
			_, _ = w.Write(event)
			_ = http.NewResponseController(w).Flush()
		}
		for range readers {
			<-received
		}
		times = append(times, time.Since(start))
	}
	b.StopTimer()
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1000, "p50-µs")
	b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds())/1000, "p99-µs")
}
