package access_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// backend answers questions, as [access.Requester] of everybody.
type backend struct {
	mu       sync.Mutex
	answer   func(r *http.Request) (*subrequest.Response, error)
	asked    []string // the URIs
	requests []*http.Request
	inFlight int
	most     int // in flight at a time
}

func says(status int) func(*http.Request) (*subrequest.Response, error) {
	return func(*http.Request) (*subrequest.Response, error) {
		return &subrequest.Response{Status: status, Header: make(http.Header), Body: []byte("no\n")}, nil
	}
}

// takes answers after a while.
func takes(d time.Duration, status int) func(*http.Request) (*subrequest.Response, error) {
	return func(r *http.Request) (*subrequest.Response, error) {
		select {
		case <-time.After(d):
			return says(status)(r)
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
	}
}

func (b *backend) set(answer func(*http.Request) (*subrequest.Response, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer = answer
}

func (b *backend) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.asked)
}

func (b *backend) Do(r *http.Request, _ int64) (*subrequest.Response, error) {
	b.mu.Lock()
	b.asked = append(b.asked, r.RequestURI)
	b.requests = append(b.requests, r)
	b.inFlight++
	b.most = max(b.most, b.inFlight)
	answer := b.answer
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.inFlight--
	}()
	return answer(r)
}
func (b *backend) User() string            { return "" }
func (b *backend) Vars() map[string]string { return nil }
func (b *backend) ViaTrustedProxy() bool   { return false }
func (b *backend) OriginalPath() string    { return "/events" }

// as is a caller whom earlier handlers know something of.
type as struct {
	*backend
	user, original string
	vars           map[string]string
	trusted        bool
}

func (a as) User() string            { return a.user }
func (a as) Vars() map[string]string { return a.vars }
func (a as) ViaTrustedProxy() bool   { return a.trusted }
func (a as) OriginalPath() string    { return a.original }

func request(header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/events", nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

func authorizer() (*access.Authorizer, *observer.ObservedLogs) {
	core, logs := observer.New(zap.DebugLevel)
	return access.NewAuthorizer(func(parts ...string) string { return fmt.Sprintf("%q", parts) }, zap.New(core), nil), logs
}

// open asks as a viewer with these headers, and needs no recheck.
func open(t *testing.T, a *access.Authorizer, b access.Requester, questions ...string) (*access.Grant, *subrequest.Response) {
	t.Helper()
	permit, refused, err := a.Authorize(t.Context(), access.NewPrincipal(request("Cookie", "session=ann"), b), questions, 0)
	if err != nil {
		t.Fatal(err)
	}
	return permit, refused
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestBackendsResponseDecides(t *testing.T) {
	for status, want := range map[int]string{
		200: "in", 204: "in", 299: "in",
		301: "refused", 304: "refused", 400: "refused", 401: "refused", 403: "refused", 404: "refused", 410: "refused",
		408: "waits", 425: "waits", 429: "waits", 500: "waits", 502: "waits", 503: "waits",
	} {
		synctest.Test(t, func(t *testing.T) {
			a, _ := authorizer()
			permit, refused := open(t, a, &backend{answer: says(status)}, "/api/1")
			got := "refused"
			switch {
			case permit != nil && permit.Failure != nil:
				got = "waits"
				if permit.Failure.Status != status {
					t.Errorf("%d is told as %d", status, permit.Failure.Status)
				}
			case permit != nil:
				got = "in"
			case refused.Status != status || string(refused.Body) != "no\n":
				t.Errorf("%d is passed on as %d %q", status, refused.Status, refused.Body)
			}
			if got != want {
				t.Errorf("%d: %s, want %s", status, got, want)
			}
			if permit != nil {
				permit.End()
			}
		})
	}
}

func TestLargeOrStreamedResponseGrants(t *testing.T) {
	for _, err := range []error{subrequest.ErrTooLarge, subrequest.ErrEventStream} {
		synctest.Test(t, func(t *testing.T) {
			a, _ := authorizer()
			permit, refused := open(t, a, &backend{answer: func(*http.Request) (*subrequest.Response, error) { return nil, err }}, "/api/1")
			if refused != nil || permit.Failure != nil {
				t.Errorf("%v: %v, %v", err, refused, permit.Failure)
			}
			permit.End()
		})
	}
}

func TestMissingResponseIsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{answer: func(*http.Request) (*subrequest.Response, error) { return nil, subrequest.ErrNoResponse }}
		if _, _, err := a.Authorize(t.Context(), access.NewPrincipal(request(), b), []string{"/x"}, 0); !errors.Is(err, subrequest.ErrNoResponse) {
			t.Errorf("got %v", err)
		}
	})
}

func TestOneRefusalOfManyRefusesStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{answer: func(r *http.Request) (*subrequest.Response, error) {
			return says(map[string]int{"/1": 200, "/2": 503, "/3": 404, "/4": 200}[r.RequestURI])(r)
		}}
		if _, refused := open(t, a, b, "/1", "/2", "/3", "/4"); refused == nil || refused.Status != 404 {
			t.Errorf("got %+v", refused)
		}
		permit, refused := open(t, a, b, "/1", "/2", "/4")
		if refused != nil || permit.Failure == nil {
			t.Errorf("one failure of three: %v, %v", refused, permit)
		}
		permit.End()
	})
}

func TestIdenticalChecksShareOneSubrequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{answer: takes(300*time.Millisecond, 200)}
		var asking sync.WaitGroup
		for range 1000 {
			asking.Go(func() {
				permit, refused := open(t, a, b, "/api/1")
				if refused != nil || permit.Failure != nil {
					t.Error("refused")
				}
				permit.End()
			})
		}
		asking.Wait()
		time.Sleep(900 * time.Millisecond)
		permit, _ := open(t, a, b, "/api/1") // shares the answer
		permit.End()
		if n := b.count(); n != 1 {
			t.Errorf("%d questions", n)
		}
		time.Sleep(200 * time.Millisecond)
		permit, _ = open(t, a, b, "/api/1")
		permit.End()
		if n := b.count(); n != 2 {
			t.Errorf("%d questions when the answer is older than a second", n)
		}
		time.Sleep(2 * time.Second)
		if n := a.Checks(); n != 0 {
			t.Errorf("%d answers are kept", n)
		}
	})
}

func TestDifferentPrincipalsShareNoCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{answer: takes(time.Hour, 200)}
		type one struct {
			r *http.Request
			c access.Requester
		}
		with := func(change func(r *http.Request)) one { r := request(); change(r); return one{r, b} }
		different := []one{
			{request(), b},
			{request("Cookie", "a=1"), b}, {request("Cookie", "a=2"), b}, {request("Cookie", "a=1", "Cookie", "b=2"), b}, {request("Authorization", "a=1"), b},
			{request("X-Api-Key", "k"), b}, {request("X-Forwarded-For", "192.0.2.7"), b}, {request("Accept-Language", "de"), b}, {request("User-Agent", "x"), b},
			with(func(r *http.Request) { r.Host = "other.example" }),
			with(func(r *http.Request) { r.RemoteAddr = "192.0.2.99:1" }),
			{request(), as{backend: b, original: "/events", user: "ann"}},
			{request(), as{backend: b, original: "/other"}},
			{request(), as{backend: b, original: "/events", trusted: true}},
			{request(), as{backend: b, original: "/events", vars: map[string]string{"tenant": "1"}}},
		}
		same := []one{
			with(func(r *http.Request) { r.RemoteAddr = "192.0.2.1:999" }), // another port
			{request("Last-Event-ID", "x", "Accept", "text/event-stream", "Origin", "https://a.example", "Sec-Fetch-Mode", "cors", "X-Request-Id", "1", "Cache-Control", "no-cache"), b},
			{request("Connection", "X-Hop", "X-Hop", "1"), b},
		}
		a, _ := authorizer()
		ctx, cancel := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		for _, o := range append(different, same...) {
			asking.Go(func() {
				permit, _, _ := a.Authorize(ctx, access.NewPrincipal(o.r, o.c), []string{"/api/1"}, 0)
				permit.End()
			})
		}
		synctest.Wait()
		if n := b.count(); n != len(different) {
			t.Errorf("%d questions for %d viewers", n, len(different))
		}
		cancel()
		asking.Wait()
		synctest.Wait()
		if n := a.Checks(); n != 0 {
			t.Errorf("%d questions go on when nobody waits", n)
		}
	})
}

func TestCheckSendsCredentialsButNoStreamHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{answer: says(200)}
		r := request("Cookie", "a=1", "Authorization", "Bearer x", "X-Forwarded-For", "192.0.2.7", "Accept-Language", "de",
			"Accept", "text/event-stream", "Last-Event-ID", "1", "Connection", "X-Hop", "X-Hop", "1", "Upgrade", "x", "Accept-Encoding", "gzip", "Range", "bytes=0-", "Origin", "https://a.example", "Content-Type", "x/y")
		permit, _, err := a.Authorize(t.Context(), access.NewPrincipal(r, b), []string{"/api/a%20b?c=d"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		permit.End()
		got := b.requests[0]
		for _, name := range []string{"Cookie", "Authorization", "X-Forwarded-For", "Accept-Language"} {
			if got.Header.Get(name) != r.Header.Get(name) {
				t.Errorf("%s is %q", name, got.Header.Get(name))
			}
		}
		for _, name := range []string{"Last-Event-Id", "Connection", "X-Hop", "Upgrade", "Accept-Encoding", "Range", "Origin", "Content-Type"} {
			if got.Header.Get(name) != "" {
				t.Errorf("%s is sent", name)
			}
		}
		if got.Method != "GET" || got.URL.Path != "/api/a b" || got.URL.RawQuery != "c=d" || got.Host != r.Host || got.RemoteAddr != r.RemoteAddr || strings.Contains(got.Header.Get("Accept"), "event-stream") {
			t.Errorf("got %s %s %s from %s, %q", got.Method, got.Host, got.URL, got.RemoteAddr, got.Header.Get("Accept"))
		}
	})
}

func TestChecksInFlightAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{answer: takes(time.Second, 200)}
		var asking sync.WaitGroup
		for i := range 3 * access.MaxChecksInFlight {
			asking.Go(func() {
				permit, refused := open(t, a, b, fmt.Sprintf("/api/%d", i))
				if refused != nil || permit.Failure != nil {
					t.Error("who waits for a turn is refused")
				}
				permit.End()
			})
		}
		asking.Wait()
		if b.most != access.MaxChecksInFlight {
			t.Errorf("%d were in flight", b.most)
		}
	})
}

func TestKeptDecisionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{answer: says(404)}
		for i := range 3 * access.MaxKeptDecisions {
			open(t, a, b, fmt.Sprintf("/api/%d", i))
		}
		synctest.Wait()
		if n := a.Checks(); n != access.MaxKeptDecisions {
			t.Errorf("%d answers are kept", n)
		}
		time.Sleep(2 * time.Second)
		if n := a.Checks(); n != 0 {
			t.Errorf("%d answers are kept for ever", n)
		}
	})
}

func TestUndecidedStreamWaitsForBackend(t *testing.T) {
	for status, granted := range map[int]bool{200: true, 403: false} {
		synctest.Test(t, func(t *testing.T) {
			a, logs := authorizer()
			b := &backend{answer: says(503)}
			permit, refused := open(t, a, b, "/api/1")
			if refused != nil || permit.Failure == nil || permit.Failure.Status != 503 {
				t.Fatalf("got %v, %+v", refused, permit)
			}
			defer permit.End()
			time.Sleep(5 * time.Minute)
			if closed(permit.Granted) || closed(permit.Revoked) {
				t.Fatal("a backend that fails has decided")
			}
			if n := b.count(); n < 15 || n > 60 {
				t.Errorf("asked %d times in 5 minutes", n)
			}
			if n := logs.Len(); n < 4 || n > 6 {
				t.Errorf("%d log lines in 5 minutes", n)
			}
			b.set(says(status))
			time.Sleep(30 * time.Second)
			if closed(permit.Granted) != granted || closed(permit.Revoked) == granted {
				t.Errorf("%d: granted %t, revoked %t", status, closed(permit.Granted), closed(permit.Revoked))
			}
			asked := b.count()
			time.Sleep(time.Hour)
			if b.count() != asked {
				t.Error("asked again, without recheck")
			}
		})
	}
}

func TestSilentBackendDelaysRequestUntilTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		began := time.Now()
		permit, refused := open(t, a, &backend{answer: takes(time.Hour, 200)}, "/api/1")
		if refused != nil || permit.Failure == nil || permit.Failure.Status != http.StatusGatewayTimeout {
			t.Errorf("got %v, %+v", refused, permit)
		}
		if took := time.Since(began); took != access.CheckTimeout {
			t.Errorf("it took %v", took)
		}
		permit.End()
	})
}

func TestABackendThatAsksForTimeHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{answer: func(*http.Request) (*subrequest.Response, error) {
			return &subrequest.Response{Status: 429, Header: http.Header{"Retry-After": {"60"}}}, nil
		}}
		permit, _ := open(t, a, b, "/api/1")
		defer permit.End()
		time.Sleep(59 * time.Second)
		if n := b.count(); n != 1 {
			t.Errorf("asked %d times within the minute", n)
		}
		time.Sleep(2 * time.Second)
		if n := b.count(); n != 2 {
			t.Errorf("asked %d times after it", n)
		}
	})
}

func TestRecheckRevokesOnlyOnRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{answer: says(200)}
		permit, _, err := a.Authorize(t.Context(), access.NewPrincipal(request("Cookie", "a=1"), b), []string{"/api/1"}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer permit.End()
		time.Sleep(time.Hour)
		if n := b.count(); n < 61 || n > 121 {
			t.Errorf("asked %d times in an hour", n)
		}
		for _, answer := range []func(*http.Request) (*subrequest.Response, error){
			says(500), says(503), says(429), takes(time.Hour, 200),
			func(*http.Request) (*subrequest.Response, error) { return nil, errors.New("refused to connect") },
			func(*http.Request) (*subrequest.Response, error) { return nil, subrequest.ErrNoResponse },
		} {
			b.set(answer)
			time.Sleep(5 * time.Minute)
			if closed(permit.Revoked) {
				t.Fatal("a backend that fails has ended the stream")
			}
		}
		b.set(says(403))
		time.Sleep(time.Minute + access.CheckTimeout)
		if !closed(permit.Revoked) {
			t.Error("who is refused goes on watching")
		}
		asked := b.count()
		time.Sleep(time.Hour)
		if b.count() != asked {
			t.Error("asked about who is gone")
		}
	})
}

func TestRechecksHaveJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{answer: says(200)}
		for i := range 1000 {
			permit, _, err := a.Authorize(t.Context(), access.NewPrincipal(request("Cookie", fmt.Sprint(i)), b), []string{"/api/1"}, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			defer permit.End()
		}
		time.Sleep(30 * time.Second)
		for range 29 {
			before := b.count()
			time.Sleep(time.Second)
			if n := b.count() - before; n < 5 || n > 100 {
				t.Errorf("%d of 1000 are asked about within a second", n)
			}
		}
	})
}

