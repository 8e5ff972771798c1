package poll_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// with changes a request.
func with(r *http.Request, change func(r *http.Request)) *http.Request {
	change(r)
	return r
}

func certificate(raw string) func(*http.Request) {
	return func(r *http.Request) {
		r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Raw: []byte(raw)}}}
	}
}

func from(address string) func(*http.Request) {
	return func(r *http.Request) { r.RemoteAddr = address }
}

// principal is a request with what earlier handlers have found out about the
// viewer.
type principal struct {
	request   *http.Request
	requester caller
}

func a(target string, header ...string) principal {
	return principal{request: newRequest(target, header...)}
}

func TestDifferingRequestsHaveSeparateViews(t *testing.T) {
	user := func(name string) principal { return principal{newRequest("/"), caller{user: name}} }
	vars := func(pairs ...string) principal {
		v := map[string]string{}
		for pair := range slices.Chunk(pairs, 2) {
			v[pair[0]] = pair[1]
		}
		return principal{newRequest("/"), caller{vars: v}}
	}
	for name, c := range map[string][]principal{
		"path":                           {a("/a"), a("/b"), a("/a/"), a("/A"), a("/%61%2Fb"), a("/a/b")},
		"query":                          {a("/"), a("/?a=1"), a("/?a=2"), a("/?a=1&b=2"), a("/?b=2&a=1")},
		"host":                           {a("http://a.example/"), a("http://b.example/"), a("http://a.example:81/")},
		"Authorization":                  {a("/"), a("/", "Authorization", "Bearer 1"), a("/", "Authorization", "Bearer 2")},
		"Cookie":                         {a("/"), a("/", "Cookie", "s=1"), a("/", "Cookie", "s=2"), a("/", "Cookie", "s=1", "Cookie", "s=2")},
		"an unknown header":              {a("/"), a("/", "X-Tenant", "1"), a("/", "X-Tenant", "2"), a("/", "X-Tenan", "1")},
		"Accept":                         {a("/"), with1(a("/"), "Accept", "text/event-stream, text/html"), with1(a("/"), "Accept", "text/event-stream, text/plain")},
		"an Accept that can't be parsed": {with1(a("/"), "Accept", "text/event-stream, a/b;profile=https://a.example"), with1(a("/"), "Accept", "text/event-stream, a/b;profile=https://b.example")},
		"another scheme":                 {a("/"), a("/", "X-Forwarded-Proto", "https"), {request: with(newRequest("/"), func(r *http.Request) { r.TLS = new(tls.ConnectionState) })}},
		"another TLS name": {
			{request: with(newRequest("/"), func(r *http.Request) { r.TLS = &tls.ConnectionState{ServerName: "a.example"} })},
			{request: with(newRequest("/"), func(r *http.Request) { r.TLS = &tls.ConnectionState{ServerName: "b.example"} })},
		},
		"client certificate": {{request: with(newRequest("/"), certificate("1"))}, {request: with(newRequest("/"), certificate("2"))}, {request: with(newRequest("/"), func(r *http.Request) { r.TLS = new(tls.ConnectionState) })}},
		"user":               {user(""), user("ann"), user("bob")},
		"variables":          {vars(), vars("role", "admin"), vars("role", "memberClient"), vars("rol", "admin"), vars("role", "admin", "x", "y")},
	} {
		within(t, poll.Config{}, func(e *env) {
			for range 2 { // the second time, each finds their own view
				for i, k := range c {
					e.set(document(fmt.Sprint(i)))
					if got := e.subscribeAs(k.request.Clone(t.Context()), &k.requester, "").got(); !slices.Equal(got, []string{fmt.Sprint(i)}) {
						t.Errorf("%s: %d got %q", name, i, got)
					}
				}
			}
			if e.Views() != len(c) {
				t.Errorf("%s: %d views, want %d", name, e.Views(), len(c))
			}
		})
	}
}

// A request line may hold an absolute URL, with an unchecked scheme and
// password, and an empty query.
func TestRequestLineFormDoesNotAffectViewKey(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if u := r.URL; u.Scheme != "" || u.Host != "" || u.User != nil || r.RequestURI != "/doc" || u.String() != "/doc" || r.Host != "example.com" {
				t.Errorf("the backend gets %s (%s) on %s", u, r.RequestURI, r.Host)
			}
			return document("1"), nil
		})
		for _, target := range []string{"http://ann:secret@example.com/doc?", "/doc", "/doc?", "http://example.com/doc"} {
			e.subscribe(newRequest(target)).want(t, "1")
		}
		if e.Views() != 1 {
			t.Errorf("%d views, want 1", e.Views())
		}
	})
}

