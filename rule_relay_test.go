package caddysse_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// streamer is a backend whose responses a test writes piece by piece.
type streamer struct {
	t        testing.TB
	address  string
	requests atomic.Int64
	streams  chan *backendStream
	kind     atomic.Value // the Content-Type
}

// backendStream is one response of a [streamer].
type backendStream struct {
	t       testing.TB
	request *http.Request
	body    string
	steps   chan func(http.ResponseWriter)
	left    chan struct{} // closed when the server has left
}

func startStreamer(t testing.TB, contentType string) *streamer {
	b := &streamer{t: t, streams: make(chan *backendStream, 100)}
	b.kind.Store(contentType)
	b.address = startBackend(t, b.serve)
	return b
}

func (b *streamer) serve(w http.ResponseWriter, r *http.Request) {
	b.requests.Add(1)
	body, _ := io.ReadAll(r.Body)
	s := &backendStream{t: b.t, request: r, body: string(body), steps: make(chan func(http.ResponseWriter)), left: make(chan struct{})}
	defer close(s.left)
	w.Header().Set("Content-Type", b.kind.Load().(string))
	w.Header().Set("X-Model", "m1")
	w.Header().Set("ETag", `"1"`)
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	b.streams <- s
	for {
		select {
		case step := <-s.steps:
			if step == nil {
				return
			}
			step(w)
		case <-r.Context().Done():
			return
		}
	}
}

// next returns the response to the next request.
func (b *streamer) next() *backendStream {
	b.t.Helper()
	select {
	case s := <-b.streams:
		return s
	case <-time.After(20 * time.Second):
		b.t.Fatal("the backend got no request within 20 s")
		panic("unreachable")
	}
}

func (s *backendStream) step(f func(http.ResponseWriter)) {
	s.t.Helper()
	select {
	case s.steps <- f:
	case <-s.left:
		s.t.Fatal("Caddy has left the backend's stream")
	case <-time.After(20 * time.Second):
		s.t.Fatal("the backend's stream takes nothing more")
	}
}

func (s *backendStream) write(format string, args ...any) {
	s.t.Helper()
	s.step(func(w http.ResponseWriter) {
		_, _ = fmt.Fprintf(w, format, args...)
		_ = http.NewResponseController(w).Flush()
	})
}

func (s *backendStream) end() { s.t.Helper(); s.step(nil) }

func (s *backendStream) abort() {
	s.t.Helper()
	s.step(func(http.ResponseWriter) { panic(http.ErrAbortHandler) })
}

// isLeft waits until the server has left the response.
func (s *backendStream) isLeft() {
	s.t.Helper()
	select {
	case <-s.left:
	case <-time.After(20 * time.Second):
		s.t.Fatal("Caddy has not left the backend's stream")
	}
}

func relayTo(b *streamer, options string) string {
	return "sse {\n relay {\n" + options + "\n}\n}\n reverse_proxy " + b.address
}

func TestEventsOfBackendsStreamAreRelayedAsTheyCome(t *testing.T) {
	b := startStreamer(t, "text/event-stream")
	s := startSite(t, "", relayTo(b, ""))
	for _, protocol := range protocols {
		c := s.open(protocol, "/live", "Last-Event-ID", "theirs")
		up := b.next()
		if got := up.request.Header.Get("Last-Event-ID"); got != "theirs" {
			t.Errorf("%s: the backend got the position %q", protocol, got)
		}
		up.write(": hello\n\nid: 7\nevent: error\ndata: a\n")
		up.write("\ndata: [DONE]\n\n")
		first := c.expect("error", "a")
		if e := c.expect("", "[DONE]"); !strings.HasPrefix(e.ID, "relay.") || !strings.HasSuffix(e.ID, ".2") || !strings.HasSuffix(first.ID, ".1") {
			t.Errorf("%s: ids %q and %q", protocol, first.ID, e.ID)
		}
		if h := c.resp.Header; h.Get("X-Model") != "m1" || h.Get("ETag") != "" || h.Get("Content-Type") != "text/event-stream" || h.Get("Vary") != "Accept" {
			t.Errorf("%s: %v", protocol, h)
		}
		c.close()
		up.end()
	}
}

