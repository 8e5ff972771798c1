package stream_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// The cost of one event for one more multiplexed stream with ten URLs: its envelope is
// encoded already.
func BenchmarkEventOfMultiplexedStream(b *testing.B) {
	h := newHub(b, store.History{})
	for _, size := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("%d bytes", size), func(b *testing.B) {
			parts := make([]stream.Part, 10)
			for i := range parts {
				parts[i] = partOf(h, fmt.Sprintf("/v1/items/%d", i), fmt.Sprintf("\x00poll/%024d", i))
			}
			m := stream.Multiplex(h, parts, "", new(stream.Envelopes))
			defer m.Close()
			e := publish(b, h, `"`+strings.Repeat("x", size)+`"`, fmt.Sprintf("\x00poll/%024d", 7))
			split := m.Source().Split
			b.ReportAllocs()
			for b.Loop() {
				if len(split(e)) != 2 {
					b.Fatal("the event is not sent")
				}
			}
		})
	}
}
