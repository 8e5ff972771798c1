package poll_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// The values are real ones.
var numbered = map[string][2]string{
	"X-Amz-Cf-Id":            {"kSjcHJsYGNdTqd1nZFNDsM7zxNTL2RdcUlgQZ==", "AjcHJsYGNdTqd1nZFNDsM7zxNTL2RdcUlgQa=="},
	"X-Amzn-Trace-Id":        {"Root=1-67891233-abcdef012345678912345678", "Root=1-67891234-abcdef012345678912345678"},
	"X-Azure-Ref":            {"0zxV+XAAAAABKMMOjBv2NT4TY6SQVjC0zV1NURURHRTA2MTkANDM3YzgyY2QtMzYwYS00YTU0", "0zxV+XAAAAABKMMOjBv2NT4TY6SQVjC0zV1NURURHRTA2MTkANDM3YzgyY2QtMzYwYS00YTU1"},
	"X-Arr-Log-Id":           {"b0b3c9a7-2c0b-4c3e-9c1f-0c1c2c3c4c5c", "b0b3c9a7-2c0b-4c3e-9c1f-0c1c2c3c4c5d"},
	"X-Appgw-Trace-Id":       {"ac882cd65a2712a0fe1289ec2bb6aee7", "ac882cd65a2712a0fe1289ec2bb6aee8"},
	"B3":                     {"80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1", "80f198ee56343ba864fe8b2a57d3eff8-e457b5a2e4d86bd1-1"},
	"X-B3-Traceid":           {"463ac35c9f6413ad48485a3953bb6124", "463ac35c9f6413ad48485a3953bb6125"},
	"X-B3-Spanid":            {"a2fb4a1d1a96d312", "a2fb4a1d1a96d313"},
	"X-B3-Sampled":           {"1", "0"},
	"X-Datadog-Trace-Id":     {"1234567890123456789", "1234567890123456780"},
	"X-Datadog-Parent-Id":    {"987654321", "987654320"},
	"Sentry-Trace":           {"771a43a4192642f0b136d5159a501700-7c51afd529da4a2a-1", "771a43a4192642f0b136d5159a501701-7c51afd529da4a2a-1"},
	"Fly-Request-Id":         {"01HQK8-fra", "01HQK9-fra"},
	"X-Vercel-Id":            {"fra1::iad1::xk2lw-1700000000000-0123456789ab", "fra1::iad1::xk2lx-1700000000001-0123456789ac"},
	"X-Envoy-Attempt-Count":  {"1", "2"},
	"X-Request-Id":           {"f7a1", "f7a2"},
	"X-Ot-Span-Context":      {"a;b;c;cs", "a;b;d;cs"},
	"X-Varnish":              {"32770", "32773"},
	"Uber-Trace-Id":          {"3bd2e16e7a3f:1:0:1", "3bd2e16e7a40:1:0:1"},
	"Newrelic":               {"eyJ2IjpbMCwxXX0=", "eyJ2IjpbMCwyXX0="},
	"X-Nf-Request-Id":        {"01HQ", "01HR"},
	"X-Request-Start":        {"t=1700000000000", "t=1700000000001"},
	"X-Cloud-Trace-Context":  {"105445aa7843bc8bf206b12000100000/1;o=1", "105445aa7843bc8bf206b12000100001/1;o=1"},
	"X-Shop-Correlation-Id":  {"1", "2"},
	"X-Ms-Client-Request-Id": {"1", "2"},
}