func with1(k principal, name, value string) principal {
	k.request.Header.Set(name, value)
	return k
}

// Header values must not pass for other headers, or for what the server knows
// about another principal.
func TestViewKeyCannotBeForged(t *testing.T) {
	for name, c := range map[string][2]principal{
		"a header as another's value": {
			a("/", "X-A", "1", "X-B", "2"),
			a("/", "X-A", "1", "X-A", "X-B", "X-A", "2"),
		},
		"a variable as a header's value": {
			{newRequest("/", "X-A", "1"), caller{vars: map[string]string{"tenant": "acme"}}},
			a("/", "X-A", "1", "X-A", "tenant", "X-A", "acme"),
		},
		"a variable as a header": {
			{newRequest("/"), caller{vars: map[string]string{"X-A": "1"}}},
			a("/", "X-A", "1"),
		},
		"a hint as another's value": {
			a("/", "Accept-Language", "en", "User-Agent", "x"),
			a("/", "Accept-Language", "en, User-Agent, x"),
		},
	} {
		within(t, poll.Config{}, func(e *env) {
			e.set(document("1", "Vary", "Accept-Language, User-Agent"))
			for _, k := range c {
				e.subscribeAs(k.request, &k.requester, "")
			}
			if e.Views() != 2 {
				t.Errorf("%s: they share a view", name)
			}
		})
	}
}

func TestEquivalentRequestsShareView(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		for _, k := range []principal{
			a("/doc?a=1"),
			a("/doc?a=1&last_event_id=x"),
			a("/doc?lastEventId=x&a=1"),
			a("/doc?a=1&last%5Fe%76ent_id=x"),
			a("/doc?a=1", "Last-Event-Id", "garbage"),
			a("/doc?a=1", "Accept-Language", "de"),
			a("/doc?a=1", "User-Agent", "curl"),
			a("/doc?a=1", "Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABk"),
			{request: with(newRequest("/doc?a=1"), from("203.0.113.9:99"))},
		} {
			e.subscribeAs(k.request, &k.requester, "").want(t, "1")
		}
		for _, name := range []string{
			"Cache-Control", "Pragma", "Priority", "Origin", "Referer", "Sec-Fetch-Mode", "Sec-Ch-Ua", "Dnt", "Sec-Gpc", "Accept-Encoding",
			"Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Range", "Traceparent", "Tracestate", "X-Request-Id", "Via", "Te", "Trailer",
			"Upgrade-Insecure-Requests", "X-Forwarded-For", "X-Real-Ip", "Proxy-Authorization", "Keep-Alive", "Expect",
			"Alt-Used", "Early-Data", "Cdn-Loop",
		} {
			e.subscribe(newRequest("/doc?a=1", name, "a value"))
			if e.Views() != 1 {
				e.t.Fatalf("%s splits views", name)
			}
		}
		if e.polls() != 1 {
			t.Errorf("%d polls", e.polls())
		}
	})
}

func TestRequestSpecificHeadersAreNotSent(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		r := newRequest("http://example.com/doc?b=2&last_event_id=9&a=%31",
			"Authorization", "Bearer 1", "Cookie", "s=1", "X-Tenant", "acme", "X-Tenant", "second", "Accept-Language", "de", "User-Agent", "curl")
		kept := r.Header.Clone()
		for _, name := range []string{
			"Connection", "Keep-Alive", "Te", "Trailer", "Upgrade", "Proxy-Connection", "Proxy-Authorization", "Transfer-Encoding", "Content-Length", "Expect",
			"Last-Event-Id", "Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range",
			"Accept-Encoding", "Cache-Control", "Pragma", "Priority", "Origin", "Referer", "Sec-Fetch-Site", "Sec-Websocket-Key", "Http2-Settings",
			"Alt-Used", "Early-Data", "Cdn-Loop",
		} {
			r.Header.Set(name, "x-hop")
		}
		kept.Set("Accept", "application/json, application/*+json;q=0.9, application/*;q=0.8, text/*;q=0.5")
		e.subscribe(r)
		got := e.last()
		if got.Method != http.MethodGet || got.Host != "example.com" || got.URL.Path != "/doc" || got.URL.RawQuery != "b=2&a=%31" || got.RequestURI != "/doc?b=2&a=%31" || got.URL.Fragment != "" {
			t.Errorf("%s %s %s (%s)", got.Method, got.Host, got.URL, got.RequestURI)
		}
		if body := got.Body; body == nil {
			t.Error("a handler may read the body")
		}
		for name := range got.Header {
			if !slices.Equal(got.Header[name], kept[name]) {
				t.Errorf("%s: %q is sent, want %q", name, got.Header[name], kept[name])
			}
			delete(kept, name)
		}
		if len(kept) > 0 {
			t.Errorf("%v is not sent", kept)
		}
	})
}

