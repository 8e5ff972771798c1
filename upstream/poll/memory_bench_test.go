package poll_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// shapes write documents of a size, in which value makes a difference: in one
// place in a list of orders, and everywhere in those that are hard to compare.
var shapes = []struct {
	name, open, item, end string
	everywhere            bool
}{
	{"orders", "[", `{"id":#,"status":"shipped","customer":{"name":"Müller","city":"Köln"},"price":@.90,"tags":["new","sale"],"note":null}`, "]", false},
	{"digits", "[", "@", "]", true},
	{"lists", "[", "[@]", "]", true},
	{"members", "{", `"#":@`, "}", true},
	{"objects", "[", `{"id":#,"a":@}`, "]", true},
	{"line breaks", "", "@\n", "", true},
}

// shaped returns a document of a size, with indentation if it is to be spaced.
func shaped(shape, size, value int) []byte {
	s := shapes[shape]
	doc := make([]byte, 0, size)
	doc = append(doc, s.open...)
	for i := 0; len(doc) < size-len(s.item)-8; i++ {
		if i > 0 && s.open != "" {
			doc = append(doc, ',')
		}
		v := 1
		if s.everywhere || i == 3 {
			v = value%9 + 1
		}
		for _, c := range []byte(s.item) {
			switch c {
			case '#':
				doc = fmt.Append(doc, i)
			case '@':
				doc = fmt.Append(doc, v)
			default:
				doc = append(doc, c)
			}
		}
	}
	return append(doc, s.end...)
}

// BenchmarkDocumentMemory measures what one view of a large document takes, in
// multiples of the document: at rest, with one viewer and without the history
// of the hub, and at the peak of a poll that finds a change, with what the
// garbage collector has not collected yet; and the CPU time of such a poll, all
// events included.
func BenchmarkDocumentMemory(b *testing.B) {
	modes := []struct {
		name string
		poll.Config
	}{
		{"full", poll.Config{}},
		{"full, absorb", poll.Config{Absorb: true}},
		{"patch", poll.Config{Send: "patch"}},
		{"merge", poll.Config{Send: "merge"}},
		{"items", poll.Config{Send: "items", SendArgument: "id"}},
		{"jq", poll.Config{Send: "jq", SendArgument: `{data: [(.old|length), (.new|length)]}`}},
		{"select", poll.Config{Select: "."}},
		{"until", poll.Config{Until: "false"}},
	}
	for _, mode := range modes {
		for shape := range shapes {
			for _, size := range []int{1 << 20, 10 << 20} {
				b.Run(fmt.Sprintf("%s/%s/%dMiB", mode.name, shapes[shape].name, size>>20), func(b *testing.B) {
					benchmarkMemory(b, mode.Config, shape, size)
				})
			}
		}
	}
}

func benchmarkMemory(b *testing.B, c poll.Config, shape, size int) {
	c.Interval = caddy.Duration(time.Hour)
	docs := [2][]byte{shaped(shape, size, 1), shaped(shape, size, 2)}
	before := heapAfterGC()
	e := newEnv(b, c, store.NewMemory())
	e.hub.SetHistory(store.History{MaxEvents: 1})
	var polls int
	e.setFunc(func(*http.Request) (*subrequest.Response, error) {
		polls++
		return &subrequest.Response{Status: http.StatusOK, Header: make(http.Header), Body: bytes.Clone(docs[polls%2])}, nil
	})
	ctx, cancel := context.WithCancel(context.Background())
	received := make(chan struct{}, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		drain(ctx, b, e, received)
	}()
	<-received
	peak, rest, cpu := uint64(0), uint64(0), userSeconds()
	for b.Loop() {
		runtime.GC()
		stop := sampleHeap(&peak)
		time.Sleep(30 * time.Millisecond) // a write's debounce
		e.Invalidate("example.com", "/v1/doc")
		<-received
		time.Sleep(30 * time.Millisecond) // let the last of many events follow
		stop()
		for len(received) > 0 {
			<-received
		}
	}
	rest = heapAfterGC() - before
	cpu = userSeconds() - cpu
	cancel()
	<-done
	e.Retire()
	_ = e.hub.Close()
	b.ReportMetric(cpu*1000/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(rest)/float64(size), "rest-x")
	b.ReportMetric(float64(peak-min(peak, before))/float64(size), "peak-x")
}

// userSeconds returns the CPU time of the module's code and the backend's copy,
// without the garbage collector's, as of the last collection.
func userSeconds() float64 {
	sample := []metrics.Sample{{Name: "/cpu/classes/user:cpu-seconds"}}
	metrics.Read(sample)
	return sample[0].Value.Float64()
}

// drain reads a viewer's events and keeps none.
func drain(ctx context.Context, b *testing.B, e *env, received chan<- struct{}) {
	viewing, _, err := e.Subscribe(newRequest("/v1/doc").WithContext(ctx), &caller{backend: e.backend})
	if err != nil {
		b.Error(err)
		close(received)
		return
	}
	defer viewing.Close()
	src := viewing.Source("")
	defer src.Cursor.Close()
	for _, entry := range src.Initial {
		_, _ = io.Copy(io.Discard, bytes.NewReader(entry.Frame))
	}
	src.Initial = nil
	received <- struct{}{}
	for {
		select {
		case <-src.Cursor.Ready():
		case <-ctx.Done():
			return
		}
		for more := true; more; more = !src.Cursor.CaughtUp() {
			if _, err := src.Cursor.Next(1<<20, nil); err != nil {
				src.Cursor.Close()
				src = viewing.Source("")
				src.Initial = nil
			}
		}
		select {
		case received <- struct{}{}:
		default:
		}
	}
}

func heapAfterGC() uint64 {
	runtime.GC()
	runtime.GC()
	return heapBytes()
}

func heapBytes() uint64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// sampleHeap records the largest heap until it is stopped.
func sampleHeap(peak *uint64) (stop func()) {
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			*peak = max(*peak, heapBytes())
			select {
			case <-end:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	return func() { close(end); <-done }
}