func TestStreamsOfOtherFormatsBecomeEventsAndComplete(t *testing.T) {
	for name, c := range map[string]struct{ contentType, options, body, first, second string }{
		"ndjson":   {"application/x-ndjson", "", "{\"a\":1}\n{\"a\":2}\n", `{"a":1}`, `{"a":2}`},
		"array":    {"application/json", "", `[{"a": 1}, {"a": 2}]`, `{"a":1}`, `{"a":2}`},
		"json-seq": {"application/json-seq", "", "\x1e1\n\x1e2\n", "1", "2"},
		"lines":    {"text/plain", "", "one\ntwo\n", "one", "two"},
		"parts":    {"multipart/x-mixed-replace; boundary=b", "", "--b\r\n\r\n1\r\n--b\r\n\r\n2\r\n--b--", "1", "2"},
		"format":   {"application/octet-stream", "format ndjson", "1\n2", "1", "2"},
		"shaped":   {"application/json", "select `{a}`\nevent item-{json.a}\ncomplete `{total: .count, last: .last}`", `[{"a":1,"b":2},{"a":2}]`, `{"a":1}`, `{"a":2}`},
	} {
		b := startStreamer(t, c.contentType)
		s := startSite(t, "", relayTo(b, c.options))
		go func() { // an array begins with its first byte
			up := b.next()
			for _, piece := range strings.SplitAfter(c.body, "") {
				up.write("%s", piece)
			}
			up.end()
		}()
		client := s.open("HTTP/2.0", "/list")
		prefix, complete := "", "{}"
		if name == "shaped" {
			prefix, complete = "item-", `{"total":2,"last":{"a":2}}`
			client.expect(prefix+"1", c.first)
			client.expect(prefix+"2", c.second)
		} else {
			client.expect("", c.first)
			client.expect("", c.second)
		}
		last := client.expect("complete", complete)
		client.ended()
		if resp := s.doOver("HTTP/2.0", "GET", "/list", "", "Accept", "text/event-stream", "Last-Event-ID", last.ID); resp.StatusCode != http.StatusNoContent {
			t.Errorf("%s: a client that has all gets %s", name, resp.Status)
		}
		if n := b.requests.Load(); n != 1 {
			t.Errorf("%s: the backend got %d requests", name, n)
		}
	}
}

func TestResponseThatIsNoStreamPassesAsItComes(t *testing.T) {
	var kind atomic.Value
	proceed := make(chan struct{})
	address := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Own", "yes")
		w.Header().Add("Set-Cookie", "a=1")
		switch kind.Load() {
		case "refusal":
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusForbidden)
		case "object":
			w.Header().Set("Content-Type", "application/json")
		case "nothing":
			w.WriteHeader(http.StatusNoContent)
			return
		case "html":
			w.Header().Set("Content-Type", "text/html")
		case "compressed":
			w.Header().Set("Content-Type", "text/event-stream")
			w.Header().Set("Content-Encoding", "x-own")
		}
		_, _ = io.WriteString(w, `{"a":1`)
		_ = http.NewResponseController(w).Flush()
		if r.Header.Get("X-Slow") != "" {
			<-proceed
		}
		_, _ = io.WriteString(w, "}")
	})
	s := startSite(t, "", "sse {\n relay\n }\n reverse_proxy "+address)
	for _, protocol := range protocols {
		for name, status := range map[string]int{"refusal": 403, "object": 200, "nothing": 204, "html": 200, "compressed": 200} {
			kind.Store(name)
			for _, method := range []string{"GET", "POST"} {
				resp := s.doOver(protocol, method, "/x", "", "Accept", "text/event-stream")
				want := `{"a":1}`
				if name == "nothing" {
					want = ""
				}
				if resp.StatusCode != status || resp.body != want || resp.Header.Get("X-Own") != "yes" || resp.Header.Get("Set-Cookie") != "a=1" {
					t.Errorf("%s %s over %s: %s %q %v", method, name, protocol, resp.Status, resp.body, resp.Header)
				}
			}
		}
	}
	kind.Store("object")
	resp, err := s.send(t.Context(), "HTTP/1.1", "GET", "/x", "", "Accept", "text/event-stream", "X-Slow", "yes")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadFull(resp.Body, make([]byte, 6)); err != nil {
		t.Error(err)
	}
	close(proceed)
}

