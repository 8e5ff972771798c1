package caddysse_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// A poll passes the rules behind its own. They see the cookie of a view, a response
// that changes it, as each of Rails' does, and perhaps a POST: none of that is a
// reason to poll again. Only the writes of clients are.
func TestPollsOfOneRuleCauseNoPollsByAnother(t *testing.T) {
	var serial atomic.Int64
	var polls, writes sync.Map // how many, by path, since a write polls all views of a path
	count := func(m *sync.Map, path string) *atomic.Int64 {
		n, _ := m.LoadOrStore(path, new(atomic.Int64))
		return n.(*atomic.Int64)
	}
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "_app_session", Value: fmt.Sprint(serial.Add(1)), Path: "/", HttpOnly: true})
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.URL.Path == "/elsewhere":
			return
		case string(body) == "write":
			count(&writes, r.URL.Path).Add(1)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, "[%d,%d]", count(&polls, r.URL.Path).Add(1), count(&writes, r.URL.Path).Load())
	})
	s := startSite(t, "", `
		sse /orders/* {
			poll 1h
		}
		@query path /query/*
		sse @query {
			poll 1h {
				method POST
			}
		}
		sse {
			poll 1h {
				refresh /
			}
		}
		reverse_proxy `+backend)
	for _, protocol := range protocols {
		for path, method := range map[string]string{"/orders/": "GET", "/query/": "POST"} {
			t.Run(protocol+path, func(t *testing.T) {
				path += strings.ReplaceAll(protocol, "/", "")
				session := "_app_session=" + method + protocol
				c, err := s.tryOpenBy(method, "query", protocol, path, "Cookie", session)
				if err != nil {
					t.Fatal(err)
				}
				c.expect("", "[1,0]")
				for n := 1; n <= 3; n++ { // with one poll too many, the first number would be ahead
					s.doOver(protocol, "PUT", path, "write", "Cookie", "_app_session=another")
					c.expect("", fmt.Sprintf("[%d,%d]", n+1, n))
				}
				s.doOver(protocol, "GET", "/elsewhere", "", "Cookie", session) // the client's own response, which changes the cookie
				c.expect("", "[5,3]")
			})
		}
	}
}