func TestHeadersThatNumberRequestsSeparateNoViewers(t *testing.T) {
	for name, values := range numbered {
		for config, c := range map[string]poll.Config{"": {}, "vary": {Vary: []string{"Authorization"}}, "share": {Share: "checked"}, "absorb": {Absorb: true}} {
			within(t, c, func(e *env) {
				e.set(asJSON("1"))
				for _, value := range values {
					e.subscribe(newRequest("/doc", name, value)).want(t, "1")
					e.subscribe(newRequest("/doc", name, value, "Authorization", "Bearer 1")).want(t, "1")
					if _, sent := e.last().Header[name]; sent {
						t.Errorf("%s, %s is sent: one viewer's decides what all get", config, name)
					}
				}
				e.subscribe(newRequest("/doc")).want(t, "1")
				if want := map[string]int{"": 2, "vary": 2, "share": 1, "absorb": 2}[config]; e.Views() != want {
					t.Errorf("%s: %s makes %d views, want %d", config, name, e.Views(), want)
				}
				if c.Absorb && !e.Absorb(httptest.NewRecorder(), with(httptest.NewRequest(http.MethodGet, "/doc", nil), func(r *http.Request) { r.Header.Set(name, "9") }), &caller{}) {
					t.Errorf("%s: an ordinary request is not absorbed", name)
				}
			})
		}
	}
}

// Whatever the pattern, a backend may take these for proof of who asks.
func TestHeaderThatMayBeACredentialMatchesNoPattern(t *testing.T) {
	for _, name := range []string{
		"X-Auth-Request-Id", "X-Session-Trace-Id", "X-User-Request-Id", "X-Tenant-Trace-Id", "X-Account-Correlation-Id", "X-Api-Key-Request-Id",
		"X-Token-Span-Id", "X-Secret-Requestid", "X-Datadog-Api-Key", "X-B3-Auth", "X-Sid-Request-Id", "X-Amzn-Oidc-Identity", "Cf-Access-Jwt-Assertion",
		"X-Auth-Request-User", "X-Customer-Request-Id", "X-Vercel-Proxy-Signature", "X-Org-Trace-Id", "X-Shop-Token", "X-Shop-User",
	} {
		within(t, poll.Config{Ignore: []string{"X-Shop-*", "*-Request-User", "X-Amzn-*"}}, func(e *env) {
			e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
				return document(fmt.Sprintf("%q", r.Header.Get(name))), nil
			})
			for _, value := range []string{"ann", "bob"} {
				e.subscribe(newRequest("/doc", name, value)).want(t, fmt.Sprintf("%q", value))
			}
			if e.Views() != 2 {
				t.Errorf("%s makes %d views", name, e.Views())
			}
		})
	}
}

func TestIgnoredHeadersSeparateNoViewersAndAreNotSent(t *testing.T) {
	within(t, poll.Config{Ignore: []string{"x-visit", "X-Shop-*", "*-Beacon", "User-Agent"}}, func(e *env) {
		for i := range 3 {
			value := fmt.Sprint(i)
			e.subscribe(newRequest("/doc", "X-Visit", value, "X-Shop-Page", value, "My-Beacon", value, "User-Agent", value)).want(t, "1")
		}
		for _, name := range []string{"X-Visit", "X-Shop-Page", "My-Beacon", "User-Agent"} {
			if got := e.last().Header[name]; len(got) > 0 {
				t.Errorf("%s: %q is sent", name, got)
			}
		}
		if e.Views() != 1 || e.polls() != 1 {
			t.Errorf("%d views, %d polls", e.Views(), e.polls())
		}
	})
}

// The backend knows better what its documents depend on.
func TestIgnoredHeaderThatVaryNamesSeparatesViewers(t *testing.T) {
	for _, name := range []string{"X-Visit", "X-Shop-Request-Id", "X-Request-Id", "X-B3-Traceid"} {
		within(t, poll.Config{Ignore: []string{"X-Visit"}, Absorb: true}, func(e *env) {
			e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
				return asJSON(fmt.Sprintf("%q", r.Header.Get(name)), "Vary", "Accept, "+strings.ToLower(name)), nil
			})
			for range 2 {
				for _, value := range []string{"ann", "bob", ""} {
					r := newRequest("/doc")
					if value != "" {
						r.Header.Set(name, value)
					}
					e.subscribe(r).want(t, fmt.Sprintf("%q", value))
				}
			}
			advance(5 * time.Second)
			for _, v := range e.viewers {
				if got := v.got(); len(got) != 1 {
					t.Errorf("%s: a viewer got %q", name, got)
				}
			}
			if e.Views() != 3 {
				t.Errorf("%s: %d views", name, e.Views())
			}
			w := httptest.NewRecorder()
			if e.Absorb(w, with(httptest.NewRequest(http.MethodGet, "/doc", nil), func(r *http.Request) { r.Header.Set(name, "eve") }), &caller{}) {
				t.Errorf("%s: a stranger got %s", name, w.Body)
			}
		})
	}
}

