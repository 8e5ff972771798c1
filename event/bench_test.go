package event_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/event/eventtest"
)

var benchmarks = []struct {
	name string
	data string
}{
	{"100B", strings.Repeat("x", 100)},
	{"10KiB", strings.Repeat(`{"a":"b"},`, 1024)},
	{"10KiB-indented", strings.Repeat("  {\n    \"a\": \"b\"\n  },\n", 10<<10/22)},
	{"1MiB", strings.Repeat(`{"a":"b"},`, 100<<10)},
}

func BenchmarkEncode(b *testing.B) {
	for _, bench := range benchmarks {
		b.Run(bench.name, func(b *testing.B) {
			e := event.Event{ID: "AAAAAAAA-1234", Name: "added", Data: []byte(bench.data)}
			b.SetBytes(int64(len(bench.data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.Encode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, bench := range benchmarks {
		b.Run(bench.name, func(b *testing.B) {
			frame, err := event.Event{ID: "AAAAAAAA-1234", Name: "added", Data: []byte(bench.data)}.Encode()
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := eventtest.NewDecoder(bytes.NewReader(frame), 0).Next(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
