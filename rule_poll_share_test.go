package caddysse_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// membersDocument is a document for clients with one of some cookies.
type membersDocument struct {
	mu       sync.Mutex
	allowed  map[string]bool
	content  string
	public   bool
	requests map[string]int
}

func newClub(names ...string) *membersDocument {
	c := &membersDocument{allowed: make(map[string]bool), content: `1`, requests: make(map[string]int)}
	for _, n := range names {
		c.allowed[n] = true
	}
	return c
}

func (c *membersDocument) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	who := r.Header.Get("Cookie")
	c.requests[who]++
	if !c.allowed[who] {
		http.Error(w, "not for "+who, http.StatusForbidden)
		return
	}
	if c.public {
		w.Header().Set("Cache-Control", "public")
	}
	_, _ = fmt.Fprint(w, c.content)
}

func (c *membersDocument) update(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func TestAuthorizedViewersOfSharedDocumentShareOnePoll(t *testing.T) {
	for name, options := range map[string]string{"share": "1h {\n share\n }", "public": "1h"} {
		for _, protocol := range protocols {
			t.Run(name+" "+protocol, func(t *testing.T) {
				shop := newClub("alice", "bob")
				shop.public = name == "public"
				s := polled(t, options, shop.ServeHTTP)
				for _, who := range []string{"alice", "bob", "bob"} {
					s.open(protocol, "/api/x", "Cookie", who).expect("", `1`)
				}
				resp := s.doOver(protocol, "GET", "/api/x", "", "Accept", "text/event-stream", "Cookie", "eve")
				if resp.StatusCode != http.StatusForbidden || resp.body != "not for eve\n" {
					t.Errorf("eve got %d %q", resp.StatusCode, resp.body)
				}
				shop.update(func() {
					if shop.requests["alice"] != 1 || shop.requests["bob"] != 1 || shop.requests["eve"] != 1 {
						t.Errorf("requests %v", shop.requests)
					}
				})
			})
		}
	}
}

func TestRefusalEndsOnlyTheRefusedViewersStream(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			shop := newClub("alice", "bob", "carol")
			s := polled(t, "100ms {\n share\n }", shop.ServeHTTP)
			alice := s.open(protocol, "/api/x", "Cookie", "alice")
			id := alice.expect("", `1`).ID
			others := []*client{s.open(protocol, "/api/x", "Cookie", "bob"), s.open("HTTP/1.1", "/api/x", "Cookie", "carol")}
			for _, c := range others {
				c.expect("", `1`)
			}
			shop.update(func() { shop.allowed["alice"] = false })
			alice.ended()
			shop.update(func() { shop.content = `2` })
			for _, c := range others {
				c.expect("", `2`)
			}
			resp := s.doOver(protocol, "GET", "/api/x", "", "Accept", "text/event-stream", "Cookie", "alice", "Last-Event-ID", id)
			if resp.StatusCode != http.StatusForbidden || strings.Contains(resp.body, "2") {
				t.Errorf("alice came back and got %d %q", resp.StatusCode, resp.body)
			}
			shop.update(func() { clear(shop.allowed) })
			for _, c := range others {
				c.ended()
			}
		})
	}
}

func TestSharedDocumentContinuesWhenPolledViewerLeaves(t *testing.T) {
	shop := newClub("alice", "bob")
	s := polled(t, "100ms {\n share\n }", shop.ServeHTTP)
	alice := s.open("HTTP/2.0", "/api/x", "Cookie", "alice")
	alice.expect("", `1`)
	bob := s.open("HTTP/2.0", "/api/x", "Cookie", "bob")
	bob.expect("", `1`)
	alice.close()
	waitFor(t, "poll as bob", func() bool {
		shop.mu.Lock()
		defer shop.mu.Unlock()
		return shop.requests["bob"] > 2
	})
	shop.update(func() { shop.allowed["alice"], shop.content = false, `2` })
	bob.expect("", `2`)
}

func TestShareUncheckedAdmitsEveryViewer(t *testing.T) {
	shop := newClub("alice")
	s := polled(t, "1h {\n share unchecked\n }", shop.ServeHTTP)
	s.open("HTTP/1.1", "/api/x", "Cookie", "alice").expect("", `1`)
	s.open("HTTP/1.1", "/api/x", "Cookie", "eve").expect("", `1`)
	shop.update(func() {
		if len(shop.requests) != 1 || shop.requests["alice"] != 1 {
			t.Errorf("requests %v", shop.requests)
		}
	})
}