func TestPollAcceptsViewersOtherTypes(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		r := newRequest("/doc")
		r.Header["Accept"] = []string{"text/event-stream", "application/vnd.x+json, */*;q=0.1"}
		e.subscribe(r)
		if got := e.last().Header["Accept"]; !slices.Equal(got, []string{"application/vnd.x+json, */*;q=0.1"}) {
			t.Errorf("%q", got)
		}
	})
}

func TestSameViewerFromSameAddressSharesView(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		for _, port := range []string{"1", "2", "65535"} {
			e.subscribe(with(newRequest("/doc", "Cookie", "s=1"), from("203.0.113.9:"+port)))
			e.subscribe(with(newRequest("/doc", "Cookie", "s=1"), from("[2001:db8::1]:"+port)))
		}
		if e.Views() != 2 {
			t.Errorf("%d views of two addresses", e.Views())
		}
	})
}

// The backend trusts headers of a trusted proxy only, so its responses may
// differ.
func TestTrustedProxySeparatesViewers(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.subscribeAs(newRequest("/doc", "X-Forwarded-Host", "internal.example"), &caller{trusted: true}, "")
		e.subscribeAs(newRequest("/doc", "X-Forwarded-Host", "internal.example"), &caller{}, "")
		if e.Views() != 2 {
			t.Error("they share a view")
		}
	})
}

func TestKeysAndTopicsHoldNoCredentials(t *testing.T) {
	s := store.NewMemory()
	withinStore(t, poll.Config{}, s, func(e *env) {
		e.set(document("1", "Vary", "User-Agent"))
		k := principal{with(newRequest("/doc?token=secret1", "Authorization", "secret2", "Cookie", "secret3", "X-Key", "secret4", "User-Agent", "secret5"), certificate("secret6")),
			caller{user: "secret7", vars: map[string]string{"secret8": "secret9"}}}
		e.subscribeAs(k.request, &k.requester, "").want(t, "1")
		names := append(e.Keys(), s.Entry(1).Topics...)
		if len(names) != 2 || strings.Contains(fmt.Sprint(names), "secret") || len(names[0]) > 64 {
			t.Errorf("%q", names)
		}
	})
}

// languages responds in the requested language, with a Vary header.
func languages(vary string) func(r *http.Request) (*subrequest.Response, error) {
	return func(r *http.Request) (*subrequest.Response, error) {
		resp := document(fmt.Sprintf("%q", r.Header.Get("Accept-Language")))
		if vary != "" {
			resp.Header.Set("Vary", vary)
		}
		return resp, nil
	}
}

func TestVaryHeaderSeparatesViewers(t *testing.T) {
	for _, vary := range []string{"Accept-Language", "accept-language", "Accept-Encoding, Accept-Language", "*", "Origin,*"} {
		within(t, poll.Config{}, func(e *env) {
			e.setFunc(languages(vary))
			for range 2 {
				for _, lang := range []string{"de", "en", "fr", ""} {
					want := fmt.Sprintf("%q", lang)
					r := newRequest("/doc", "Accept-Language", lang)
					if lang == "" {
						r.Header.Del("Accept-Language")
					}
					e.subscribe(r).want(t, want)
				}
			}
			if e.Views() != 4 || e.polls() != 4 {
				t.Errorf("%s: %d views, %d polls", vary, e.Views(), e.polls())
			}
		})
	}
}

