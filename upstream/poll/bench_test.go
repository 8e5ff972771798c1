package poll_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// BenchmarkAbsorb measures an ordinary GET while a thousand documents are
// polled: a GET of another document, and a GET of one of these.
func BenchmarkAbsorb(b *testing.B) {
	c := poll.Config{Interval: caddy.Duration(time.Hour), Timeout: 3 * second, Absorb: true}
	e := newEnv(b, c, store.NewMemory())
	e.set(asJSON(spaced))
	for i := range 1000 {
		r := newRequest(fmt.Sprintf("/v1/orders/%d", i))
		viewing, _, err := e.Subscribe(r, &caller{backend: e.backend})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(viewing.Close)
	}
	b.Cleanup(e.Retire)
	for _, ordinary := range []struct {
		name, path string
		absorbed   bool
	}{{"without viewers", "/assets/app.js", false}, {"with viewers", "/v1/orders/7", true}} {
		b.Run(ordinary.name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, ordinary.path, nil)
			for name, value := range map[string]string{
				"Accept":          "*/*",
				"Accept-Encoding": "gzip, deflate, br, zstd",
				"Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
				"Referer":         "http://example.com/orders",
				"Sec-Fetch-Dest":  "empty",
				"Sec-Fetch-Mode":  "cors",
				"Sec-Fetch-Site":  "same-origin",
				"User-Agent":      "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
			} {
				r.Header.Set(name, value)
			}
			b.ReportAllocs()
			for b.Loop() {
				if e.Absorb(httptest.NewRecorder(), r, &caller{backend: e.backend}) != ordinary.absorbed {
					b.Fatalf("absorbed: %v", !ordinary.absorbed)
				}
			}
		})
	}
}

// BenchmarkReadDocument measures what it takes to make a document of 1 MiB of a
// poll's response: to validate it, and to decode what isn't plain UTF-8.
func BenchmarkReadDocument(b *testing.B) {
	doc := string(shaped(0, 1<<20, 1))
	for _, c := range []struct{ name, contentType, body string }{
		{"no type", "", doc},
		{"JSON", "application/json; charset=utf-8", doc},
		{"with a byte order mark", "application/json", "\xEF\xBB\xBF" + doc},
		{"ISO-8859-1", "application/json; charset=iso-8859-1", strings.NewReplacer("ü", "\xfc", "ö", "\xf6").Replace(doc)},
		{"not UTF-8", "application/json", strings.Replace(doc, "ü", "\xfc", 1)},
	} {
		b.Run(c.name, func(b *testing.B) {
			resp := document(c.body, "Content-Type", c.contentType)
			b.SetBytes(int64(len(c.body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := poll.ReadDocument(resp); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
