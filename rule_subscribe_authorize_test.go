package caddysse_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// repoBackend is an application without streams that authorizes users.
type repoBackend struct {
	mu       sync.Mutex
	status   map[string]int // by "user repo"; otherwise 404
	down     int            // status of its failures; zero: none
	requests []string
}

func (b *repoBackend) set(change func(b *repoBackend)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(b)
}

func (b *repoBackend) checks() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.requests)
}

func (b *repoBackend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests = append(b.requests, r.RequestURI)
	if b.down != 0 {
		w.WriteHeader(b.down)
		return
	}
	user := r.Header.Get("Authorization")
	w.Header().Set("Set-Cookie", "tracking=1")
	w.Header().Set("Cache-Control", "public, max-age=60")
	if user == "" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="repos"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	status := b.status[user+" "+strings.TrimPrefix(r.URL.Path, "/api/repos/")]
	if status == 0 {
		status = http.StatusNotFound
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "the app's own words")
}

const repoRules = `
	sse /hooks/* {
		webhook {
			verify none
			topic repos/{path.1}
		}
	}
	sse /events {
		topic repos/{query.repo}
		authorize /api/repos/{query.repo} %s
	}
	reverse_proxy %s
`

func startRepos(t *testing.T, block string) (*site, *repoBackend) {
	t.Helper()
	backend := &repoBackend{status: map[string]int{"ann caddy": 200, "ann both": 200, "zoe both": 204}}
	return startSite(t, "", fmt.Sprintf(repoRules, block, startBackend(t, backend.ServeHTTP))), backend
}

func TestAuthorizedClientReceivesStream(t *testing.T) {
	s, _ := startRepos(t, "")
	for _, protocol := range protocols {
		ann := s.open(protocol, "/events?repo=caddy&repo=both", "Authorization", "ann")
		zoe := s.open(protocol, "/events?repo=both", "Authorization", "zoe")
		s.publish("caddy", "for ann")
		s.publish("both", "for both")
		ann.expect("", "for ann")
		ann.expect("", "for both")
		zoe.expect("", "for both")
	}
}

func TestUnauthorizedClientReceivesBackendResponse(t *testing.T) {
	s, _ := startRepos(t, "")
	for _, protocol := range protocols {
		for _, method := range []string{"GET", "HEAD"} {
			resp := s.doOver(protocol, method, "/events?repo=caddy", "")
			if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" || method == "GET" && resp.body != "who are you?\n" {
				t.Errorf("%s %s: nobody gets %s %q", protocol, method, resp.Status, resp.body)
			}
			if resp.Header.Get("Set-Cookie") != "" || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s: answered with %v", protocol, method, resp.Header)
			}
		}
		resp := s.doOver(protocol, "GET", "/events?repo=caddy", "", "Authorization", "zoe")
		if resp.StatusCode != http.StatusNotFound || resp.body != "the app's own words" {
			t.Errorf("%s: zoe gets %s %q", protocol, resp.Status, resp.body)
		}
		resp = s.doOver(protocol, "GET", "/events?repo=both&repo=caddy", "", "Authorization", "zoe")
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: with one of two zoe gets %s", protocol, resp.Status)
		}
		if resp := s.doOver(protocol, "HEAD", "/events?repo=caddy", "", "Authorization", "ann"); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: ann gets %s", protocol, resp.Status)
		}
	}
}

func TestClientCannotAlterAuthorizationCheck(t *testing.T) {
	s, backend := startRepos(t, "")
	for _, protocol := range protocols {
		for _, repo := range []string{"", "..", ".", "..%2Fx", "a%2Fb", "%2F", "%5C..%5Cx", "%252e%252e%252fx", "a%0d%0aX:%20y", "..;", "x%2F"} {
			if resp := s.doOver(protocol, "GET", "/events?repo="+repo, "", "Authorization", "ann"); resp.StatusCode != http.StatusBadRequest {
				t.Errorf("%s: %q is answered with %s", protocol, repo, resp.Status)
			}
		}
		if n := len(backend.checks()); n != 0 {
			t.Fatalf("%s: the backend got %q", protocol, backend.checks())
		}
	}
	s.do("GET", "/events?repo=a%3Fx%3D1%23y%26z%20%7Benv.HOME%7D", "", "Authorization", "ann")
	if got := backend.checks(); !slices.Equal(got, []string{"/api/repos/a%3Fx=1%23y&z%20%7Benv.HOME%7D"}) {
		t.Errorf("the backend got %q", got)
	}
}

