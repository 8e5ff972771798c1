package caddysse_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
)

// A client that follows the redirect would get the login page as a document,
// since the rule matches that, too.
func TestExpiredSessionNeverStreamsLoginPage(t *testing.T) {
	var expired atomic.Int64 // how the backend answers then
	s := polled(t, "100ms", func(w http.ResponseWriter, r *http.Request) {
		switch how := expired.Load(); {
		case how == 302 && r.URL.Path != "/api/login":
			http.Redirect(w, r, "/api/login", http.StatusFound)
		case how != 0:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(w, "<title>Log in</title>")
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"n":1}`)
		}
	})
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			expired.Store(0)
			path := "/api/" + protocol[5:]
			c := s.open(protocol, path)
			id := c.expect("", `{"n":1}`).ID
			expired.Store(200)
			if e := c.next(); e.Name != "stale" {
				t.Fatalf("got event %q with data %q", e.Name, e.Data)
			}
			expired.Store(302)
			c.ended()
			resp := s.doOver(protocol, "GET", path, "", "Accept", "text/event-stream", "Last-Event-ID", id)
			if resp.StatusCode != http.StatusForbidden || resp.Request.URL.Path != path {
				t.Errorf("the client got %d from %s: %q", resp.StatusCode, resp.Request.URL.Path, resp.body)
			}
			if resp := s.doOver(protocol, "GET", path, "", "Accept", "application/json"); resp.Request.URL.Path != "/api/login" {
				t.Errorf("an ordinary request got %d from %s", resp.StatusCode, resp.Request.URL.Path)
			}
		})
	}
}
