package caddysse_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// byForwardedFor makes the tests' clients tell their addresses by a header.
const byForwardedFor = "servers {\ntrusted_proxies static 127.0.0.1/32\n}"

const (
	bannedIP  = "203.0.113.9"
	allowedIP = "198.51.100.7"
)

// banned is a site whose document no client with a banned address may read. The
// gate stands behind the rule.
func banned(before, options, gate, backend string) string {
	return fmt.Sprintf("%s\nsse /doc/* {\npoll 200ms {\n%s\n}\n}\n%s\nreverse_proxy %s", before, options, gate, backend)
}

// Caddy orders sse before the directives that refuse requests.
func TestBanByAddressReachesStreams(t *testing.T) {
	backend := startBackend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `"secret"`) })
	for name, c := range map[string]struct{ before, options, gate string }{
		"respond":                {"", "", "@b client_ip 203.0.113.0/24\nrespond @b 403"},
		"error":                  {"", "", "@b client_ip 203.0.113.0/24\nerror @b 403"},
		"a list of the admitted": {"", "", "@b not client_ip 198.51.100.0/24 0.0.0.0\nrespond @b 403"},
		"an expression":          {"", "", "@b expression `client_ip('203.0.113.0/24')`\nrespond @b 403"},
		"a header":               {"", "", "@b header X-Forwarded-For 203.0.113.9\nrespond @b 403"},
		"a regular expression":   {"", "", "@b header_regexp X-Forwarded-For ^203\nrespond @b 403"},
		"a block":                {"", "", "@b client_ip 203.0.113.0/24\nhandle @b {\nrespond 403\n}"},
		"a block in a block":     {"", "", "route {\n@b client_ip 203.0.113.0/24\nroute {\nrespond @b 403\n}\n}"},
		"a variable":             {"", "", "@b client_ip 203.0.113.0/24\n@v vars banned yes\nroute {\nvars @b banned yes\nrespond @v 403\n}"},
		"a name of a map":        {"map {client_ip} {banned} {\n203.0.113.9 yes\ndefault no\n}", "", "@b expression `{banned} == 'yes'`\nrespond @b 403"},
		"a status of a map":      {"map {client_ip} {answer} {\n203.0.113.9 403\ndefault 200\n}", "", "@b not vars {answer} 200\nrespond @b \"\" {answer}"},
		"vary none":              {"", "vary none", "@b client_ip 203.0.113.0/24\nrespond @b 403"},
		"share":                  {"", "share", "@b client_ip 203.0.113.0/24\nrespond @b 403"},
		"share unchecked":        {"", "share unchecked", "@b client_ip 203.0.113.0/24\nrespond @b 403"},
		"absorb":                 {"", "absorb", "@b client_ip 203.0.113.0/24\nrespond @b 403"},
		"without a cookie":       {"", "vary Cookie", "@b client_ip 203.0.113.0/24\nrespond @b 403"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, byForwardedFor, banned(c.before, c.options, c.gate, backend))
			for _, protocol := range protocols {
				s.open(protocol, "/doc/x", "X-Forwarded-For", allowedIP).expect("", `"secret"`)
			}
			for range 2 { // also a client that comes back
				s.refusesBanned("/doc/x")
				s.refusesBanned("/doc/first")
				s.refusesBanned("/doc/x", "Cookie", "a=1")
			}
		})
	}
}

// refusesBanned checks that neither a stream nor an ordinary request gets
// anything for the banned address.
func (s *site) refusesBanned(path string, header ...string) {
	s.t.Helper()
	header = append([]string{"X-Forwarded-For", bannedIP}, header...)
	if resp := s.do("GET", path, "", header...); resp.StatusCode != http.StatusForbidden {
		s.t.Errorf("an ordinary request gets %d %q", resp.StatusCode, resp.body)
	}
	for _, protocol := range protocols {
		ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
		defer cancel()
		resp, err := s.send(ctx, protocol, "GET", path, "", append([]string{"Accept", "text/event-stream"}, header...)...)
		if err != nil {
			s.t.Fatalf("%s: %v", protocol, err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			s.t.Errorf("%s: a request for a stream of %s gets %s", protocol, path, resp.Status)
		}
	}
}

func TestAbortReachesStreams(t *testing.T) {
	backend := startBackend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `"secret"`) })
	s := startSite(t, byForwardedFor, banned("", "", `
	sse /topic {
		topic secrets
		authorize /doc/topic
	}
	@b client_ip 203.0.113.0/24
	abort @b
	@all path /doc/none
	abort @all`, backend))
	for _, protocol := range protocols {
		s.open(protocol, "/doc/x", "X-Forwarded-For", allowedIP).expect("", `"secret"`)
		for _, path := range []string{"/doc/x", "/doc/first", "/doc/none", "/topic"} {
			for _, cookie := range []string{"", "a=1"} {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				resp, err := s.send(ctx, protocol, "GET", path, "", "Accept", "text/event-stream", "X-Forwarded-For", bannedIP, "Cookie", cookie)
				if err == nil {
					resp.Body.Close()
					t.Errorf("%s: %s is answered with %s", protocol, path, resp.Status)
				} else if ctx.Err() != nil {
					t.Errorf("%s: %s isn't aborted: %v", protocol, path, err)
				}
			}
		}
	}
}

