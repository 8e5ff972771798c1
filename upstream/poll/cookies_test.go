package poll_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// php is a backend that begins a session for each request without one, as PHP
// does with session.auto_start.
type php struct{ sessions atomic.Int64 }

func (p *php) answer(r *http.Request) (*subrequest.Response, error) {
	if _, err := r.Cookie("PHPSESSID"); err == nil {
		return asJSON(`"doc"`), nil
	}
	return asJSON(`"doc"`, "Set-Cookie", fmt.Sprintf("PHPSESSID=v8d%d; path=/; HttpOnly", p.sessions.Add(1))), nil
}

func TestPollsOfAnonymousViewBeginOneSessionAMinute(t *testing.T) {
	for name, c := range map[string]struct {
		config   poll.Config
		request  []string
		path     string
		sessions int64 // after 11 s
	}{
		"anonymous":             {poll.Config{}, nil, "/doc", 1},
		"by default queries":    {poll.Config{}, nil, "/doc?page_id=2", 1},
		"vary none":             {poll.Config{Vary: []string{"none"}}, []string{"Cookie", "PHPSESSID=ann"}, "/doc", 1},
		"hints and a script":    {poll.Config{}, []string{"User-Agent", "a", "X-Requested-With", "XMLHttpRequest", "X-Request-Id", "7"}, "/doc", 1},
		"off":                   {poll.Config{CookieJar: "off"}, nil, "/doc", 11},
		"an unknown header":     {poll.Config{}, []string{"X-Api-Key", "k"}, "/doc", 11},
		"a token in the query":  {poll.Config{}, nil, "/doc?access_token=k", 11},
		"a token, on":           {poll.Config{CookieJar: "on"}, []string{"X-Api-Key", "k"}, "/doc?token=k", 1},
		"another cookie":        {poll.Config{}, []string{"Cookie", "lang=de"}, "/doc", 11},
		"a credential, even on": {poll.Config{CookieJar: "on"}, []string{"Authorization", "Bearer 1"}, "/doc", 11},
	} {
		c.config.Interval = second
		within(t, c.config, func(e *env) {
			backend := new(php)
			e.setFunc(backend.answer)
			v := e.subscribe(newRequest(c.path, c.request...))
			advance(10500 * time.Millisecond)
			if n := backend.sessions.Load(); n != c.sessions {
				t.Errorf("%s: %d sessions in %d polls, want %d", name, n, e.polls(), c.sessions)
			}
			if c.sessions == 1 {
				advance(5 * time.Minute)
				if n := backend.sessions.Load(); n < 5 || n > 6 {
					t.Errorf("%s: %d sessions in five minutes", name, n)
				}
			}
			v.want(t, `"doc"`)
		})
	}
}

// Each view has a session of its own, which no other request joins.
func TestCookiesOfOneViewReachNoOther(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			got := r.Header.Get("Cookie")
			if want := "sid=" + strings.Trim(r.URL.Path, "/"); got != "" && got != want && got != "s=1" {
				t.Errorf("a poll of %s sends %q", r.URL.Path, got)
			}
			return document(`"doc"`, "Set-Cookie", "sid="+strings.Trim(r.URL.Path, "/")), nil
		})
		for _, path := range []string{"/a", "/b"} {
			e.subscribe(newRequest(path))
			e.subscribe(newRequest(path, "Cookie", "s=1"))
			e.subscribe(newRequest(path, "X-Tenant", "acme"))
		}
		advance(30 * time.Second)
	})
}

// A backend may begin a session for the bearer of a link, and the session goes on
// when the link is withdrawn.
func TestSessionOutlivesWithdrawnLinkByAMinute(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		var withdrawn atomic.Bool
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if _, err := r.Cookie("share"); err != nil && withdrawn.Load() {
				return &subrequest.Response{Status: http.StatusNotFound, Header: http.Header{}}, nil
			}
			return document(`"secret"`, "Set-Cookie", "share=ok"), nil
		})
		v := e.subscribe(newRequest("/s/4f2a9c"))
		withdrawn.Store(true)
		advance(65 * time.Second)
		if !v.hasEnded() {
			t.Error("the stream goes on")
		}
		if late := e.subscribe(newRequest("/s/4f2a9c")); late.status() != http.StatusNotFound {
			t.Errorf("a late viewer got %q", late.got())
		}
	})
}

// A response in the session of polls answers nobody else.
func TestResponseOfSessionIsNotSharedAndNotCached(t *testing.T) {
	within(t, poll.Config{Absorb: true}, func(e *env) {
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if r.Header.Get("Cookie") == "" {
				return asJSON(`{"csrf":"new"}`, "Set-Cookie", "sid=1", "Cache-Control", "public"), nil
			}
			return asJSON(`{"csrf":"of sid=1"}`, "Cache-Control", "public"), nil
		})
		e.subscribe(newRequest("/doc"))
		advance(10 * time.Second)
		w := httptest.NewRecorder()
		if e.Absorb(w, httptest.NewRequest(http.MethodGet, "/doc", nil), &caller{}) {
			t.Errorf("an ordinary request got %s", w.Body)
		}
		for _, info := range e.List() {
			if info.Shared {
				t.Error("the view is shared")
			}
		}
	})
}

func TestCookiesGoWhereTheBackendSaysOnly(t *testing.T) {
	for set, sent := range map[string]bool{
		"sid=1":                            true,
		"sid=1; Path=/":                    true,
		"sid=1; Path=/shop":                true, // of the original URL
		"sid=1; Path=/other":               false,
		"sid=1; Secure":                    false,
		"sid=1; Domain=example.com":        true,
		"sid=1; Domain=evil.test":          false,
		"sid=1; Max-Age=0":                 false,
		"sid=1; Max-Age=3600":              true,
		"sid=" + strings.Repeat("x", 9000): false,
		`sid="a b"`:                        true,
		"_app_session=nQ%2F--a1b2; path=/; HttpOnly; SameSite=Lax": true,
	} {
		within(t, poll.Config{}, func(e *env) {
			e.setFunc(func(*http.Request) (*subrequest.Response, error) { return document("1", "Set-Cookie", set), nil })
			e.subscribeAs(newRequest("/doc"), &caller{original: "/shop/doc"}, "")
			advance(5 * time.Second)
			pair, _, _ := strings.Cut(set, ";")
			if got := e.last().Header.Get("Cookie"); got != "" != sent || sent && got != pair {
				t.Errorf("%.60q: %.60q is sent", set, got)
			}
		})
	}
}

// Rails sets another value with each response.
func TestPollsSendTheNewestCookie(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		var responses atomic.Int64
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			n := responses.Load()
			if want := fmt.Sprintf("_app_session=%d", n); n > 0 && r.Header.Get("Cookie") != want {
				t.Errorf("%q is sent, want %q", r.Header.Get("Cookie"), want)
			}
			return document("1", "Set-Cookie", fmt.Sprintf("_app_session=%d; path=/; HttpOnly", responses.Add(1))), nil
		})
		e.subscribe(newRequest("/doc"))
		advance(30 * time.Second)
		if n := responses.Load(); n < 10 {
			t.Errorf("%d polls", n)
		}
	})
}

func TestUnknownCookieJarIsRefused(t *testing.T) {
	if err := (&poll.Config{CookieJar: "yes"}).Validate(); err == nil || !strings.Contains(err.Error(), "on or off") {
		t.Error(err)
	}
}