// A backend that begins to name a header in Vary separates the viewers that share
// a view by then.
func TestNewVaryOfIgnoredHeaderSeparatesCurrentViewers(t *testing.T) {
	within(t, poll.Config{Ignore: []string{"X-Visit"}}, func(e *env) {
		ann := e.subscribe(newRequest("/doc", "X-Visit", "ann"))
		bob := e.subscribe(newRequest("/doc", "X-Visit", "bob"))
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			return document(fmt.Sprintf("%q", r.Header.Get("X-Visit")), "Vary", "X-Visit"), nil
		})
		advance(5 * time.Second)
		for _, v := range []*viewer{ann, bob} {
			v.want(t, "1") // and nothing of the other's
			if !v.hasEnded() {
				t.Error("the stream goes on")
			}
		}
		for _, value := range []string{"ann", "bob"} {
			e.subscribe(newRequest("/doc", "X-Visit", value)).want(t, fmt.Sprintf("%q", value))
		}
	})
}

func TestVaryOptionNamesWhatIsOtherwiseIgnored(t *testing.T) {
	within(t, poll.Config{Vary: []string{"X-Shop-Request-Id"}}, func(e *env) {
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			return document(fmt.Sprintf("%q", r.Header.Get("X-Shop-Request-Id"))), nil
		})
		for _, value := range []string{"ann", "bob"} {
			e.subscribe(newRequest("/doc", "X-Shop-Request-Id", value)).want(t, fmt.Sprintf("%q", value))
		}
	})
}

