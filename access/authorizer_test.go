package access_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
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

// backend responds to authorization checks. It implements [access.Requester] for
// every principal.
type backend struct {
	mu       sync.Mutex
	respond  func(r *http.Request) (*subrequest.Response, error)
	uris     []string // of the checks
	requests []*http.Request
	inFlight int
	most     int // in flight at a time
}

func responds(status int) func(*http.Request) (*subrequest.Response, error) {
	return func(*http.Request) (*subrequest.Response, error) {
		return &subrequest.Response{Status: status, Header: make(http.Header), Body: []byte("no\n")}, nil
	}
}

// respondsAfter delays each response by d.
func respondsAfter(d time.Duration, status int) func(*http.Request) (*subrequest.Response, error) {
	return func(r *http.Request) (*subrequest.Response, error) {
		select {
		case <-time.After(d):
			return responds(status)(r)
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		}
	}
}

func (b *backend) set(respond func(*http.Request) (*subrequest.Response, error)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.respond = respond
}

func (b *backend) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.uris)
}

func (b *backend) Do(r *http.Request, _ int64) (*subrequest.Response, error) {
	b.mu.Lock()
	b.uris = append(b.uris, r.RequestURI)
	b.requests = append(b.requests, r)
	b.inFlight++
	b.most = max(b.most, b.inFlight)
	respond := b.respond
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.inFlight--
	}()
	return respond(r)
}
func (b *backend) User() string            { return "" }
func (b *backend) Vars() map[string]string { return nil }
func (b *backend) ViaTrustedProxy() bool   { return false }
func (b *backend) OriginalPath() string    { return "/events" }
func (b *backend) ClientIP() string        { return "192.0.2.1" }
func (b *backend) ClientNetwork() string   { return "" }

// requester is a backend with what earlier handlers know of the principal.
type requester struct {
	*backend
	user, original string
	client         string
	vars           map[string]string
	trusted        bool
	clientIP       string
}

func (r requester) User() string            { return r.user }
func (r requester) Vars() map[string]string { return r.vars }
func (r requester) ViaTrustedProxy() bool   { return r.trusted }
func (r requester) OriginalPath() string    { return r.original }
func (r requester) ClientIP() string        { return cmp.Or(r.clientIP, r.backend.ClientIP()) }
func (r requester) ClientNetwork() string   { return r.client }

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

// open authorizes a viewer without recheck.
func open(t *testing.T, a *access.Authorizer, b access.Requester, uris ...string) (*access.Grant, *subrequest.Response) {
	t.Helper()
	grant, refused, err := a.Authorize(t.Context(), access.NewPrincipal(request("Cookie", "session=ann"), b), uris, 0)
	if err != nil {
		t.Fatal(err)
	}
	return grant, refused
}

func TestBackendsResponseDecides(t *testing.T) {
	for status, want := range map[int]string{
		200: "granted", 204: "granted", 299: "granted",
		301: "refused", 304: "refused", 400: "refused", 401: "refused", 403: "refused", 404: "refused", 410: "refused",
		408: "undecided", 425: "undecided", 429: "undecided", 500: "undecided", 502: "undecided", 503: "undecided",
	} {
		synctest.Test(t, func(t *testing.T) {
			a, _ := authorizer()
			grant, refused := open(t, a, &backend{respond: responds(status)}, "/api/1")
			got := "refused"
			switch {
			case grant != nil && grant.Failure != nil:
				got = "undecided"
				if grant.Failure.Status != status {
					t.Errorf("%d is reported as %d", status, grant.Failure.Status)
				}
			case grant != nil:
				got = "granted"
			case refused.Status != status || string(refused.Body) != "no\n":
				t.Errorf("%d is passed on as %d %q", status, refused.Status, refused.Body)
			}
			if got != want {
				t.Errorf("%d: %s, want %s", status, got, want)
			}
			if grant != nil {
				grant.End()
			}
		})
	}
}

func TestLargeOrStreamedResponseGrants(t *testing.T) {
	for _, err := range []error{subrequest.ErrTooLarge, subrequest.ErrEventStream} {
		synctest.Test(t, func(t *testing.T) {
			a, _ := authorizer()
			grant, refused := open(t, a, &backend{respond: func(*http.Request) (*subrequest.Response, error) { return nil, err }}, "/api/1")
			if refused != nil || grant.Failure != nil {
				t.Errorf("%v: %v, %v", err, refused, grant.Failure)
			}
			grant.End()
		})
	}
}

// outcomes records the outcomes of checks.
type outcomes struct {
	mu  sync.Mutex
	got []access.Outcome
}

func (o *outcomes) Checked(of access.Outcome, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.got = append(o.got, of)
}

func (o *outcomes) Rechecked() {}

func TestCheckWithoutResponseCountsAsFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		observed := new(outcomes)
		a := access.NewAuthorizer(func(parts ...string) string { return fmt.Sprintf("%q", parts) }, zap.NewNop(), observed)
		for i, err := range []error{subrequest.ErrNoResponse, subrequest.ErrConnectionAborted, errors.New("broken")} {
			b := &backend{respond: func(*http.Request) (*subrequest.Response, error) { return nil, err }}
			grant, _, err := a.Authorize(t.Context(), access.NewPrincipal(request(), b), []string{fmt.Sprint("/", i)}, 0)
			if err == nil {
				grant.End()
			}
		}
		if want := []access.Outcome{access.Failed, access.Failed, access.Failed}; !slices.Equal(observed.got, want) {
			t.Errorf("%v", observed.got)
		}
	})
}

func TestMissingResponseIsError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{respond: func(*http.Request) (*subrequest.Response, error) { return nil, subrequest.ErrNoResponse }}
		if _, _, err := a.Authorize(t.Context(), access.NewPrincipal(request(), b), []string{"/x"}, 0); !errors.Is(err, subrequest.ErrNoResponse) {
			t.Errorf("got %v", err)
		}
	})
}

func TestOneRefusalOfManyRefusesStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{respond: func(r *http.Request) (*subrequest.Response, error) {
			return responds(map[string]int{"/1": 200, "/2": 503, "/3": 404, "/4": 200}[r.RequestURI])(r)
		}}
		if _, refused := open(t, a, b, "/1", "/2", "/3", "/4"); refused == nil || refused.Status != 404 {
			t.Errorf("got %+v", refused)
		}
		grant, refused := open(t, a, b, "/1", "/2", "/4")
		if refused != nil || grant.Failure == nil {
			t.Errorf("one failure of three: %v, %v", refused, grant)
		}
		grant.End()
	})
}

func TestIdenticalChecksShareOneSubrequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{respond: respondsAfter(300*time.Millisecond, 200)}
		var callers sync.WaitGroup
		for range 1000 {
			callers.Go(func() {
				grant, refused := open(t, a, b, "/api/1")
				if refused != nil || grant.Failure != nil {
					t.Error("refused")
				}
				grant.End()
			})
		}
		callers.Wait()
		time.Sleep(900 * time.Millisecond)
		grant, _ := open(t, a, b, "/api/1") // shares the decision
		grant.End()
		if n := b.count(); n != 1 {
			t.Errorf("%d checks", n)
		}
		time.Sleep(200 * time.Millisecond)
		grant, _ = open(t, a, b, "/api/1")
		grant.End()
		if n := b.count(); n != 2 {
			t.Errorf("%d checks when the decision is older than a second", n)
		}
		time.Sleep(2 * time.Second)
		if n := a.Checks(); n != 0 {
			t.Errorf("%d decisions are kept", n)
		}
	})
}

func TestDifferentPrincipalsShareNoCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &backend{respond: respondsAfter(time.Hour, 200)}
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
			{request(), requester{backend: b, original: "/events", user: "ann"}},
			{request(), requester{backend: b, original: "/other"}},
			{request(), requester{backend: b, original: "/events", trusted: true}},
			{request(), requester{backend: b, original: "/events", clientIP: "203.0.113.9"}}, // told by a header that is removed
			{request("Connection", "X-Api-Key, X-Forwarded-For", "X-Api-Key", "k2", "X-Forwarded-For", "192.0.2.8"), b},
			{request(), requester{backend: b, original: "/events", vars: map[string]string{"tenant": "1"}}},
		}
		same := []one{
			with(func(r *http.Request) { r.RemoteAddr = "192.0.2.1:999" }), // another port
			{request("Last-Event-ID", "x", "Accept", "text/event-stream", "Origin", "https://a.example", "Sec-Fetch-Mode", "cors", "X-Request-Id", "1", "Cache-Control", "no-cache"), b},
			{request("Connection", "X-Hop"), b},
		}
		a, _ := authorizer()
		ctx, cancel := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		for _, o := range append(different, same...) {
			callers.Go(func() {
				grant, _, _ := a.Authorize(ctx, access.NewPrincipal(o.r, o.c), []string{"/api/1"}, 0)
				grant.End()
			})
		}
		synctest.Wait()
		if n := b.count(); n != len(different) {
			t.Errorf("%d checks for %d principals", n, len(different))
		}
		cancel()
		callers.Wait()
		synctest.Wait()
		if n := a.Checks(); n != 0 {
			t.Errorf("%d checks go on without a waiting request", n)
		}
	})
}

func TestCheckSendsCredentialsButNoStreamHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{respond: responds(200)}
		r := request("Cookie", "a=1", "Authorization", "Bearer x", "X-Forwarded-For", "192.0.2.7", "Accept-Language", "de",
			"Accept", "text/event-stream", "Last-Event-ID", "1", "Connection", "Cookie, Authorization, X-Forwarded-For", "Upgrade", "x", "Accept-Encoding", "gzip", "Range", "bytes=0-", "Origin", "https://a.example", "Content-Type", "x/y")
		grant, _, err := a.Authorize(t.Context(), access.NewPrincipal(r, b), []string{"/api/a%20b?c=d"}, 0)
		if err != nil {
			t.Fatal(err)
		}
		grant.End()
		got := b.requests[0]
		for _, name := range []string{"Cookie", "Authorization", "X-Forwarded-For", "Accept-Language"} {
			if got.Header.Get(name) != r.Header.Get(name) {
				t.Errorf("%s is %q", name, got.Header.Get(name))
			}
		}
		for _, name := range []string{"Last-Event-Id", "Connection", "Upgrade", "Accept-Encoding", "Range", "Origin", "Content-Type"} {
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
		b := &backend{respond: respondsAfter(time.Second, 200)}
		var callers sync.WaitGroup
		for i := range 3 * access.MaxChecksInFlight {
			callers.Go(func() {
				r := request()
				r.Host = fmt.Sprint(i) // one host doesn't get all slots
				grant, refused, err := a.Authorize(t.Context(), access.NewPrincipal(r, b), []string{"/api"}, 0)
				if refused != nil || err != nil || grant.Failure != nil {
					t.Error("a waiting check is refused")
				}
				grant.End()
			})
		}
		callers.Wait()
		if b.most != access.MaxChecksInFlight {
			t.Errorf("%d checks were in flight", b.most)
		}
	})
}

func TestKeptDecisionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{respond: responds(404)}
		for i := range 3 * access.MaxKeptDecisions {
			open(t, a, b, fmt.Sprintf("/api/%d", i))
		}
		synctest.Wait()
		if n := a.Checks(); n != access.MaxKeptDecisions {
			t.Errorf("%d decisions are kept", n)
		}
		time.Sleep(2 * time.Second)
		if n := a.Checks(); n != 0 {
			t.Errorf("%d decisions are kept for ever", n)
		}
	})
}

func TestUndecidedStreamWaitsForBackend(t *testing.T) {
	for status, granted := range map[int]bool{200: true, 403: false} {
		synctest.Test(t, func(t *testing.T) {
			a, logs := authorizer()
			b := &backend{respond: responds(503)}
			grant, refused := open(t, a, b, "/api/1")
			if refused != nil || grant.Failure == nil || grant.Failure.Status != 503 {
				t.Fatalf("got %v, %+v", refused, grant)
			}
			defer grant.End()
			time.Sleep(5 * time.Minute)
			if grant.Granted.IsSet() || grant.Revoked.IsSet() {
				t.Fatal("a failing backend has decided")
			}
			if n := b.count(); n < 15 || n > 60 {
				t.Errorf("%d checks in 5 minutes", n)
			}
			if n := logs.Len(); n < 4 || n > 6 {
				t.Errorf("%d log lines in 5 minutes", n)
			}
			b.set(responds(status))
			time.Sleep(30 * time.Second)
			if grant.Granted.IsSet() != granted || grant.Revoked.IsSet() == granted {
				t.Errorf("%d: granted %t, revoked %t", status, grant.Granted.IsSet(), grant.Revoked.IsSet())
			}
			before := b.count()
			time.Sleep(time.Hour)
			if b.count() != before {
				t.Error("the authorizer checks again without recheck")
			}
		})
	}
}

func TestSilentBackendDelaysRequestUntilTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		began := time.Now()
		grant, refused := open(t, a, &backend{respond: respondsAfter(time.Hour, 200)}, "/api/1")
		if refused != nil || grant.Failure == nil || grant.Failure.Status != http.StatusGatewayTimeout {
			t.Errorf("got %v, %+v", refused, grant)
		}
		if took := time.Since(began); took != access.CheckTimeout {
			t.Errorf("it took %v", took)
		}
		grant.End()
	})
}

func TestRetryAfterDelaysNextCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{respond: func(*http.Request) (*subrequest.Response, error) {
			return &subrequest.Response{Status: 429, Header: http.Header{"Retry-After": {"60"}}}, nil
		}}
		grant, _ := open(t, a, b, "/api/1")
		defer grant.End()
		time.Sleep(59 * time.Second)
		if n := b.count(); n != 1 {
			t.Errorf("%d checks within the minute", n)
		}
		time.Sleep(2 * time.Second)
		if n := b.count(); n != 2 {
			t.Errorf("%d checks after it", n)
		}
	})
}

func TestRecheckRevokesOnlyOnRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{respond: responds(200)}
		grant, _, err := a.Authorize(t.Context(), access.NewPrincipal(request("Cookie", "a=1"), b), []string{"/api/1"}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer grant.End()
		time.Sleep(time.Hour)
		if n := b.count(); n < 61 || n > 121 {
			t.Errorf("%d checks in an hour", n)
		}
		for _, respond := range []func(*http.Request) (*subrequest.Response, error){
			responds(500), responds(503), responds(429), respondsAfter(time.Hour, 200),
			func(*http.Request) (*subrequest.Response, error) { return nil, errors.New("refused to connect") },
			func(*http.Request) (*subrequest.Response, error) { return nil, subrequest.ErrNoResponse },
		} {
			b.set(respond)
			time.Sleep(5 * time.Minute)
			if grant.Revoked.IsSet() {
				t.Fatal("a failing backend has ended the stream")
			}
		}
		b.set(responds(403))
		time.Sleep(time.Minute + access.CheckTimeout)
		if !grant.Revoked.IsSet() {
			t.Error("a refusal has not revoked the grant")
		}
		before := b.count()
		time.Sleep(time.Hour)
		if b.count() != before {
			t.Error("the authorizer checks a revoked grant")
		}
	})
}

func TestRechecksHaveJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := authorizer()
		b := &backend{respond: responds(200)}
		for i := range 1000 {
			grant, _, err := a.Authorize(t.Context(), access.NewPrincipal(request("Cookie", fmt.Sprint(i)), b), []string{"/api/1"}, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			defer grant.End()
		}
		time.Sleep(30 * time.Second)
		for range 29 {
			before := b.count()
			time.Sleep(time.Second)
			if n := b.count() - before; n < 5 || n > 100 {
				t.Errorf("%d of 1000 are checked within a second", n)
			}
		}
	})
}

func TestEndedGrantMakesNoChecks(t *testing.T) {
	for _, status := range []int{200, 503} {
		synctest.Test(t, func(t *testing.T) {
			a, _ := authorizer()
			b := &backend{respond: responds(status)}
			grant, _, err := a.Authorize(t.Context(), access.NewPrincipal(request(), b), []string{"/api/1", "/api/2"}, 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			b.set(respondsAfter(time.Hour, 403)) // a check may be in flight when the grant ends
			time.Sleep(20 * time.Second)
			grant.End()
			grant.End()
			before := b.count()
			time.Sleep(time.Hour)
			if b.count() != before || grant.Revoked.IsSet() || a.Checks() != 0 {
				t.Errorf("%d: %d more checks, revoked %t, %d kept", status, b.count()-before, grant.Revoked.IsSet(), a.Checks())
			}
		})
	}
}

// authorizationURIs returns the authorization URIs of a request with a query.
func authorizationURIs(t *testing.T, topic []string, template, query string, set ...string) ([]string, int) {
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

func TestAuthorizationURIsContainTopicValues(t *testing.T) {
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
		got, status := authorizationURIs(t, c.topics, c.template, c.query, "http.auth.user.id", "ann")
		if strings.Join(got, " ") != c.want || (status == 200) == (c.want == "") {
			t.Errorf("%v, %s, %s: %q, %d; want %q", c.topics, c.template, c.query, got, status, c.want)
		}
	}
}

func TestAuthorizationURIsPerStreamAreLimited(t *testing.T) {
	query := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "a=%d&", i)
		}
		return b.String()
	}
	if got, _ := authorizationURIs(t, []string{queryA}, "/api/"+queryA, query(access.MaxSubrequests)); len(got) != access.MaxSubrequests {
		t.Errorf("%d checks", len(got))
	}
	if _, status := authorizationURIs(t, []string{queryA}, "/api/"+queryA, query(access.MaxSubrequests+1)); status != http.StatusBadRequest {
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
	// A pattern also limits topics that the backend would grant.
	rule, err := access.NewTopics([]string{queryA}, []string{"public/*"}, covered...)
	if err != nil {
		t.Fatal(err)
	}
	if _, status := requested(rule, "a=private/1"); status != http.StatusForbidden {
		t.Errorf("a topic that no pattern allows: status %d", status)
	}
	// A topic of an unverified certificate must be covered; otherwise it is refused.
	const subject = "{http.request.tls.client.subject}"
	for want, covered := range map[int][]string{http.StatusOK: {strings.Trim(subject, "{}")}, http.StatusForbidden: {"http.request.host"}} {
		rule, err := access.NewTopics([]string{subject}, nil, covered...)
		if err != nil {
			t.Fatal(err)
		}
		if _, status := requested(rule, "", strings.Trim(subject, "{}"), "CN=ann"); status != want {
			t.Errorf("covered by %s: %d, want %d", covered, status, want)
		}
	}
}