func TestPostIsResumedFromItsURL(t *testing.T) {
	b := startStreamer(t, "text/event-stream")
	s := startSite(t, "", relayTo(b, ""))
	for _, protocol := range protocols {
		c := s.post(protocol, "/v1/chat?x=1", `{"stream":true}`, "Accept", "application/json", "Cookie", "session=1")
		up := b.next()
		if up.body != `{"stream":true}` || up.request.Header.Get("Accept") != "application/json" {
			t.Errorf("%s: the backend got %q, %v", protocol, up.body, up.request.Header)
		}
		up.write("data: 1\n\ndata: 2\n\n")
		c.expect("", "1")
		second := c.expect("", "2")
		where := c.resp.Header.Get("Content-Location")
		if !strings.HasPrefix(where, "/v1/chat?x=1&relay=") {
			t.Fatalf("%s: %q", protocol, where)
		}
		c.close()
		up.write("data: 3\n\n")
		if resp := s.doOver(protocol, "GET", where, "", "Accept", "text/event-stream", "Cookie", "session=2"); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: another viewer gets %s", protocol, resp.Status)
		}
		c = s.open(protocol, where, "Last-Event-ID", second.ID, "Cookie", "a=b; session=1")
		c.expect("", "3")
		repeated := s.post(protocol, "/v1/chat?x=1", `{"stream":true}`, "Cookie", "session=1", "Last-Event-ID", second.ID)
		repeated.expect("", "3")
		repeated.close()
		up.write("data: 4\n\n")
		up.end()
		fourth := c.expect("", "4")
		c.ended()
		again := s.open(protocol, where, "Cookie", "session=1")
		for i := 1; i <= 4; i++ {
			again.expect("", fmt.Sprint(i))
		}
		again.ended()
		if resp := s.doOver(protocol, "GET", where, "", "Accept", "text/event-stream", "Cookie", "session=1", "Last-Event-ID", fourth.ID); resp.StatusCode != http.StatusNoContent {
			t.Errorf("%s: who has all gets %s", protocol, resp.Status)
		}
	}
	unknown := "/v1/chat?relay=AAAAAAAAAAAAAAAAAAAAAA"
	e := s.open("HTTP/1.1", unknown).expect("reset", `{"reason":"the stream is not kept any more"}`)
	if resp := s.do("GET", unknown, "", "Accept", "text/event-stream", "Last-Event-ID", e.ID); resp.StatusCode != http.StatusNoContent {
		t.Errorf("who knows that gets %s", resp.Status)
	}
	if n := b.requests.Load(); n != 3 {
		t.Errorf("the backend got %d requests of 3 clients", n)
	}
}

func TestGetIsResumedByItsPosition(t *testing.T) {
	b := startStreamer(t, "application/x-ndjson")
	s := startSite(t, "", relayTo(b, ""))
	c := s.open("HTTP/1.1", "/export", "Authorization", "Bearer a")
	up := b.next()
	up.write("1\n2\n")
	one := c.expect("", "1")
	c.close()
	up.write("3\n")
	c = s.open("HTTP/1.1", "/export", "Authorization", "Bearer a", "Last-Event-ID", one.ID)
	c.expect("", "2")
	c.expect("", "3")
	for name, header := range map[string][]string{
		"of another viewer": {"Authorization", "Bearer b"}, "of another document": {"Authorization", "Bearer a"},
	} {
		path := "/export"
		if name == "of another document" {
			path = "/other"
		}
		other := s.open("HTTP/1.1", path, append(header, "Last-Event-ID", one.ID)...)
		other.expect("reset", `{"reason":"the position is not in the history"}`)
		own := b.next()
		own.write("x\n")
		other.expect("", "x")
		if own.request.Header.Get("Last-Event-ID") != "" {
			t.Errorf("%s: the backend got the position", name)
		}
		own.end()
	}
	up.end()
	c.expect("complete", "{}")
}
