package stream_test

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

func ExampleServe() {
	h := hub.New(store.NewMemory(), store.History{})
	defer func() { _ = h.Close() }()
	group := new(stream.Group)
	options := &stream.Options{Heartbeat: stream.DefaultHeartbeat, Retry: stream.DefaultRetry}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		src := stream.Subscribe(h, []string{"news"}, stream.LastEventID(r))
		stream.Serve(w, r, src, group, options)
	}))
	defer server.Close()

	resp, err := server.Client().Get(server.URL) // returns once the stream is open
	if err != nil {
		panic(err)
	}
	defer func() { _ = resp.Body.Close() }()
	for _, headline := range []string{"first", "second"} {
		if _, _, err := h.Publish([]string{"news"}, event.Event{Name: "headline", Data: []byte(headline)}); err != nil {
			panic(err)
		}
	}
	group.End(0) // sends the backlog, then ends the stream

	fmt.Println(resp.Header.Get("Content-Type"))
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "event: ") || strings.HasPrefix(line, "data: ") {
			fmt.Println(line)
		}
	}
	// Output:
	// text/event-stream
	// event: headline
	// data: first
	// event: headline
	// data: second
}
