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

// What a delivery costs when an app is back that was down for long: the time is
// that of one of those that were left.
func BenchmarkDeliveriesThatWereLeft(b *testing.B) {
	for _, left := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint("left=", left), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				deliverAll(b, left)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*left), "ns/delivery")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// deliverAll has that many left, and times their delivery.
func deliverAll(b *testing.B, left int) {
	b.Helper()
	kept := store.History{MaxEvents: 3 * left, MaxAge: time.Hour}
	h := hub.New(store.NewMemory(), kept)
	defer func() { _ = h.Close() }()
	for i := range left {
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
			if taken.Add(1) == int64(left) {
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
