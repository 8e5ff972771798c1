package access_test

import (
	"bufio"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/caddy-sse/caddy-sse/access"
)

func uri(t testing.TB, src string) *access.URITemplate {
	t.Helper()
	u, err := access.NewURITemplate(src)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestValueStaysInItsSegmentOrParameter(t *testing.T) {
	for _, c := range []struct{ template, value, want string }{
		{"/api/{a}", "17", "/api/17"},
		{"/api/{a}", "a b?c#d&e=f;g,h", "/api/a%20b%3Fc%23d&e=f%3Bg%2Ch"},
		{"/api/{a}/items", "é", "/api/%C3%A9/items"},
		{"/api/{a}", "50%", "/api/50%25"},
		{"/api/{a}", "v1.2", "/api/v1.2"},
		{"/api/{a}", "{env.HOME}", "/api/%7Benv.HOME%7D"},
		{"/api/{a}", "...", "/api/..."},
		{"/api/file.{a}", "..", "/api/file..."},
		{"/may?repo={a}", "owner/name", "/may?repo=owner%2Fname"},
		{"/may?repo={a}&x=1", "a&x=2#?;+ %2e", "/may?repo=a%26x%3D2%23%3F%3B%2B+%252e&x=1"},
		{"/may?who=ann&repo=r-{a}", "..", "/may?who=ann&repo=r-.."},
		{"/api/{a}?x={a}", strings.Repeat("x", 1024), "/api/" + strings.Repeat("x", 1024) + "?x=" + strings.Repeat("x", 1024)},
		{"/api/me", "", "/api/me"},
		{"/", "", "/"},
	} {
		got, err := uri(t, c.template).Expand(map[string]string{"a": c.value})
		if err != nil || got != c.want {
			t.Errorf("%s with %q: %q, %v; want %q", c.template, c.value, got, err, c.want)
		}
	}
}

func TestPathChangingValueIsRefused(t *testing.T) {
	for _, template := range []string{"/api/{a}", "/api/{a}/items", "/api/{a}?x=1"} {
		for _, value := range []string{
			"", ".", "..", "../admin", "17/../../admin", "/", "a/", "/a", "a//b", `..\admin`, `\`, "%2e%2e", "%2E%2e%2fadmin", "a%2fb", "%5c", "%252e", "a%25",
			"..;", ".;x", "..;/admin", "a\r\nHost: x", "a\nb", "a\x00", "%0d%0a", "%00", "\x7f", "\xff", strings.Repeat("x", 1025),
		} {
			if got, err := uri(t, template).Expand(map[string]string{"a": value}); err == nil {
				t.Errorf("%s with %.40q: %.80q", template, value, got)
			}
		}
	}
	for _, value := range []string{"", "a\r\nb", "\x00", "\xff", strings.Repeat("x", 1025)} {
		if got, err := uri(t, "/may?x={a}").Expand(map[string]string{"a": value}); err == nil {
			t.Errorf("the parameter %.40q: %.80q", value, got)
		}
	}
	if got, err := uri(t, "/api/{a}{b}/x").Expand(map[string]string{"a": ".", "b": "."}); err == nil {
		t.Errorf("two dots make %q", got)
	}
	if got, err := uri(t, "/api/.{a}").Expand(map[string]string{"a": "."}); err == nil {
		t.Errorf("two dots make %q", got)
	}
}

func TestTemplateMustBePath(t *testing.T) {
	for _, template := range []string{
		"", "api", "{a}", "https://elsewhere.example/x", "//elsewhere.example/x", "/a/../b", "/a/./b", "/a//b", `/a\b`, "/a#b", "/a b", "/%zz", "/a?{b}=1", "/a?x{b}=1", "/a?b={c", "/a?b={file./etc/passwd}", "/a?x=1;y=2",
		"/a/{", "/a/{}", "/{file./etc/passwd}", "/a{http.request.uri.path}", "/a/\r\n", "?a=b",
	} {
		if _, err := access.NewURITemplate(template); err == nil || strings.Contains(err.Error(), "‡") {
			t.Errorf("%q: %v", template, err)
		}
	}
	for _, template := range []string{"/", "/a/", "/a/{b}/", "/{a}", "/a.b/{c}.json?d={e}&f=g", "/%C3%A9", "/a?b"} {
		if _, err := access.NewURITemplate(template); err != nil {
			t.Errorf("%q: %v", template, err)
		}
	}
}

// Expand either fails, or a backend that parses the URI finds the template's
// segments and parameters with exactly the given values.
func FuzzURI(f *testing.F) {
	for _, v := range []string{"17", "..", "%2e%2e%2f", `..\x`, "a?b#c&d=e;f", "a\r\nb: c", "/", "é/", "..;", "+ %", "\xff", "\u2025", ":80", "@evil"} {
		f.Add(v, "b", "c")
		f.Add("a", v, v)
	}
	u := uri(f, "/api/{a}/x{b}.json/{c}?q={a}&r=1-{c}&s=fixed")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		got, err := u.Expand(map[string]string{"a": a, "b": b, "c": c})
		if err != nil {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + got + " HTTP/1.1\r\nHost: x\r\n\r\n")))
		if err != nil {
			t.Fatalf("%q can't be read: %v", got, err)
		}
		if want := []string{"", "api", a, "x" + b + ".json", c}; !slices.Equal(strings.Split(r.URL.Path, "/"), want) {
			t.Errorf("%q has the segments %q, want %q", got, strings.Split(r.URL.Path, "/"), want)
		}
		if n := strings.Count(r.URL.EscapedPath(), "/"); n != 4 {
			t.Errorf("%q has %d slashes", got, n)
		}
		twice, err := url.PathUnescape(r.URL.Path)
		if clean := path.Clean(strings.ReplaceAll(twice, `\`, "/")); err == nil && clean != twice {
			t.Errorf("%q decoded twice is %q, which is %q", got, twice, clean)
		}
		if strings.ContainsFunc(r.URL.Path, unicode.IsControl) && strings.ContainsAny(r.URL.Path, "\r\n\x00") {
			t.Errorf("%q holds control characters", got)
		}
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil || len(query) != 3 || !slices.Equal(query["q"], []string{a}) || !slices.Equal(query["r"], []string{"1-" + c}) || !slices.Equal(query["s"], []string{"fixed"}) {
			t.Errorf("%q has the parameters %q, %v", got, query, err)
		}
		if r.Host != "x" || r.URL.Host != "" || r.URL.Scheme != "" {
			t.Errorf("%q goes to another host", got)
		}
	})
}
