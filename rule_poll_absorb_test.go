package caddysse_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

func TestAbsorbAnswersGetWithoutBackend(t *testing.T) {
	doc := newDocument(`{ "stock": 5 }`)
	s := polled(t, "1h {\n absorb\n }", doc.ServeHTTP)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			doc.set(`{ "stock": 5 }`)
			path := "/api/" + protocol[5:]
			before := doc.count()
			if resp := s.doOver(protocol, "GET", path, ""); resp.Header.Get("Age") != "" || doc.count() != before+1 {
				t.Errorf("without a viewer, the response has the headers %v", resp.Header)
			}
			c := s.open(protocol, path)
			c.expect("", `{"stock":5}`)
			before = doc.count()
			resp := s.doOver(protocol, "GET", path, "", "Accept", "application/json, text/plain, */*")
			if resp.StatusCode != http.StatusOK || resp.body != `{ "stock": 5 }` || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Age") == "" {
				t.Errorf("got %d %q with %v", resp.StatusCode, resp.body, resp.Header)
			}
			if again := s.doOver(protocol, "GET", path, "", "If-None-Match", resp.Header.Get("ETag")); again.StatusCode != http.StatusNotModified || again.body != "" {
				t.Errorf("got %d %q for the known document", again.StatusCode, again.body)
			}
			if head := s.doOver(protocol, "HEAD", path, ""); head.StatusCode != http.StatusOK || head.Header.Get("Content-Length") != "14" {
				t.Errorf("HEAD got %d %v", head.StatusCode, head.Header)
			}
			if n := doc.count(); n != before {
				t.Errorf("the backend was asked %d times", n-before)
			}
			// A client reads its own write at once.
			s.doOver(protocol, "PUT", path, `{"stock":4}`)
			if resp := s.doOver(protocol, "GET", path, ""); resp.body != `{"stock":4}` {
				t.Errorf("after the write: %q", resp.body)
			}
			c.expect("", `{"stock":4}`)
			if resp := s.doOver(protocol, "GET", path, "", "Cookie", "other=1"); resp.Header.Get("Age") != "" {
				t.Errorf("another viewer got %v", resp.Header)
			}
		})
	}
}

func TestPollMethodPostStreamsQuery(t *testing.T) {
	var version atomic.Int64
	s := polled(t, "100ms {\n method POST\n max_request 40B\n }", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.Header.Get("Content-Type") != "application/json" || r.Method != http.MethodPost {
			http.Error(w, "what is "+r.Method+" "+r.Header.Get("Content-Type")+"?", http.StatusBadRequest)
			return
		}
		_, _ = w.Write(append(append([]byte(`{"to":`), body...), '}'))
		_ = version.Add(1)
	})
	const query = `{"query":"{ a }"}`
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			a := s.post(protocol, "/api/graphql", query)
			a.expect("", `{"to":{"query":"{ a }"}}`)
			b := s.post(protocol, "/api/graphql", `{"query":"{ b }"}`)
			b.expect("", `{"to":{"query":"{ b }"}}`)
			before := version.Load()
			waitFor(t, "poll", func() bool { return version.Load() > before+3 })
			ordinary := s.doOver(protocol, "POST", "/api/graphql", query, "Content-Type", "application/json", "Accept", "application/json")
			if ordinary.body != `{"to":{"query":"{ a }"}}` || ordinary.Header.Get("Content-Type") == "text/event-stream" {
				t.Errorf("an ordinary POST got %q", ordinary.body)
			}
			long := s.doOver(protocol, "POST", "/api/graphql", `"`+query+query+query+`"`, "Content-Type", "application/json", "Accept", "text/event-stream")
			if long.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("a long one got %d", long.StatusCode)
			}
		})
	}
}

func TestOrdinaryPostInvalidatesWherePostQueriesAreStreamed(t *testing.T) {
	var orders atomic.Int64
	s := polled(t, "1h {\n method POST\n }", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/orders" {
			orders.Add(1)
		}
		_, _ = w.Write([]byte{'0' + byte(orders.Load())})
	})
	c := s.post("HTTP/2.0", "/api/orders/search", `{}`)
	c.expect("", `0`)
	s.do("POST", "/api/orders", `{}`)
	c.expect("", `1`)
}

func TestForeignOriginMayStreamPostQuery(t *testing.T) {
	s := startSite(t, "", "sse /api/* {\n poll 1h {\n method POST\n }\n cors https://app.example.com\n }\n reverse_proxy "+
		startBackend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "1") }))
	resp := s.do("OPTIONS", "/api/q", "", "Origin", "https://app.example.com", "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
	if resp.StatusCode != http.StatusNoContent || resp.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" ||
		resp.Header.Get("Access-Control-Allow-Methods") != "POST" || !strings.Contains(resp.Header.Get("Access-Control-Allow-Headers"), "Content-Type") {
		t.Errorf("the preflight got %d %v", resp.StatusCode, resp.Header)
	}
	c := s.post("HTTP/2.0", "/api/q", `{}`, "Origin", "https://app.example.com")
	c.expect("", "1")
	if got := c.resp.Header.Get("Access-Control-Allow-Origin"); got != "https://app.example.com" {
		t.Errorf("the stream may be read by %q", got)
	}
}