func TestIgnoreThatHasNoMeaningIsRefused(t *testing.T) {
	for name, want := range map[string]string{
		"Cookie": "vary none", "authorization": "vary none", "Accept": "accept application/json", "X-Forwarded-For": "no effect",
		"Range": "no effect", "X-Forwarded-Proto": "how to read", "*": "no header name", "X-*": "too many", "X-*-Id": "no header name", "**-Beacon": "no header name",
		"*-Beacon*": "no header name", "a b": "no header name", "": "no header name", "X-Tenant": "vary X-Tenant",
	} {
		err := (&poll.Config{Ignore: []string{name}, Vary: []string{"X-Tenant"}}).Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

// The addresses are by other names, or have the port of the client's connection.
func TestPortsAndNamesOfAddressesSeparateNoViewers(t *testing.T) {
	for name, values := range map[string][3]string{ // the third is another client's
		"X-Forwarded-For":           {"203.0.113.7:51234", "203.0.113.7:51235", "203.0.113.8:51234"},
		"Client-Ip":                 {"203.0.113.7:51234", "203.0.113.7:51235", "203.0.113.8:51234"},
		"X-Told-By":                 {"203.0.113.7:51234", "203.0.113.7:51235", "203.0.113.8:51234"},
		"Forwarded":                 {`for="203.0.113.7:51234";proto=https`, `for="203.0.113.7:51235";proto=https`, `for="203.0.113.8:51235";proto=https`},
		"X-Real-Ip":                 {"[2001:db8::7]:51234", "[2001:db8::7]:51235", "[2001:db8::8]:51235"},
		"Cloudfront-Viewer-Address": {"2001:db8:0:0:0:0:0:7:51234", "2001:db8:0:0:0:0:0:7:51235", "2001:db8:0:0:0:0:0:8:51235"},
		"X-Azure-Socketip":          {"203.0.113.7", "203.0.113.7", "203.0.113.8"},
		"X-Vercel-Forwarded-For":    {"203.0.113.7, 10.0.0.1", "203.0.113.7, 10.0.0.1", "203.0.113.8, 10.0.0.1"},
		"X-Nf-Client-Connection-Ip": {"203.0.113.7", "203.0.113.7", "203.0.113.8"},
		"X-Shop-Client-Ip":          {"203.0.113.7", "203.0.113.7", "203.0.113.8"},
		"X-Original-Forwarded-For":  {"203.0.113.7:1, 198.51.100.1:2", "203.0.113.7:3, 198.51.100.1:4", "203.0.113.8, 198.51.100.1"},
		"Do-Connecting-Ip":          {"203.0.113.7", "203.0.113.7", "203.0.113.8"},
	} {
		within(t, poll.Config{}, func(e *env) {
			for i, value := range values {
				anonymous, personal := tells(caller{trusted: true}), tells(caller{trusted: true})
				e.subscribeAs(newRequest("/doc", name, value), &anonymous, "")
				if got := fmt.Sprint(e.last().Header); i == 0 && (strings.Contains(got, "203.0.113.") || strings.Contains(got, "2001:db8")) {
					t.Errorf("%s: an anonymous poll carries %s", name, got)
				}
				e.subscribeAs(newRequest("/doc", name, value, "Cookie", "s=1"), &personal, "")
				if want := []int{2, 2, 3}[i]; e.Views() != want {
					t.Errorf("%s: %q makes %d views, want %d", name, value, e.Views(), want)
				}
			}
			if got := e.last().Header[name]; strings.Contains(strings.Join(got, ""), ":5123") {
				t.Errorf("%s: %q is sent, with a viewer's port", name, got)
			}
		})
	}
}

// A backend may take the lack of the header for a client of its own network, and
// a value that is no address for anything.
func TestHeaderNamedLikeAnAddressSeparatesViewersByWhatItHolds(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			return document(fmt.Sprintf("%q", r.Header.Get("X-Shop-Client-Ip"))), nil
		})
		for value, want := range map[string]string{"": `""`, "203.0.113.7": `"0.0.0.0"`, "10.0.0.1": `"0.0.0.0"`, "ann": `"ann"`, "bob, 10.0.0.1": `"bob, 10.0.0.1"`} {
			r := newRequest("/doc")
			if value != "" {
				r.Header.Set("X-Shop-Client-Ip", value)
			}
			e.subscribe(r).want(t, want)
		}
		if e.Views() != 4 {
			t.Errorf("%d views", e.Views())
		}
	})
}

