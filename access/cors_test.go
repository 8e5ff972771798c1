package access_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/access"
)

func cors(t *testing.T, origins ...string) *access.CORS {
	t.Helper()
	c, err := access.NewCORS(origins, "")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func from(method, origin string) *http.Request {
	r := httptest.NewRequest(method, "/events", nil)
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	return r
}

func TestInvalidOriginIsRefused(t *testing.T) {
	for _, origin := range []string{
		"", "app.example.com", "https://", "https://app.example.com/", "https://app.example.com/path", "https://a@app.example.com", "null",
		"https://app.example.com?x", "https://app.example.com#x", "//app.example.com", "HTTPS://app.example.com", "https:app.example.com", "**",
		"https://*.example.com", "https://app.example.com:443", "http://app.example.com:80", "https://app.example.com:",
	} {
		if _, err := access.NewCORS([]string{origin}, ""); err == nil {
			t.Errorf("%q is accepted", origin)
		}
	}
	if _, err := access.NewCORS([]string{"https://app.example.com", "*"}, ""); err == nil || !strings.Contains(err.Error(), "https://app.example.com") {
		t.Errorf("* and an origin: %v", err)
	}
	for _, origin := range []string{"https://app.example.com", "https://App.Example.com", "http://localhost:3000", "https://[::1]:8443", "app://x", "https://app.example.com:80"} {
		if _, err := access.NewCORS([]string{origin}, ""); err != nil {
			t.Error(err)
		}
	}
}

func TestOnlyExactOriginsMayRead(t *testing.T) {
	c := cors(t, "https://app.example.com", "http://localhost:3000")
	for origin, allowed := range map[string]bool{
		"https://app.example.com":           true,
		"HTTPS://APP.example.com":           true,
		"http://localhost:3000":             true,
		"":                                  false,
		"null":                              false,
		"*":                                 false,
		"http://app.example.com":            false,
		"https://app.example.com:444":       false,
		"https://app.example.com.evil.test": false,
		"https://evilapp.example.com":       false,
		"https://x.app.example.com":         false,
		"https://app-example.com":           false,
		"https://app.example.co":            false,
		"https://app.example.com/":          false,
		"https://app.example.com, https://evil.test": false,
		"http://localhost":                           false,
		"http://localhost:300":                       false,
	} {
		h := make(http.Header)
		c.SetHeaders(h, from(http.MethodGet, origin))
		want := http.Header{"Vary": {"Origin"}}
		if allowed {
			want.Set("Access-Control-Allow-Origin", origin)
			want.Set("Access-Control-Allow-Credentials", "true")
		}
		if !sameHeaders(h, want) {
			t.Errorf("%q: %v, want %v", origin, h, want)
		}
	}
}

func sameHeaders(a, b http.Header) bool {
	for name := range a {
		if !slices.Equal(a[name], b[name]) {
			return false
		}
	}
	return len(a) == len(b)
}

func TestAnyOriginAllowsNoCredentials(t *testing.T) {
	c := cors(t, "*")
	for _, origin := range []string{"", "null", "https://evil.test"} {
		h := make(http.Header)
		c.SetHeaders(h, from(http.MethodGet, origin))
		if !sameHeaders(h, http.Header{"Access-Control-Allow-Origin": {"*"}}) {
			t.Errorf("%q: %v", origin, h)
		}
	}
}

func TestNoOriginsMeansNoCORSHeaders(t *testing.T) {
	for _, c := range []*access.CORS{cors(t), new(access.CORS)} {
		h := make(http.Header)
		c.SetHeaders(h, from(http.MethodGet, "https://app.example.com"))
		if len(h) > 0 {
			t.Errorf("%v", h)
		}
		if w, ok := preflight(c, "https://app.example.com", "GET"); ok || len(w.Header()) > 0 {
			t.Errorf("%v", w.Header())
		}
	}
}

func TestCORSKeepsEarlierVary(t *testing.T) {
	h := http.Header{"Vary": {"Accept"}}
	cors(t, "https://app.example.com").SetHeaders(h, from(http.MethodGet, ""))
	if !slices.Equal(h["Vary"], []string{"Accept", "Origin"}) {
		t.Errorf("%q", h["Vary"])
	}
}

// preflight sends a browser's preflight request.
func preflight(c *access.CORS, origin, method string) (*httptest.ResponseRecorder, bool) {
	r := from(http.MethodOptions, origin)
	r.Header.Set("Access-Control-Request-Method", method)
	r.Header.Set("Access-Control-Request-Headers", "baggage,last-event-id,traceparent,x-api-key")
	w := httptest.NewRecorder()
	ok := c.IsPreflight(r)
	if ok {
		c.RespondToPreflight(w, r)
	}
	return w, ok
}

func TestPreflightPermitsTheHeadersThatItAsksFor(t *testing.T) {
	w, ok := preflight(cors(t, "https://app.example.com"), "https://app.example.com", "GET")
	want := http.Header{
		"Vary":                             {"Origin"},
		"Access-Control-Allow-Origin":      {"https://app.example.com"},
		"Access-Control-Allow-Credentials": {"true"},
		"Access-Control-Allow-Methods":     {"GET"},
		"Access-Control-Allow-Headers":     {"Last-Event-ID, Cache-Control, Authorization, baggage, traceparent, x-api-key"},
		"Access-Control-Max-Age":           {"7200"},
	}
	if !ok || w.Code != http.StatusNoContent || !sameHeaders(w.Header(), want) {
		t.Errorf("%v %d %v", ok, w.Code, w.Header())
	}
	w, ok = preflight(cors(t, "*"), "null", "GET")
	if !ok || w.Header().Get("Access-Control-Allow-Origin") != "*" || w.Header().Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%v %v", ok, w.Header())
	}
}

