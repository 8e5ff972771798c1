package caddysse_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
)

// members is a document for those who have one of some cookies.
type members struct {
	mu      sync.Mutex
	allowed map[string]bool
	content string
	asked   map[string]int
}

func newMembers(names ...string) *members {
	m := &members{allowed: make(map[string]bool), content: `1`, asked: make(map[string]int)}
	for _, n := range names {
		m.allowed[n] = true
	}
	return m
}

func (m *members) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	who := r.Header.Get("Cookie")
	m.asked[who]++
	if !m.allowed[who] {
		http.Error(w, "not for "+who, http.StatusForbidden)
		return
	}
	_, _ = fmt.Fprint(w, m.content)
}

func (m *members) update(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f()
}

func TestWhoMayReadASharedDocumentSharesOnePollAndNobodyElse(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			shop := newMembers("alice", "bob")
			s := polled(t, "1h {\n share\n }", shop.ServeHTTP)
			for _, who := range []string{"alice", "bob", "bob"} {
				s.open(protocol, "/api/x", "Cookie", who).expect("", `1`)
			}
			resp := s.doOver(protocol, "GET", "/api/x", "", "Accept", "text/event-stream", "Cookie", "eve")
			if resp.StatusCode != http.StatusForbidden || resp.body != "not for eve\n" {
				t.Errorf("eve got %d %q", resp.StatusCode, resp.body)
			}
			shop.update(func() {
				// Each was asked once as themselves, and one of them polled.
				if shop.asked["alice"]+shop.asked["bob"] != 4 || shop.asked["eve"] != 1 {
					t.Errorf("asked %v", shop.asked)
				}
			})
		})
	}
}

func TestWhoLosesAccessToASharedDocumentLosesTheStreamAndNobodyElse(t *testing.T) {
	shop := newMembers("alice", "bob")
	s := polled(t, "100ms {\n share\n }", shop.ServeHTTP)
	alice := s.open("HTTP/2.0", "/api/x", "Cookie", "alice")
	alice.expect("", `1`)
	bob := s.open("HTTP/1.1", "/api/x", "Cookie", "bob")
	bob.expect("", `1`)
	shop.update(func() { shop.allowed["alice"] = false })
	alice.ended()
	shop.update(func() { shop.content = `2` })
	bob.expect("", `2`)
	shop.update(func() { shop.allowed["bob"] = false })
	bob.ended()
}

func TestASharedDocumentGoesOnWhenWhoWasAskedForItLeaves(t *testing.T) {
	shop := newMembers("alice", "bob")
	s := polled(t, "100ms {\n share\n }", shop.ServeHTTP)
	alice := s.open("HTTP/2.0", "/api/x", "Cookie", "alice")
	alice.expect("", `1`)
	bob := s.open("HTTP/2.0", "/api/x", "Cookie", "bob")
	bob.expect("", `1`)
	alice.close()
	waitFor(t, "a poll as bob", func() bool {
		shop.mu.Lock()
		defer shop.mu.Unlock()
		return shop.asked["bob"] > 2
	})
	shop.update(func() { shop.allowed["alice"], shop.content = false, `2` })
	bob.expect("", `2`)
}

func TestASharedDocumentThatIsNotCheckedLetsInWhoComes(t *testing.T) {
	shop := newMembers("alice")
	s := polled(t, "1h {\n share unchecked\n }", shop.ServeHTTP)
	s.open("HTTP/1.1", "/api/x", "Cookie", "alice").expect("", `1`)
	s.open("HTTP/1.1", "/api/x", "Cookie", "eve").expect("", `1`)
	shop.update(func() {
		if len(shop.asked) != 1 || shop.asked["alice"] != 1 {
			t.Errorf("asked %v", shop.asked)
		}
	})
}
