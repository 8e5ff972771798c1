package caddysse

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Whatever a query names, its URLs are paths of the site: as a browser would send
// them, each once, and not too many.
func FuzzMultiplexedURLs(f *testing.F) {
	for _, query := range []string{
		"", "url=", "url=/a&url=/a&url=/b%3Fc=d", "url=//evil/", "url=/a/..%2Fb", "url=/%252e%252e/x", "url=/%5c..%5cx", "url=/a%20b%0d%0aX:y",
		"url=http://a/", "url=/a%23", "url=/caf%C3%A9?q=%C3%A9", "url=/%ff", "url=/%25zz", "URL=/a", "url=/a;url=/b", "url=%2F%2Fa", "url=/a?b=/../c", "url=*", "url=/a%00",
	} {
		f.Add(query, 2)
	}
	f.Fuzz(func(t *testing.T, query string, most int) {
		most = most&15 + 1
		urls, refused := multiplexedURLs(query, most)
		if refused != nil {
			if len(urls) > 0 || refused.Status != http.StatusBadRequest || strings.ContainsAny(refused.Reason, "\r\n") {
				t.Errorf("%q: %v, %v", query, urls, refused)
			}
			return
		}
		if len(urls) == 0 || len(urls) > most {
			t.Errorf("%q names %d URLs, which may be %d", query, len(urls), most)
		}
		seen := make(map[string]bool)
		for _, u := range urls {
			if seen[u.text] {
				t.Errorf("%q: %q occurs twice", query, u.text)
			}
			seen[u.text] = true
			target := u.url.RequestURI()
			if !strings.HasPrefix(target, "/") || strings.HasPrefix(target, "//") || strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Errorf("%q: the request target is %q", query, target)
			}
			again, err := url.ParseRequestURI(target)
			if err != nil || again.Path != u.url.Path || again.RawQuery != u.url.RawQuery || again.Host != "" || u.url.Host != "" || u.url.User != nil {
				t.Errorf("%q: %q is read as %+v, %v", query, target, again, err)
			}
		}
	})
}
