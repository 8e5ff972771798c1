package caddysse_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Clients leave at any moment from their request on: before the first poll, while
// the headers are written, and while the stream takes over its connection.
func TestClientsThatLeaveAsTheirStreamsOpenLeaveNothingBehind(t *testing.T) {
	hub := newHubName()
	backend := startBackend(t, newDocument(`1`).ServeHTTP)
	s := watchedSite(t, "sse "+hub, fmt.Sprintf(`
	sse /events {
		topic news
		hub %[1]s
	}
	sse /document* {
		poll 1s {
			linger 10ms
		}
		hub %[1]s
	}
	reverse_proxy %[2]s`, hub, backend))
	var visitors sync.WaitGroup
	for i := range 12 {
		visitors.Go(func() {
			conn, err := connect(protocols[i%len(protocols)])
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			s.get(conn.Client, protocols[i%len(protocols)], "/document", "", time.Minute) // so that no handshake is cancelled
			for n := range 100 {
				path := []string{"/events", "/document", fmt.Sprint("/document/", n)}[n%3]
				s.get(conn.Client, protocols[i%len(protocols)], path, "text/event-stream", time.Duration(rand.IntN(5000))*time.Microsecond)
			}
		})
	}
	visitors.Wait()
	s.waitUntilEmpty(hub)
}

// get makes a request, and leaves after a time.
func (s *site) get(client *http.Client, protocol, path, accept string, leaveAfter time.Duration) {
	ctx, cancel := context.WithTimeout(s.t.Context(), leaveAfter)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(protocol, path), nil)
	if err != nil {
		s.t.Error(err)
		return
	}
	req.Header.Set("Accept", accept)
	if resp, err := client.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}
