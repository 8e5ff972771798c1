package main

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(new(naive))
	httpcaddyfile.RegisterHandlerDirective("naive", func(httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		return new(naive), nil
	})
}

// naive is the handler that one writes first: a goroutine and a channel for each
// stream, an event or a heartbeat per Write and Flush. It shows the cost of Caddy
// and the protocol without the module. A POST publishes.
type naive struct {
	topic *naiveTopic
}

type naiveTopic struct {
	mu      sync.Mutex
	number  int
	streams map[chan []byte]struct{}
}

// naiveTopics is the topic of all naive handlers, so that a handler for HTTP
// publishes to streams over HTTPS.
var theNaiveTopic = &naiveTopic{streams: make(map[chan []byte]struct{})}

// CaddyModule returns the module's information.
func (*naive) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.naive", New: func() caddy.Module { return new(naive) }}
}

// Provision sets the topic.
func (n *naive) Provision(caddy.Context) error {
	n.topic = theNaiveTopic
	return nil
}

func (n *naive) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if r.Method == http.MethodPost {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return caddyhttp.Error(http.StatusBadRequest, err)
		}
		n.topic.publish(data)
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	events := n.topic.subscribe()
	defer n.topic.unsubscribe(events)
	w.Header().Set("Content-Type", "text/event-stream")
	heartbeat := time.NewTicker(15 * time.Second)
	defer heartbeat.Stop()
	for event := []byte("data: open\n\n"); ; {
		if _, err := w.Write(event); err != nil {
			return nil
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return nil
		}
		select {
		case event = <-events:
		case <-heartbeat.C:
			event = []byte("retry: 3000\n")
		case <-r.Context().Done():
			return nil
		}
	}
}

func (t *naiveTopic) subscribe() chan []byte {
	const pending = 64 // events; more are dropped
	events := make(chan []byte, pending)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.streams[events] = struct{}{}
	return events
}

func (t *naiveTopic) unsubscribe(events chan []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.streams, events)
}

func (t *naiveTopic) publish(data []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.number++
	event := fmt.Appendf(nil, "id: %d\ndata: %s\n\n", t.number, data)
	for events := range t.streams {
		select {
		case events <- event:
		default:
		}
	}
}
