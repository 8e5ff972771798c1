package poll_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func TestSafeMethodsOfTheRegistryAreNoWrites(t *testing.T) {
	for method, safe := range map[string]bool{
		"GET": true, "HEAD": true, "OPTIONS": true, "TRACE": true, "PRI": true, "PROPFIND": true, "REPORT": true, "SEARCH": true, "QUERY": true,
		"POST": false, "PUT": false, "PATCH": false, "DELETE": false, "PROPPATCH": false, "MKCOL": false, "MKCALENDAR": false, "COPY": false,
		"MOVE": false, "LOCK": false, "UNLOCK": false, "ACL": false, "get": false, "BATCH": false,
	} {
		if poll.IsSafe(method) != safe {
			t.Errorf("%s is safe: %v", method, !safe)
		}
	}
}

func TestRefreshDecidesWhatIsAWrite(t *testing.T) {
	const none, related, all = poll.NoViews, poll.RelatedViews, poll.AllViews
	for _, test := range []struct {
		name   string
		config poll.Config
		want   map[string]poll.Effect
	}{
		{"default", poll.Config{}, map[string]poll.Effect{
			"POST /doc": related, "DELETE /doc": related, "GET /doc": none, "REPORT /doc": none, "QUERY /doc": none,
		}},
		{"paths", poll.Config{Refresh: []string{"/checkout"}}, map[string]poll.Effect{
			"POST /checkout/7": all, "GET /checkout": none, "PROPFIND /checkout": none, "POST /other": related,
		}},
		{"methods and paths", poll.Config{Writes: []*poll.WriteRule{{Methods: []string{"GET"}, Paths: []string{"/logout"}}}}, map[string]poll.Effect{
			"GET /logout": all, "GET /logout/x": all, "GET /doc": none, "HEAD /logout": none, "POST /logout": related,
		}},
		{"methods only", poll.Config{WritesOnly: true, Writes: []*poll.WriteRule{{Methods: []string{"PUT", "DELETE"}}}}, map[string]poll.Effect{
			"PUT /doc": related, "DELETE /doc": related, "POST /doc": none, "GET /doc": none,
		}},
		{"paths only", poll.Config{WritesOnly: true, Refresh: []string{"/wp-admin/post.php"}}, map[string]poll.Effect{
			"POST /wp-admin/post.php": all, "POST /wp-admin/admin-ajax.php": none, "PUT /doc": none,
		}},
		{"all but", poll.Config{Refresh: []string{"/"}, Writes: []*poll.WriteRule{{Off: true, Paths: []string{"/wp-admin/admin-ajax.php"}}, {Off: true, Methods: []string{"LOCK"}}}}, map[string]poll.Effect{
			"POST /wp-admin/admin-ajax.php": none, "POST /wp-admin/post.php": all, "LOCK /doc": none, "PUT /doc": all,
		}},
		{"off of a method at a path", poll.Config{Writes: []*poll.WriteRule{{Off: true, Methods: []string{"POST"}, Paths: []string{"/search"}}}}, map[string]poll.Effect{
			"POST /search": none, "PUT /search": related, "POST /doc": related,
		}},
		{"a safe method declared", poll.Config{Writes: []*poll.WriteRule{{Methods: []string{"REPORT"}}}}, map[string]poll.Effect{
			"REPORT /doc": related, "PROPFIND /doc": none, "POST /doc": related,
		}},
	} {
		within(t, test.config, func(e *env) {
			safe := false
			for request, want := range test.want {
				method, path, _ := strings.Cut(request, " ")
				if got := e.Effect(httptest.NewRequest(method, path, nil)); got != want {
					t.Errorf("%s: %s has the effect %d, want %d", test.name, request, got, want)
				}
				safe = safe || poll.IsSafe(method) && want != none
			}
			if e.TakesSafeWrites() != safe {
				t.Errorf("%s: safe writes: %v", test.name, !safe)
			}
		})
	}
}

func TestContradictingWritesAreRefused(t *testing.T) {
	for _, c := range []poll.Config{
		{RefreshOff: true, Writes: []*poll.WriteRule{{Methods: []string{"PUT"}}}},
		{RefreshOff: true, WritesOnly: true},
		{WritesOnly: true},
		{WritesOnly: true, Writes: []*poll.WriteRule{{Off: true, Paths: []string{"/x"}}}},
		{Writes: []*poll.WriteRule{{}}},
		{Writes: []*poll.WriteRule{{Off: true}}},
		{Writes: []*poll.WriteRule{{Methods: []string{"put"}}}},
		{Writes: []*poll.WriteRule{{Paths: []string{"x"}}}},
		{Writes: []*poll.WriteRule{{Paths: []string{"/x/*"}}}},
	} {
		if err := c.Provision(); err == nil {
			t.Errorf("%+v is accepted", c)
		}
	}
}

func TestChangedCookieOfViewCausesPoll(t *testing.T) {
	for _, test := range []struct {
		cookie, set string
		polled      bool
	}{
		{"session=1", "session=2; Path=/; HttpOnly", true},
		{"session=1", "session=; Max-Age=0", true},
		{"session=1", "session=1; Max-Age=0", true},
		{"session=1", "session=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", true},
		{"session=1", "session=1; Max-Age=3600; Expires=Thu, 01 Jan 1970 00:00:00 GMT", false},
		{"session=1", "session=1; Path=/; Max-Age=3600", false}, // it is only prolonged
		{"session=1", "theme=dark", false},
		{"ads=7; session=1", "session=2", true},
		{"session=3", "session=4", false}, // another viewer's
		{"", "session=2", false},
		{"session=1", "", false},
		{"session=1", "nonsense", false},
		{`session="a b"`, "session=2", false},
	} {
		within(t, aMinute, func(e *env) {
			e.subscribe(newRequest("/doc", "Cookie", "session=1; theme=light"))
			e.subscribe(newRequest("http://other.example.com/doc", "Cookie", "session=1"))
			advance(time.Second)
			before := e.polls()
			r := httptest.NewRequest(http.MethodGet, "/logout", nil)
			response := make(http.Header)
			if test.cookie != "" {
				r.Header.Set("Cookie", test.cookie)
			}
			if test.set != "" {
				response.Set("Set-Cookie", test.set)
			}
			if knows := e.KnowsSession(r); !knows && test.polled {
				t.Errorf("%+v: the session is not known", test)
			}
			e.RecheckSessions("example.com", r.Header["Cookie"], response)
			synctest.Wait()
			if got := e.polls() - before; got != map[bool]int{true: 1}[test.polled] {
				t.Errorf("%+v: %d polls", test, got)
			}
		})
	}
}