// A check costs the backend a request. A rule makes it only where an address can
// decide, and once for an address.
func TestAddressIsCheckedOnlyWhereItDecides(t *testing.T) {
	const ban = "@b client_ip 203.0.113.0/24\nrespond @b 403\n"
	for name, c := range map[string]struct {
		options, gate string
		checks        float64
	}{
		"no gate":               {"", "", 0},
		"a path":                {"", "respond /doc/secret 403", 0},
		"a host and a header":   {"", "@x {\nhost a.example.com\nheader X-A b\nmethod POST\n}\nrespond @x 403", 0},
		"an expression":         {"", "@x expression `method('POST') || {header.X-A} == 'b'`\nrespond @x 403", 0},
		"a password elsewhere":  {"", "basic_auth /admin/* {\nann $2a$04$dB.XFy9T9hn8.Z6FlzYB3uFRli0r2TJaPV9PY7FhzinIdeQjZOl9u\n}", 0},
		"a ban":                 {"", ban, 2},
		"a ban, off":            {"check_addresses off", ban, 0},
		"no gate, on":           {"check_addresses on", "", 2},
		"no gate, on by a flag": {"check_addresses", "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			backend := startBackend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `"x"`) })
			hub := newHubName()
			s := watchedSite(t, byForwardedFor+"\nsse "+hub, strings.Replace(banned("", "max 1h\n"+c.options, c.gate, backend), "poll", "hub "+hub+"\npoll", 1))
			for range 3 {
				for _, address := range []string{allowedIP, "198.51.100.8"} {
					s.open("HTTP/2.0", "/doc/x", "X-Forwarded-For", address).expect("", `"x"`)
				}
			}
			if got := s.scrape(hub)[`polls_total{result="asked",rule="/doc/*"}`]; got != c.checks {
				t.Errorf("%v checks, want %v", got, c.checks)
			}
		})
	}
}

// A gate that stands before the rule needs no check.
func TestGateBeforeTheRuleNeedsNoCheck(t *testing.T) {
	backend := startBackend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `"x"`) })
	hub := newHubName()
	s := watchedSite(t, byForwardedFor+"\nsse "+hub, `
	route {
		@b client_ip 203.0.113.0/24
		respond @b 403
		sse /doc/* {
			hub `+hub+`
			poll 200ms
		}
		reverse_proxy `+backend+`
	}`)
	s.open("HTTP/1.1", "/doc/x", "X-Forwarded-For", allowedIP).expect("", `"x"`)
	s.refusesBanned("/doc/x")
	if got := s.scrape(hub)[`polls_total{result="asked",rule="/doc/*"}`]; got != 0 {
		t.Errorf("%v checks", got)
	}
}

// A rule of topics makes no request of the backend, so a ban behind it has no
// effect on streams. The log says so when the configuration is loaded.
func TestBanBehindTopicsIsWarnedOf(t *testing.T) {
	const ban = "@b client_ip 203.0.113.0/24\nrespond @b 403\n"
	for name, c := range map[string]struct {
		directives string
		warned     bool
	}{
		"behind":             {"sse /news {\ntopic news\n}\n" + ban, true},
		"before":             {"route {\n" + ban + "sse /news {\ntopic news\n}\n}", false},
		"with authorization": {"sse /news {\ntopic news\nauthorize /may\n}\n" + ban, false},
	} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "log")
			startSite(t, "log everything {\n output file "+log+" {\n roll_disabled\n }\n}", c.directives)
			content, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(string(content), "what refuses clients by their addresses stands behind the rule"); got != c.warned {
				t.Errorf("%t: %s", got, content)
			}
		})
	}
}
