package caddysse_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkFanOut publishes through a webhook rule and waits until every
// stream has the event: one op is one event at all of them. p50-ms and p99-ms
// are the times from the POST to the last stream.
func BenchmarkFanOut(b *testing.B) {
	for _, protocol := range protocols {
		for _, streams := range []int{1, 100, 1000} {
			if protocol == "HTTP/3.0" && streams > 100 {
				continue // Caddy's limit for one connection
			}
			b.Run(fmt.Sprintf("%s/streams=%d", protocol, streams), func(b *testing.B) {
				s := startSite(b, "", fmt.Sprintf(pubsub, ""))
				var received atomic.Int64
				arrived := make(chan struct{}, 1)
				for range streams {
					s.count(b, protocol, "/events/bench", &received, int64(streams), arrived)
				}
				var times []time.Duration
				b.ResetTimer()
				for b.Loop() {
					start := time.Now()
					s.publish("bench", `{"price":"12.50"}`)
					<-arrived
					times = append(times, time.Since(start))
				}
				b.StopTimer()
				slices.Sort(times)
				b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
				b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*streams), "ns/delivery")
			})
		}
	}
}

// count opens a stream and counts its events without parsing them, which would
// dominate the measurement. It signals arrived whenever all streams have
// received one more.
func (s *site) count(b *testing.B, protocol, path string, received *atomic.Int64, streams int64, arrived chan<- struct{}) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	resp, err := s.send(ctx, protocol, http.MethodGet, path, "")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cancel(); resp.Body.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := resp.Body.Read(buf)
			for range bytes.Count(buf[:n], []byte("\n\n")) {
				if received.Add(1)%streams == 0 {
					arrived <- struct{}{}
				}
			}
			if err != nil {
				return
			}
		}
	}()
}

// BenchmarkWebhook is one signed POST, accepted and stored.
func BenchmarkWebhook(b *testing.B) {
	s := startSite(b, "", senders)
	body := `{"kind":"paid","order":{"id":1}}`
	header := fromShop(body)
	for b.Loop() {
		resp, err := s.send(b.Context(), "HTTP/1.1", "POST", "/hooks/shop", body, header...)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			b.Fatal(resp.Status)
		}
	}
}