func TestOtherOptionsRequestsPass(t *testing.T) {
	c := cors(t, "https://app.example.com")
	plain := from(http.MethodOptions, "https://app.example.com")
	get := from(http.MethodGet, "https://app.example.com")
	get.Header.Set("Access-Control-Request-Method", "GET")
	for name, r := range map[string]*http.Request{"a plain OPTIONS": plain, "a GET": get} {
		if c.IsPreflight(r) {
			t.Errorf("%s counts as a preflight", name)
		}
	}
	for _, request := range [][2]string{
		{"https://app.example.com", "POST"}, {"https://app.example.com", "get"}, {"https://app.example.com", ""},
		{"https://evil.test", "GET"}, {"null", "GET"}, {"", "GET"},
	} {
		if w, ok := preflight(c, request[0], request[1]); ok || len(w.Header()) > 0 {
			t.Errorf("%q: %v", request, w.Header())
		}
	}
}

// A cross-origin page can't make a polled document of a POST with its user's
// credentials: the polls don't carry the Origin header that the backend would check.
func TestCrossOriginPostIsUntrusted(t *testing.T) {
	const own, named, other = "http://example.com", "https://app.example.com", "https://other.example"
	for _, c := range []struct {
		method, origin, site, cookie string
		origins                      []string
		untrusted                    bool
	}{
		{method: "POST"}, // curl
		{method: "POST", origin: own},
		{method: "POST", origin: own, site: "same-origin"},
		{method: "POST", site: "none"},
		{method: "POST", origin: other, untrusted: true},
		{method: "POST", origin: "null", untrusted: true},
		{method: "POST", origin: other, site: "cross-site", untrusted: true},
		{method: "POST", site: "cross-site", untrusted: true},
		{method: "POST", origin: named, site: "same-site", untrusted: true},
		{method: "POST", origin: named, site: "same-site", origins: []string{named}},
		{method: "POST", origin: other, site: "cross-site", origins: []string{named}, untrusted: true},
		{method: "POST", origin: other, site: "cross-site", origins: []string{"*"}},
		{method: "POST", origin: other, site: "cross-site", cookie: "a=b", origins: []string{"*"}, untrusted: true},
		{method: "POST", origin: own, site: "same-origin", cookie: "a=b", origins: []string{"*"}},
		{method: "GET", origin: other, site: "cross-site", cookie: "a=b"},
	} {
		r := from(c.method, c.origin)
		for name, value := range map[string]string{"Sec-Fetch-Site": c.site, "Cookie": c.cookie} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		if got := cors(t, c.origins...).IsUntrustedOrigin(r); got != c.untrusted {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestPreflightPermitsOnlyHeaderNames(t *testing.T) {
	for requested, want := range map[string]string{
		"":                         "",
		" , x-a,,X-B\t,x-a,x b,ä,": ", x-a, X-B",
		"AUTHORIZATION,*":          ", *",
		strings.Repeat("x,", 20):   ", x",
	} {
		r := from(http.MethodOptions, "https://app.example.com")
		r.Header.Set("Access-Control-Request-Method", "GET")
		r.Header.Set("Access-Control-Request-Headers", requested)
		w := httptest.NewRecorder()
		cors(t, "https://app.example.com").RespondToPreflight(w, r)
		if got := w.Header().Get("Access-Control-Allow-Headers"); got != "Last-Event-ID, Cache-Control, Authorization"+want {
			t.Errorf("%q: %q", requested, got)
		}
	}
}

func TestBackendPermitsCredentialsOnlyToTheWholeRequest(t *testing.T) {
	good := http.Header{
		"Access-Control-Allow-Origin":      {"https://app.example.com"},
		"Access-Control-Allow-Credentials": {"true"},
		"Access-Control-Allow-Headers":     {"X-Api-Key, Content-Type", "Baggage"},
	}
	r := from(http.MethodOptions, "https://app.example.com")
	r.Header.Set("Access-Control-Request-Headers", "baggage,x-api-key")
	for _, status := range []int{200, 204} {
		if !access.PermitsCredentials(r, status, good) {
			t.Errorf("%d permits nothing", status)
		}
	}
	for _, status := range []int{101, 301, 401, 405, 502} {
		if access.PermitsCredentials(r, status, good) {
			t.Errorf("%d permits credentials", status)
		}
	}
	for _, c := range [][2]string{
		{"Access-Control-Allow-Origin", "*"}, {"Access-Control-Allow-Origin", "https://other.example"}, {"Access-Control-Allow-Origin", ""},
		{"Access-Control-Allow-Credentials", "TRUE"}, {"Access-Control-Allow-Credentials", ""},
		{"Access-Control-Allow-Headers", "*"}, {"Access-Control-Allow-Headers", "X-Api-Key"}, {"Access-Control-Allow-Headers", ""},
	} {
		h := good.Clone()
		h.Set(c[0], c[1])
		if access.PermitsCredentials(r, 204, h) {
			t.Errorf("%v permits credentials", h)
		}
	}
}
