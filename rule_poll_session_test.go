package caddysse_test

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// rollingSessions is a backend like Rails with its cookie store: each response
// sets another cookie, and each cookie names the user.
type rollingSessions struct{ serial, polls atomic.Int64 }

func (b *rollingSessions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	cookie, err := r.Cookie("_app_session")
	var user string
	if err == nil {
		_, _ = fmt.Sscanf(cookie.Value, "%3s-", &user)
	}
	if user != "ann" && user != "bob" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: "_app_session", Value: fmt.Sprintf("%s-%d", user, b.serial.Add(1)), Path: "/", HttpOnly: true})
	if r.URL.Path == "/me" {
		w.Header().Set("X-User", user)
		return
	}
	b.polls.Add(1)
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"orders":%q}`, user)
}

// forward_auth vouches for X-User: it removes the client's own.
func TestViewersWithRollingSessionsShareByTheUserThatForwardAuthVouchesFor(t *testing.T) {
	backend := new(rollingSessions)
	address := startBackend(t, backend.ServeHTTP)
	s := watchedSite(t, "", `
		forward_auth /orders `+address+` {
			uri /me
			copy_headers X-User
		}
		sse /orders {
			poll 1h {
				vary X-User
				share
			}
		}
		reverse_proxy `+address)
	for i, protocol := range protocols {
		for visit := range 5 {
			for _, user := range []string{"ann", "bob"} {
				other := map[string]string{"ann": "bob", "bob": "ann"}[user]
				s.open(protocol, "/orders", "Cookie", fmt.Sprintf("_app_session=%s-%d%d", user, i, visit), "X-User", other).expect("", fmt.Sprintf(`{"orders":%q}`, user))
			}
		}
		if _, err := s.tryOpen(protocol, "/orders", "X-User", "ann"); err == nil {
			t.Errorf("%s: a stranger that claims to be ann has a stream", protocol)
		}
	}
	if views := s.list("").Views; len(views) != 4 { // HTTP and HTTPS
		t.Errorf("%d views: %+v", len(views), views)
	}
	for _, v := range s.list("").Views {
		if v.Viewers != 5 && v.Viewers != 10 {
			t.Errorf("a view has %d viewers", v.Viewers)
		}
	}
}

// Each response to a request without a cookie begins a session, as PHP's do.
func TestAnonymousPollsBeginOneSession(t *testing.T) {
	var mu sync.Mutex
	sessions, polls := make(map[string]int), make(map[string]int)
	s := polled(t, "100ms", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if _, err := r.Cookie("PHPSESSID"); err != nil {
			sessions[r.URL.Path]++
			http.SetCookie(w, &http.Cookie{Name: "PHPSESSID", Value: fmt.Sprint("v8d", sessions[r.URL.Path]), Path: "/"})
		}
		polls[r.URL.Path]++
		_, _ = fmt.Fprint(w, polls[r.URL.Path])
	})
	for _, protocol := range protocols {
		path := "/api/" + protocol
		c := s.open(protocol, path)
		for n := 1; n <= 5; n++ {
			c.expect("", fmt.Sprint(n))
		}
		mu.Lock()
		if sessions[path] != 1 || c.resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %d sessions; the viewer got %q", protocol, sessions[path], c.resp.Header["Set-Cookie"])
		}
		mu.Unlock()
	}
}