func TestVaryOfKeyedHeaderChangesNothing(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.set(document("1", "Vary", "Cookie, Accept-Encoding, Origin, X-Whatever"))
		e.subscribe(newRequest("/doc", "Accept-Language", "de"))
		e.subscribe(newRequest("/doc", "Accept-Language", "en"))
		advance(time.Minute)
		if e.Views() != 1 {
			t.Errorf("%d views", e.Views())
		}
	})
}

// All viewers wait for the first poll, which is made for the first of them.
func TestVarySeparatesWaitingViewers(t *testing.T) {
	for _, linger := range []caddy.Duration{second, -1} {
		within(t, poll.Config{Linger: linger}, func(e *env) {
			e.setFunc(languages("Accept-Language"))
			e.take(time.Second)
			viewers := map[*viewer]string{}
			for _, lang := range []string{"de", "en", "de", "fr", "en"} {
				viewers[e.subscribe(newRequest("/doc", "Accept-Language", lang))] = fmt.Sprintf("%q", lang)
			}
			advance(10 * time.Second)
			for v, want := range viewers {
				v.want(t, want)
			}
		})
	}
}

func TestVarySeparatesViewersAfterFirstLeaves(t *testing.T) {
	within(t, poll.Config{Linger: -1}, func(e *env) {
		e.setFunc(languages("Accept-Language"))
		e.take(time.Second)
		de := e.subscribe(newRequest("/doc", "Accept-Language", "de"))
		en := e.subscribe(newRequest("/doc", "Accept-Language", "en"))
		de.leave()
		advance(10 * time.Second)
		en.want(t, `"en"`)
		if e.Views() != 1 {
			t.Errorf("%d views", e.Views())
		}
	})
}

// A backend may begin to vary at any time. Viewers of the shared view then
// reconnect to their own views.
func TestNewVarySeparatesCurrentViewers(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		de, en := e.subscribe(newRequest("/doc", "Accept-Language", "de")), e.subscribe(newRequest("/doc", "Accept-Language", "en"))
		de.want(t, "1")
		e.setFunc(languages("Accept-Language"))
		advance(2 * time.Second)
		de.want(t, "1")
		en.want(t, "1")
		if !de.hasEnded() || !en.hasEnded() {
			e.t.Fatal("they still share a view")
		}
		e.resume(newRequest("/doc", "Accept-Language", "en"), en.lastID()).want(t, `"en"`)
		e.resume(newRequest("/doc", "Accept-Language", "de"), de.lastID()).want(t, `"de"`)
	})
}

// A Vary header on one view's response holds for all views of the URL.
func TestVaryOfOneViewSeparatesViewersOfAnother(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.setFunc(languages("Accept-Language"))
		byAgent := func(lang, agent string) *http.Request {
			return newRequest("/doc", "Accept-Language", lang, "User-Agent", agent)
		}
		e.subscribe(byAgent("en", "curl"))
		advance(time.Second) // so that the English view is polled first
		curl, firefox := e.subscribe(byAgent("de", "curl")), e.subscribe(byAgent("de", "firefox"))
		advance(500 * time.Millisecond)
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			return document(fmt.Sprintf("%q", r.Header.Get("User-Agent")), "Vary", "Accept-Language, User-Agent"), nil
		})
		advance(10 * time.Second)
		for v, other := range map[*viewer]string{curl: `"firefox"`, firefox: `"curl"`} {
			if got := v.got(); slices.Contains(got, other) {
				t.Errorf("a viewer got %q", got)
			}
		}
		if !firefox.hasEnded() {
			t.Error("the German viewers still share a view")
		}
	})
}

func TestResourceIsForgottenAfterLastView(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.setFunc(languages("Accept-Language"))
		de, en := e.subscribe(newRequest("/doc", "Accept-Language", "de")), e.subscribe(newRequest("/doc", "Accept-Language", "en"))
		de.leave()
		advance(time.Minute)
		if e.Known() != 2 { // the URL and the client
			t.Error("it is forgotten too early")
		}
		en.leave()
		advance(time.Minute)
		if e.Known() != 1 || e.Views() != 0 {
			t.Error("a returning viewer joins one view after another")
		}
		advance(10 * time.Minute)
		if e.Known() != 0 {
			t.Error("it is remembered for ever")
		}
		e.subscribe(newRequest("/doc", "Accept-Language", "fr")).want(t, `"fr"`)
		synctest.Wait()
	})
}
