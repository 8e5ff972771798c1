package poll_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

var querying = poll.Config{Method: http.MethodPost, MaxRequest: 20}

// query returns a viewer's POST.
func query(body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/graphql", strings.NewReader(body))
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Content-Type", "application/json; a=b")
	return r
}

// echo responds with the request's body.
func echo(r *http.Request) (*subrequest.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil || int64(len(body)) != r.ContentLength {
		return status(http.StatusBadRequest), nil
	}
	return document(string(body), "ETag", `"x"`, "Last-Modified", "Sat, 01 Jan 2000 00:00:00 GMT"), nil
}

func TestPollSendsViewersBodyUnchanged(t *testing.T) {
	within(t, querying, func(e *env) {
		var bodies, types []string
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			resp, err := echo(r)
			bodies, types = append(bodies, string(resp.Body)), append(types, r.Header.Get("Content-Type"))
			if r.Method != http.MethodPost || r.Header.Get("If-None-Match")+r.Header.Get("If-Modified-Since") != "" {
				t.Errorf("%s with %v", r.Method, r.Header)
			}
			return resp, err
		})
		e.subscribe(query(` { "q" : 1 }` + "\r\n"))
		advance(5 * time.Second)
		if len(bodies) < 3 {
			t.Fatalf("%d polls", len(bodies))
		}
		for i, body := range bodies {
			if body != " { \"q\" : 1 }\r\n" || types[i] != "application/json; a=b" {
				t.Errorf("poll %d sent %q as %q", i, body, types[i])
			}
		}
	})
}

func TestEachBodyHasItsOwnView(t *testing.T) {
	within(t, querying, func(e *env) {
		e.setFunc(echo)
		for _, body := range []string{"1", "2", "", "1", "2"} {
			e.subscribe(query(body)).want(t, body)
		}
		if e.Views() != 3 || e.polls() != 3 {
			t.Errorf("%d views, %d polls", e.Views(), e.polls())
		}
	})
}

func TestBodyIsRestoredForNextHandler(t *testing.T) {
	within(t, querying, func(e *env) {
		e.setError(subrequest.ErrEventStream)
		r := query("[1,2]")
		_, _, err := e.Subscribe(r, &caller{backend: e.backend})
		body, _ := io.ReadAll(r.Body)
		if !errors.Is(err, subrequest.ErrEventStream) || string(body) != "[1,2]" || r.ContentLength != 5 {
			t.Errorf("%v, and %q of %d bytes is left", err, body, r.ContentLength)
		}
	})
}

func TestTooLongOrTruncatedBodyIsRefused(t *testing.T) {
	within(t, querying, func(e *env) {
		e.setFunc(echo)
		e.subscribe(query(strings.Repeat("1", 20))).want(t, strings.Repeat("1", 20))
		broken := query("")
		broken.Body = io.NopCloser(io.MultiReader(strings.NewReader("1"), errReader{io.ErrUnexpectedEOF}))
		bounded := query("")
		bounded.Body = io.NopCloser(errReader{&http.MaxBytesError{Limit: 5}})
		for want, r := range map[int]*http.Request{
			http.StatusRequestEntityTooLarge:  query(strings.Repeat("1", 21)),
			http.StatusBadRequest:             broken,
			-http.StatusRequestEntityTooLarge: bounded,
		} {
			var refused *refusal.Error
			if _, _, err := e.Subscribe(r, &caller{backend: e.backend}); !errors.As(err, &refused) || refused.Status != max(want, -want) {
				t.Errorf("got %v, want %d", err, want)
			}
		}
		if e.polls() != 1 {
			t.Errorf("%d polls", e.polls())
		}
	})
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestAuthorizedViewersShareQuery(t *testing.T) {
	c := querying
	c.Share = "checked"
	within(t, c, func(e *env) {
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if r.Header.Get("Cookie") == "eve" {
				return status(http.StatusForbidden), nil
			}
			return echo(r)
		})
		for _, who := range []string{"alice", "bob"} {
			r := query("1")
			r.Header.Set("Cookie", who)
			e.subscribe(r).want(t, "1")
		}
		eve := query("1")
		eve.Header.Set("Cookie", "eve")
		if got := e.subscribe(eve).status(); got != http.StatusForbidden || e.Views() != 1 {
			t.Errorf("eve got %d, there are %d views", got, e.Views())
		}
	})
}

// A backend may refuse POSTs of other sites' pages by headers in which browsers
// describe the page; polls must send these.
func TestQueryPollKeepsCrossSiteHeaders(t *testing.T) {
	for _, vary := range [][]string{nil, {"none"}} {
		within(t, poll.Config{Interval: second, Method: http.MethodPost, Vary: vary}, func(e *env) {
			foreign := map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Referer": "https://evil.example/", "Content-Type": "application/json"}
			r := httptest.NewRequest(http.MethodPost, "/graphql", strings.NewReader("{}"))
			r.Header.Set("Accept", "text/event-stream")
			for name, value := range foreign {
				r.Header.Set(name, value)
			}
			e.subscribe(r)
			for name, value := range foreign {
				if got := e.last().Header.Get(name); got != value {
					t.Errorf("with vary %q the backend gets %s: %q", vary, name, got)
				}
			}
			r = httptest.NewRequest(http.MethodPost, "/graphql", strings.NewReader("{}"))
			r.Header.Set("Accept", "text/event-stream")
			r.Header.Set("Content-Type", "application/json")
			e.subscribe(r)
			if e.Views() != 2 {
				t.Errorf("%d views: one page shares what another was answered", e.Views())
			}
		})
	}
}
