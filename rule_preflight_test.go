package caddysse_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// corsBackend allows one origin of its own, with cookies and one header. Its
// other responses have no CORS headers.
func corsBackend(t *testing.T) string {
	return startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if origin := r.Header.Get("Origin"); origin == "https://own.example" || origin == "https://both.example" {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Allow-Credentials", "true")
			if r.Method == http.MethodOptions {
				w.Header().Set("Access-Control-Allow-Headers", "X-Api-Key, Content-Type")
				w.Header().Set("Access-Control-Allow-Methods", "GET, PUT, POST")
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusMethodNotAllowed)
		}
		_, _ = fmt.Fprint(w, `{"n":1}`)
	})
}

// browser is what a page may do, as the Fetch standard decides about it.
type browser struct {
	*site
	protocol, origin string
	credentials      bool
}

// fetch makes a preflight if the standard asks for one, and then the request. It
// returns whether the page may read the response.
func (b *browser) fetch(method, path string, header ...string) bool {
	b.t.Helper()
	var unsafe []string
	for pair := range slices.Chunk(header, 2) {
		if pair[0] != "Accept" { // which is safelisted
			unsafe = append(unsafe, strings.ToLower(pair[0]))
		}
	}
	slices.Sort(unsafe)
	if simple := method == "GET" || method == "HEAD" || method == "POST"; !simple || len(unsafe) > 0 {
		asks := []string{"Origin", b.origin, "Access-Control-Request-Method", method, "Sec-Fetch-Mode", "cors", "Accept", "*/*"}
		if len(unsafe) > 0 {
			asks = append(asks, "Access-Control-Request-Headers", strings.Join(unsafe, ","))
		}
		resp := b.doOver(b.protocol, "OPTIONS", path, "", asks...)
		if resp.StatusCode < 200 || resp.StatusCode > 299 || !b.check(resp.Header) {
			return false
		}
		if !simple && !slices.Contains(splitList(resp.Header, "Access-Control-Allow-Methods"), strings.ToLower(method)) {
			return false
		}
		allowed := splitList(resp.Header, "Access-Control-Allow-Headers")
		for _, name := range unsafe {
			if !slices.Contains(allowed, name) && (b.credentials || name == "authorization" || !slices.Contains(allowed, "*")) {
				return false
			}
		}
	}
	header = append(header, "Origin", b.origin, "Sec-Fetch-Mode", "cors", "Sec-Fetch-Site", "cross-site")
	if slices.Contains(header, "text/event-stream") {
		c, err := b.tryOpenBy(method, "", b.protocol, path, header...)
		if err != nil {
			b.t.Fatal(err)
		}
		defer c.close()
		return b.check(c.resp.Header)
	}
	return b.check(b.doOver(b.protocol, method, path, "", header...).Header)
}

// check is the standard's CORS check.
func (b *browser) check(h http.Header) bool {
	origin := h.Values("Access-Control-Allow-Origin")
	if len(origin) != 1 || origin[0] != b.origin && (b.credentials || origin[0] != "*") {
		return false
	}
	return !b.credentials || h.Get("Access-Control-Allow-Credentials") == "true"
}

func splitList(h http.Header, name string) (members []string) {
	for _, value := range h.Values(name) {
		for member := range strings.SplitSeq(value, ",") {
			members = append(members, strings.ToLower(strings.TrimSpace(member)))
		}
	}
	return members
}

func TestPagesReadWhatRuleOrBackendAllows(t *testing.T) {
	stream := []string{"Accept", "text/event-stream"}
	traced := []string{"X-Api-Key", "k", "Baggage", "a=b", "Traceparent", "00-1-2-01"}
	backend := corsBackend(t)
	for cors, cases := range map[string][]struct {
		origin      string
		credentials bool
		method      string
		header      []string
		reads       bool
	}{
		"https://app.example https://both.example": {
			{"https://app.example", true, "GET", stream, true},
			{"https://app.example", true, "GET", append(slices.Clone(stream), traced...), true},
			{"https://app.example", false, "GET", append(slices.Clone(stream), "Last-Event-ID", "x", "Authorization", "Bearer x"), true},
			{"https://evil.example", false, "GET", stream, false},
			{"https://evil.example", false, "GET", append(slices.Clone(stream), traced...), false},
			// Ordinary requests, which the backend allows, or doesn't.
			{"https://own.example", true, "GET", nil, true},
			{"https://own.example", true, "GET", []string{"X-Api-Key", "k"}, true},
			{"https://own.example", true, "GET", traced, false},
			{"https://own.example", true, "PUT", []string{"X-Api-Key", "k"}, true},
			{"https://both.example", true, "GET", []string{"X-Api-Key", "k"}, true},
			{"https://both.example", false, "GET", traced, true},
			{"https://both.example", true, "PUT", []string{"X-Api-Key", "k"}, true},
			{"https://both.example", true, "PUT", traced, false},
			{"https://app.example", true, "GET", nil, false},
			{"https://app.example", true, "PUT", nil, false},
		},
		"*": {
			{"https://app.example", false, "GET", append(slices.Clone(stream), traced...), true},
			{"https://app.example", true, "GET", stream, false},
			{"https://own.example", true, "GET", []string{"X-Api-Key", "k"}, true},
			{"https://own.example", true, "GET", traced, false},
			{"https://own.example", false, "GET", append(slices.Clone(stream), "Last-Event-ID", "x"), true},
			{"https://own.example", true, "PUT", []string{"X-Api-Key", "k"}, true},
			{"https://app.example", true, "GET", []string{"X-Api-Key", "k"}, false},
			{"https://app.example", true, "PUT", nil, false},
		},
	} {
		s := startSite(t, "", `
			sse /api/* {
				poll 1h
				cors `+cors+`
			}
			reverse_proxy `+backend)
		for _, protocol := range protocols {
			for _, c := range cases {
				b := &browser{s, protocol, c.origin, c.credentials}
				if got := b.fetch(c.method, "/api/doc", c.header...); got != c.reads {
					t.Errorf("cors %s, %s: %s %s with %q, credentials %v: reads %v", cors, protocol, c.origin, c.method, c.header, c.credentials, got)
				}
			}
		}
	}
}

// No handler follows the rule, so Caddy would respond with an empty 200.
func TestPreflightOfTopicIsPermittedWithoutBackend(t *testing.T) {
	s := startPubsub(t, "cors *")
	for _, protocol := range protocols {
		b := &browser{s, protocol, "https://app.example", false}
		if !b.fetch("GET", "/events/news", "Accept", "text/event-stream", "X-Api-Key", "k") {
			t.Errorf("%s: the page may not read the stream", protocol)
		}
	}
}