func TestLogAndListNameTheHeaderThatSeparatesViews(t *testing.T) {
	for name, c := range map[string]struct {
		a, b           []string
		header, advice string
	}{
		"a header":     {[]string{"X-Visit", "1"}, []string{"X-Visit", "2"}, "X-Visit", "`ignore X-Visit`"},
		"or its lack":  {[]string{"X-Visit", "1"}, nil, "X-Visit", "`ignore X-Visit`"},
		"beside hints": {[]string{"X-Visit", "1", "User-Agent", "a"}, []string{"X-Visit", "2", "User-Agent", "b"}, "X-Visit", "`ignore X-Visit`"},
		"a cookie":     {[]string{"Cookie", "s=1; ads=1"}, []string{"Cookie", "s=1; ads=2"}, "Cookie", "`vary Cookie:session`"},
		"a token":      {[]string{"Authorization", "a"}, []string{"Authorization", "b"}, "Authorization", "`share`"},
		"Accept":       {[]string{"Accept", "text/html"}, []string{"Accept", "text/plain"}, "Accept", "`accept application/json`"},
		"two headers":  {[]string{"X-Visit", "1", "X-Page", "1"}, []string{"X-Visit", "2", "X-Page", "2"}, "", ""},
		"addresses":    {[]string{"Cookie", "a=1", "X-Real-Ip", "10.0.0.1"}, []string{"Cookie", "a=1", "X-Real-Ip", "10.0.0.2"}, "", ""},
		"the scheme":   {[]string{"X-Forwarded-Proto", "http"}, []string{"X-Forwarded-Proto", "https"}, "X-Forwarded-Proto", "proxies in front"},
	} {
		t.Run(name, func(t *testing.T) {
			core, logs := observer.New(zapcore.InfoLevel)
			withLog(t, poll.Config{}, zap.New(core), func(e *env) {
				for range 3 {
					e.subscribe(newRequest("/doc?token=geheim", c.a...))
					e.subscribe(newRequest("/doc?token=geheim", c.b...))
				}
				e.subscribe(newRequest("/other", c.b...))
				var lines []string
				for _, line := range logs.FilterMessageSnippet("because of one header").All() {
					lines = append(lines, fmt.Sprint(line.ContextMap()))
				}
				if c.header == "" && len(lines) > 0 || c.header != "" && (len(lines) != 1 || !strings.Contains(lines[0], "header:"+c.header) || !strings.Contains(lines[0], c.advice)) {
					t.Errorf("the log has %q", lines)
				}
				if strings.Contains(fmt.Sprint(lines), "geheim") {
					t.Errorf("the log has the query: %q", lines)
				}
				for _, info := range e.List() {
					if want := c.header; info.Path == "/doc" && (info.DiffersBy != want || !strings.Contains(info.Advice, c.advice)) || info.Path == "/other" && info.DiffersBy != "" {
						t.Errorf("%s differs by %q: %q", info.Path, info.DiffersBy, info.Advice)
					}
				}
			})
		})
	}
}

func TestHeadersThatTheRuleNamesAreNoSurprise(t *testing.T) {
	for _, c := range []poll.Config{{Vary: []string{"X-Tenant"}}, {Share: "checked", Vary: []string{"X-Tenant"}}} {
		within(t, c, func(e *env) {
			for _, tenant := range []string{"a", "b"} {
				e.subscribe(newRequest("/doc", "X-Tenant", tenant, "Authorization", tenant))
			}
			for _, info := range e.List() {
				if info.DiffersBy != "" {
					t.Errorf("%+v: %+v", c.Vary, info)
				}
			}
		})
	}
}

// Strangers choose the names of their headers.
func TestLogNamesFewHeadersThatSeparateViews(t *testing.T) {
	core, logs := observer.New(zapcore.InfoLevel)
	withLog(t, poll.Config{}, zap.New(core), func(e *env) {
		e.subscribe(newRequest("/doc"))
		for i := range 100 {
			e.subscribe(newRequest("/doc", fmt.Sprintf("X-%d", i), "1")).leave()
		}
	})
	if n := logs.FilterMessageSnippet("because of one header").Len(); n == 0 || n > 10 {
		t.Errorf("%d lines", n)
	}
}

// withLog is within, with a log.
func withLog(t *testing.T, c poll.Config, log *zap.Logger, test func(e *env)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newEnvWith(t, c, store.NewMemory(), log, nil)
		defer e.end()
		test(e)
	})
}

func FuzzAddresses(f *testing.F) {
	for _, s := range []string{"203.0.113.7:51234", "[2001:db8::1]:1, 10.0.0.1", `for="[2001:db8::1]:4711";by=x`, "for=1.2.3.4:5, for=_x:_y", "::1:443", ":", ",,", "1.2.3.4:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		for _, name := range []string{"X-Forwarded-For", "Forwarded", "Cloudfront-Viewer-Address"} {
			once := poll.WithoutPorts(name, value)
			if strings.Count(once, ",") != strings.Count(value, ",") || len(once) > len(value) {
				t.Errorf("%s: %q becomes %q", name, value, once)
			}
		}
	})
}