func TestStreamWaitsWhileBackendIsDown(t *testing.T) {
	s, backend := startRepos(t, "")
	for _, protocol := range protocols {
		backend.set(func(b *repoBackend) { b.down = http.StatusBadGateway })
		ann := s.open(protocol, "/events?repo=caddy", "Authorization", "ann")
		zoe := s.open(protocol, "/events?repo=caddy", "Authorization", "zoe")
		for _, c := range []*client{ann, zoe} {
			var notice struct{ Status int }
			if e := c.next(); e.Name != "stale" || json.Unmarshal(e.Data, &notice) != nil || notice.Status != http.StatusBadGateway || e.ID == "" {
				t.Errorf("%s: got %q %q, want that it is stale", protocol, e.Name, e.Data)
			}
		}
		if resp := s.doOver(protocol, "HEAD", "/events?repo=caddy", "", "Authorization", "ann"); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: HEAD gets %s", protocol, resp.Status)
		}
		s.publish("caddy", "meanwhile")
		backend.set(func(b *repoBackend) { b.down = 0 })
		s.publish("caddy", "afterwards")
		ann.expect("", "meanwhile")
		ann.expect("", "afterwards")
		zoe.ended()
	}
}

// A client that is moved while it waits resumes at its position.
func TestMovedClientThatAwaitsAuthorizationMissesNothing(t *testing.T) {
	backend := &repoBackend{status: map[string]int{"ann caddy": 200}, down: http.StatusServiceUnavailable}
	global, site := "sse {\n drain 50ms\n }", fmt.Sprintf(repoRules, "", startBackend(t, backend.ServeHTTP))
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := startSite(t, global, site)
			backend.set(func(b *repoBackend) { b.down = http.StatusServiceUnavailable })
			c := s.open(protocol, "/events?repo=caddy", "Authorization", "ann")
			position := c.next().ID
			s.publish("caddy", "meanwhile")
			s.reload(global, site+"# again")
			c.ended()
			backend.set(func(b *repoBackend) { b.down = 0 })
			s.open(protocol, "/events?repo=caddy", "Authorization", "ann", "Last-Event-ID", position).expect("", "meanwhile")
		})
	}
}

func TestRecheckEndsStreamOfRevokedClient(t *testing.T) {
	s, backend := startRepos(t, "{\n recheck 1s\n }")
	for _, protocol := range protocols {
		backend.set(func(b *repoBackend) { b.status["ann both"] = 200 })
		ann := s.open(protocol, "/events?repo=both", "Authorization", "ann")
		zoe := s.open(protocol, "/events?repo=both", "Authorization", "zoe")
		backend.set(func(b *repoBackend) { b.status["ann both"] = http.StatusForbidden })
		ann.ended()
		resp := s.doOver(protocol, "GET", "/events?repo=both", "", "Authorization", "ann")
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: the returning client gets %s", protocol, resp.Status)
		}
		s.publish("both", "still")
		zoe.expect("", "still")
		zoe.close()
	}
}

func TestReconnectsShareAuthorizationChecks(t *testing.T) {
	s, backend := startRepos(t, "")
	for _, protocol := range protocols {
		before, began := len(backend.checks()), time.Now()
		var opening sync.WaitGroup
		for range 10 {
			opening.Go(func() {
				for range 10 {
					if c, err := s.tryOpen(protocol, "/events?repo=caddy", "Authorization", "ann"); err != nil {
						t.Error(err)
					} else {
						c.close()
					}
				}
			})
		}
		opening.Wait()
		if n, most := len(backend.checks())-before, 1+int(time.Since(began)/time.Second); n > most {
			t.Errorf("%s: 100 streams in %v cause %d checks", protocol, time.Since(began), n)
		}
	}
}

func TestAuthorizeWithoutNextHandlerIsRefused(t *testing.T) {
	s := startSite(t, "", "sse {\n topic news\n authorize /api/me\n }")
	if resp := s.do("GET", "/", ""); resp.StatusCode != http.StatusBadGateway || !strings.Contains(resp.body, "no handler answered") {
		t.Errorf("got %s %q", resp.Status, resp.body)
	}
}

func TestEnvelopeNamesTopicOfEvent(t *testing.T) {
	s := startSite(t, "", `
	sse /hooks/* {
		webhook {
			verify none
			topic {path.1} copies/{path.1}
			id    {query.id}
		}
	}
	sse /events {
		topic {query.topic}
		allow **
		envelope
	}`)
	for _, protocol := range protocols {
		c := s.open(protocol, "/events?topic=a&topic=b&topic=copies/b")
		position := s.publish("a", `{"n": 1.10}`)
		s.publish("b", "text")
		if e := c.expect("", `{"topic":"a","data":{"n": 1.10}}`); e.ID != position {
			t.Errorf("%s: its id is %q, want %q", protocol, e.ID, position)
		}
		c.expect("", `{"topic":"b","data":"text"}`)
		s.open(protocol, "/events?topic=copies/b", "Last-Event-ID", position).expect("", `{"topic":"copies/b","data":"text"}`)
	}
}
