package caddysse_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ownStreams is a backend that responds to each request with a stream of its own,
// and counts the requests.
type ownStreams struct {
	requests, open atomic.Int64
	bodies         sync.Map // of requests
}

func (b *ownStreams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := b.requests.Add(1)
	b.open.Add(1)
	defer b.open.Add(-1)
	body, _ := io.ReadAll(r.Body)
	b.bodies.Store(n, string(body))
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Own", "yes")
	w.Header().Add("Set-Cookie", "a=1")
	_, _ = fmt.Fprintf(w, "event: next\ndata: %s %s\n\n", body, r.Header.Get("Last-Event-ID"))
	_ = http.NewResponseController(w).Flush()
	for i := range 3 {
		select {
		case <-r.Context().Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
		_, _ = fmt.Fprintf(w, "event: next\ndata: %d\n\n", i)
		_ = http.NewResponseController(w).Flush()
	}
	if string(body) == "aborts" {
		panic(http.ErrAbortHandler)
	}
}

// The stream takes longer than the poll's timeout.
func TestPostThatIsAnsweredWithStreamReachesBackendOnce(t *testing.T) {
	backend := new(ownStreams)
	s := startSite(t, "", "sse {\n poll 200ms {\n method POST\n timeout 150ms\n }\n cors https://app.example.com\n }\n reverse_proxy "+startBackend(t, backend.ServeHTTP))
	for _, protocol := range protocols {
		before := backend.requests.Load()
		resp := s.doOver(protocol, "POST", "/graphql", "mutation", "Accept", "text/event-stream", "Content-Type", "application/json", "Last-Event-ID", "7")
		want := "event: next\ndata: mutation \n\nevent: next\ndata: 0\n\nevent: next\ndata: 1\n\nevent: next\ndata: 2\n\n"
		if resp.StatusCode != http.StatusOK || resp.body != want {
			t.Errorf("%s: %s, %q", protocol, resp.Status, resp.body)
		}
		if h := resp.Header; h.Get("X-Own") != "yes" || h.Get("Set-Cookie") != "a=1" || h.Get("Content-Type") != "text/event-stream" || h.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: %v", protocol, h)
		}
		if n := backend.requests.Load() - before; n != 1 {
			t.Errorf("%s: the backend got %d requests", protocol, n)
		}
	}
}

// Equal POSTs of several clients share a view, whose first poll repeats one of them.
func TestPostsThatAreAnsweredWithStreamsReachBackendOnceEach(t *testing.T) {
	for _, options := range []string{"", "share", "vary none"} {
		backend := new(ownStreams)
		s := startSite(t, "", "sse {\n poll 200ms {\n method POST\n "+options+"\n }\n }\n reverse_proxy "+startBackend(t, backend.ServeHTTP))
		var clients sync.WaitGroup
		for i := range 6 {
			clients.Go(func() {
				resp := s.doOver(protocols[i%3], "POST", "/graphql", "q", "Accept", "text/event-stream", "Cookie", fmt.Sprint("user=", i%2))
				if resp.StatusCode != http.StatusOK || len(resp.body) < 80 {
					t.Errorf("%s: %s, %q", options, resp.Status, resp.body)
				}
			})
		}
		clients.Wait()
		if n := backend.requests.Load(); n != 6 {
			t.Errorf("%q: the backend got %d requests of 6 clients", options, n)
		}
	}
}

func TestStreamThatIsPassedOnEndsWithItsClient(t *testing.T) {
	backend := new(ownStreams)
	s := startSite(t, "", "sse {\n poll 200ms {\n method POST\n }\n }\n reverse_proxy "+startBackend(t, backend.ServeHTTP))
	for _, protocol := range protocols {
		ctx, leave := context.WithCancel(t.Context())
		resp, err := s.send(ctx, protocol, "POST", "/graphql", "x", "Accept", "text/event-stream")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAtLeast(resp.Body, make([]byte, 100), 10); err != nil {
			t.Errorf("%s: %v", protocol, err)
		}
		leave()
		resp.Body.Close()
		for start := time.Now(); backend.open.Load() > 0; time.Sleep(5 * time.Millisecond) {
			if time.Since(start) > 10*time.Second {
				t.Fatalf("%s: the backend's request goes on", protocol)
			}
		}
	}
}

func TestStreamThatBreaksOffIsPassedOnAsBroken(t *testing.T) {
	backend := new(ownStreams)
	s := startSite(t, "", "sse {\n poll 200ms {\n method POST\n }\n }\n reverse_proxy "+startBackend(t, backend.ServeHTTP))
	for _, protocol := range protocols {
		resp, err := s.send(t.Context(), protocol, "POST", "/graphql", "aborts", "Accept", "text/event-stream")
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: the broken response ends well: %q", protocol, body)
		}
		resp.Body.Close()
	}
}

// A poll by GET leaves out what the client's own request may need.
func TestGetThatIsAnsweredWithStreamIsRepeatedOnlyIfPollsDiffer(t *testing.T) {
	backend := new(ownStreams)
	s := startSite(t, "", "sse {\n poll 200ms\n }\n reverse_proxy "+startBackend(t, backend.ServeHTTP))
	for name, c := range map[string]struct {
		path     string
		header   []string
		requests int64
	}{
		"a user's":              {"/own", []string{"Cookie", "user=1"}, 1},
		"nobody's":              {"/own", nil, 2}, // polls carry no address
		"a reconnection":        {"/own", []string{"Cookie", "user=1", "Last-Event-ID", "7"}, 2},
		"the same by the query": {"/own?last_event_id=7", []string{"Cookie", "user=1"}, 2},
		"another origin's":      {"/own", []string{"Cookie", "user=1", "Origin", "https://app.example.com"}, 2},
	} {
		for _, protocol := range protocols {
			before := backend.requests.Load()
			resp := s.doOver(protocol, "GET", c.path, "", append(c.header, "Accept", "text/event-stream")...)
			if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Own") != "yes" || len(resp.body) < 60 {
				t.Errorf("%s, %s: %s, %q", name, protocol, resp.Status, resp.body)
			}
			if n := backend.requests.Load() - before; n != c.requests {
				t.Errorf("%s, %s: the backend got %d requests, want %d", name, protocol, n, c.requests)
			}
		}
	}
}
