package forward_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/upstream/forward"
)

// BenchmarkPendingDeliveries measures the cost of one delivery when an app is back
// after a long outage.
func BenchmarkPendingDeliveries(b *testing.B) {
	for _, pending := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint("pending=", pending), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				forwardAll(b, pending)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*pending), "ns/delivery")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// forwardAll publishes that many deliveries, and measures the time to forward them.
func forwardAll(b *testing.B, pending int) {
	b.Helper()
	kept := store.History{MaxEvents: 3 * pending, MaxAge: time.Hour}
	h := hub.New(store.NewMemory(), kept)
	defer func() { _ = h.Close() }()
	for i := range pending {
		message, err := forward.Message(forward.QueueOf(h, "rule"), &forward.Request{Method: "POST", URI: []byte("/hook"), Body: fmt.Append(nil, i)})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := h.PublishAll([]hub.Message{message}, hub.IdempotencyKey{}); err != nil {
			b.Fatal(err)
		}
	}
	var taken atomic.Int64
	all := make(chan struct{})
	f := forward.New(h, forward.Options{
		Queue: forward.QueueOf(h, "rule"), For: time.Hour, History: kept, Log: zap.NewNop(),
		Send: func(context.Context, *forward.Request) (forward.Response, error) {
			if taken.Add(1) == int64(pending) {
				close(all)
			}
			return status(200)
		},
	})
	b.StartTimer()
	go f.Run(nil)
	<-all
	b.StopTimer()
	f.Stop(time.Second, true)
}
