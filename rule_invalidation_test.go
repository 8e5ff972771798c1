package caddysse_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A response has no authority over another host's documents (RFC 9111 §4.4).
func TestLocationOfAnotherHostIsNotInvalidated(t *testing.T) {
	for _, header := range []string{"Location", "Content-Location"} {
		for _, protocol := range protocols {
			t.Run(header+" "+protocol, func(t *testing.T) {
				orders := newDocument(`[]`)
				s := polled(t, "1h", func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPost {
						w.Header().Set(header, r.Header.Get("Created"))
					}
					orders.ServeHTTP(w, r)
				})
				c := s.open(protocol, "/api/orders/8")
				c.expect("", `[]`)
				own := s.url(protocol, "/api/orders/8")
				for _, foreign := range []string{
					"https://other.example/api/orders/8", "//other.example/api/orders/8", "https://localhost/api/orders/8",
					"https://localhost:1/api/orders/8", strings.Replace(own, "localhost", "localhost.other.example", 1),
					strings.Replace(own, "localhost", "other.example@localhost.other.example", 1),
				} {
					s.doOver(protocol, "POST", "/api/checkout", `["another's"]`, "Created", foreign)
				}
				s.doOver(protocol, "POST", "/api/checkout", `["new"]`, "Created", strings.Replace(own, "localhost", "LocalHost", 1))
				c.expect("", `["new"]`)
				if n := orders.count(); n != 2 {
					t.Errorf("%d polls, want 2", n)
				}
			})
		}
	}
}

// The application answers 202 and changes the document later, from a queue, and
// leaves its ETag, as one does that makes it of the list's own row.
func TestEffectOfQueuedWriteIsSentDespiteLongInterval(t *testing.T) {
	var content atomic.Value
	content.Store(`[]`)
	s := polled(t, "1h {\n absorb\n }", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, _ := io.ReadAll(r.Body)
			time.AfterFunc(150*time.Millisecond, func() { content.Store(string(body)) })
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("ETag", `"list"`)
		if r.Header.Get("If-None-Match") == `"list"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, content.Load().(string))
	})
	for _, protocol := range protocols {
		content.Store(`[]`)
		path := "/api/" + strings.ReplaceAll(protocol, "/", "")
		c := s.open(protocol, path)
		c.expect("", `[]`)
		if resp := s.doOver(protocol, "POST", path+"/1", `["`+protocol+`"]`); resp.StatusCode != http.StatusAccepted {
			t.Fatal(resp.Status)
		}
		c.expect("", `["`+protocol+`"]`)
		if resp := s.doOver(protocol, "GET", path, ""); resp.body != `["`+protocol+`"]` {
			t.Errorf("an ordinary request got %s", resp.body)
		}
	}
}

// Rails and Redmine serve /items.json and /items/1.json.
func TestWriteToPathWithFormatConcernsListWithFormat(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			var n atomic.Int64
			s := polled(t, "1h {\n refresh /stock\n }", countingBackend(&n))
			c := s.open(protocol, "/api/items.json")
			c.expect("", "1")
			s.doOver(protocol, "PUT", "/api/items/1.json", "")
			c.expect("", "2")
			s.doOver(protocol, "DELETE", "/api/items/1", "")
			c.expect("", "3")
			s.doOver(protocol, "POST", "/stock.json", "") // outside of the rule's matcher
			c.expect("", "4")
			s.doOver(protocol, "POST", "/api/items-archive.json", "")
			s.doOver(protocol, "POST", "/stocks.json", "")
			s.doOver(protocol, "POST", "/stock/7.xml", "")
			c.expect("", "5")
			if polls := n.Load(); polls != 5 {
				t.Errorf("%d polls", polls)
			}
		})
	}
}
