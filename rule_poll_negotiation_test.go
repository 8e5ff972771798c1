package caddysse_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Chromium and nginx otherwise answer an EventSource from the cached JSON.
func TestResponsesThatPassPollRuleVaryByAccept(t *testing.T) {
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "max-age=3600")
		w.Header().Set("ETag", `"1"`)
		if vary := r.URL.Query()["vary"]; vary != nil {
			w.Header()["Vary"] = vary
		}
		switch {
		case r.URL.Path == "/api/hints":
			w.WriteHeader(http.StatusEarlyHints)
		case r.Header.Get("If-None-Match") != "":
			w.WriteHeader(http.StatusNotModified)
			return
		case r.URL.Path == "/api/gone":
			w.WriteHeader(http.StatusGone)
		}
		_, _ = fmt.Fprint(w, `{"n":1}`)
	})
	s := startSite(t, "", `
		sse /api/* {
			poll 1h
		}
		sse /absorbed {
			poll 1h {
				absorb
			}
		}
		@query path /query
		sse @query {
			poll 1h {
				method POST
			}
		}
		handle /api/flushed {
			test_respond flush_and_write
		}
		handle /api/set {
			header Vary Accept-Language
			respond "{}"
		}
		handle /api/error {
			error 404
		}
		handle /api/down {
			reverse_proxy 127.0.0.1:1
		}
		handle_errors {
			respond "{err.status_code}" {err.status_code}
		}
		handle {
			reverse_proxy `+backend+`
		}`)
	for _, protocol := range protocols {
		for path, want := range map[string]string{
			"/api/doc":                         "Accept",
			"/api/doc?vary=Accept-Encoding":    "Accept-Encoding, Accept",
			"/api/doc?vary=Origin,+accept":     "Origin, accept",
			"/api/doc?vary=Origin&vary=Accept": "Origin, Accept",
			"/api/doc?vary=*":                  "*",
			"/api/doc?vary=":                   "Accept",
			"/api/gone":                        "Accept",
			"/api/hints":                       "Accept",
			"/api/flushed":                     "Accept",
			"/api/set":                         "Accept-Language, Accept",
			"/api/error":                       "Accept",
			"/api/down":                        "Accept",
			"/query":                           "", // no GET to it gets a stream
			"/other":                           "", // nor to this
		} {
			for _, method := range []string{"GET", "HEAD"} {
				resp := s.doOver(protocol, method, path, "")
				if got := joined(resp.Header["Vary"]); got != want {
					t.Errorf("%s %s %s (%d) varies by %q, want %q", protocol, method, path, resp.StatusCode, got, want)
				}
			}
		}
		if resp := s.doOver(protocol, "GET", "/api/doc", "", "If-None-Match", `"1"`); resp.StatusCode != http.StatusNotModified || joined(resp.Header["Vary"]) != "Accept" {
			t.Errorf("%s: a 304 varies by %q (%d)", protocol, resp.Header["Vary"], resp.StatusCode)
		}
		if resp := s.doOver(protocol, "POST", "/api/doc", ""); joined(resp.Header["Vary"]) != "" {
			t.Errorf("%s: the response to a POST varies by %q", protocol, resp.Header["Vary"])
		}
		s.open(protocol, "/absorbed").expect("", `{"n":1}`)
		if resp := s.doOver(protocol, "GET", "/absorbed", ""); resp.Header.Get("Cache-Status") == "" || joined(resp.Header["Vary"]) != "Accept" {
			t.Errorf("%s: an absorbed response varies by %q (%q)", protocol, resp.Header["Vary"], resp.Header["Cache-Status"])
		}
	}
}

// joined returns the values of a list header without empty ones.
func joined(values []string) string {
	var members []string
	for _, v := range values {
		if v != "" {
			members = append(members, v)
		}
	}
	return strings.Join(members, ", ")
}