func TestEndedGrantMakesNoChecks(t *testing.T) {
	for _, status := range []int{200, 503} {
		synctest.Test(t, func(t *testing.T) {
			a, _ := authorizer()
			b := &backend{answer: says(status)}
			permit, _, err := a.Authorize(t.Context(), access.NewPrincipal(request(), b), []string{"/api/1", "/api/2"}, 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			b.set(takes(time.Hour, 403)) // one may be under way when it ends
			time.Sleep(20 * time.Second)
			permit.End()
			permit.End()
			asked := b.count()
			time.Sleep(time.Hour)
			if b.count() != asked || closed(permit.Revoked) || a.Checks() != 0 {
				t.Errorf("%d: asked %d times more, revoked %t, %d kept", status, b.count()-asked, closed(permit.Revoked), a.Checks())
			}
		})
	}
}

// questions returns the authorization URIs of a request with a query.
func questions(t *testing.T, topic []string, template, query string, set ...string) ([]string, int) {
	t.Helper()
	u := uri(t, template)
	rule, err := access.NewTopics(topic, nil, u.Placeholders()...)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.URL = &url.URL{Path: "/events/x", RawQuery: query}
	repl := caddy.NewReplacer()
	r = caddyhttp.PrepareRequest(r, repl, httptest.NewRecorder(), new(caddyhttp.Server))
	for i := 0; i < len(set); i += 2 {
		repl.Set(set[i], set[i+1])
	}
	got, refused := rule.AuthorizationURIs(r, repl, u)
	if refused != nil {
		return nil, refused.Status
	}
	return got, http.StatusOK
}

func TestAuthorizationURIsHaveTheTopicsValues(t *testing.T) {
	for _, c := range []struct {
		topics          []string
		template, query string
		want            string // separated by spaces; empty: refused
	}{
		{[]string{"orders/" + queryA}, "/api/" + queryA, "a=1", "/api/1"},
		{[]string{"orders/" + queryA}, "/api/" + queryA, "a=1&a=2&a=1", "/api/1 /api/2"},
		{[]string{"orders/" + queryA, "news"}, "/api/" + queryA, "a=1&a=2", "/api/1 /api/2"},
		{[]string{"orders/" + queryA, "bills/" + queryA}, "/api/" + queryA, "a=1&a=2", "/api/1 /api/2"},
		{[]string{queryA + "/" + queryB}, "/api/" + queryB + "/" + queryA, "a=1&a=2&b=3", "/api/3/1 /api/3/2"},
		{[]string{queryA, queryB}, "/api/" + queryB + "/" + queryA, "a=1&a=2&b=3", "/api/3/1 /api/3/2"},
		{[]string{"news"}, "/api/me", "", "/api/me"},
		{[]string{"orders/" + queryA}, "/api/" + queryA, "a=1&a=../2", ""},
		{[]string{"orders/" + queryA, "users/" + user}, "/api/" + queryA, "", ""},
		{[]string{"news"}, "/api/" + queryA, "", ""},
		{[]string{"news"}, "/api/" + queryA, "a=", ""},
		{[]string{queryA}, "/api/" + queryA + "/" + queryB, "a=1", ""},
		{[]string{queryA}, "/api/" + queryA + "/{http.vars.unknown}", "a=1", ""},
	} {
		got, status := questions(t, c.topics, c.template, c.query, "http.auth.user.id", "ann")
		if strings.Join(got, " ") != c.want || (status == 200) == (c.want == "") {
			t.Errorf("%v, %s, %s: %q, %d; want %q", c.topics, c.template, c.query, got, status, c.want)
		}
	}
}

func TestAuthorizationURIsOfStreamAreLimited(t *testing.T) {
	query := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "a=%d&", i)
		}
		return b.String()
	}
	if got, _ := questions(t, []string{queryA}, "/api/"+queryA, query(access.MaxSubrequests)); len(got) != access.MaxSubrequests {
		t.Errorf("%d questions", len(got))
	}
	if _, status := questions(t, []string{queryA}, "/api/"+queryA, query(access.MaxSubrequests+1)); status != http.StatusBadRequest {
		t.Errorf("%d", status)
	}
}

func TestOnlyCoveredPlaceholdersNeedNoAllow(t *testing.T) {
	covered := []string{strings.Trim(queryA, "{}"), "http.auth.user.id"}
	for _, template := range []string{"orders/" + queryA, queryA + "/" + queryA, "news", "users/" + user, queryA + user} {
		if _, err := access.NewTopics([]string{template}, nil, covered...); err != nil {
			t.Errorf("%s: %v", template, err)
		}
	}
	for _, template := range []string{"orders/" + queryB, queryA + "/" + queryB, "{http.request.header.A}", "{http.request.uri}"} {
		if _, err := access.NewTopics([]string{template}, nil, covered...); err == nil || !strings.Contains(err.Error(), "in the uri of authorize") {
			t.Errorf("%s: %v", template, err)
		}
	}
	// A pattern narrows what the backend would let in, too.
	rule, err := access.NewTopics([]string{queryA}, []string{"public/*"}, covered...)
	if err != nil {
		t.Fatal(err)
	}
	if _, status := of(rule, "a=private/1"); status != http.StatusForbidden {
		t.Errorf("what no pattern allows is answered with %d", status)
	}
	// A certificate that nobody has verified is covered, or refused.
	const subject = "{http.request.tls.client.subject}"
	for want, covered := range map[int][]string{http.StatusOK: {strings.Trim(subject, "{}")}, http.StatusForbidden: {"http.request.host"}} {
		rule, err := access.NewTopics([]string{subject}, nil, covered...)
		if err != nil {
			t.Fatal(err)
		}
		if _, status := of(rule, "", strings.Trim(subject, "{}"), "CN=ann"); status != want {
			t.Errorf("covered by %s: %d, want %d", covered, status, want)
		}
	}
}
