package caddysse

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// lastPlace returns the place of the last rule of a Caddyfile's only server.
func lastPlace(t *testing.T, caddyfile string) place {
	t.Helper()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatalf("%v in\n%s", err, caddyfile)
	}
	var config struct {
		Apps struct {
			HTTP struct{ Servers map[string]any }
		}
	}
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	for _, server := range config.Apps.HTTP.Servers {
		sorted, err := json.Marshal(server) // as Caddy sorts it
		if err != nil {
			t.Fatal(err)
		}
		places, err := findPlaces([]string{":80"}, sorted)
		if err != nil || len(places) == 0 {
			t.Fatalf("%v %v in %s", places, err, sorted)
		}
		return *places[len(places)-1]
	}
	t.Fatal("no server")
	panic("unreachable")
}

// unplaced is a rule whose surroundings are edited: before the rule, and before
// the block that it is in.
const unplaced = `
	@staff  client_ip 10.0.0.0/8
	@others not client_ip 10.0.0.0/8
	route {
		# beside
		handle /live* {
			route {
				# before
				sse /live/* {
					poll 1s
				}
				reverse_proxy a:1
			}
		}
	}
}
`

// replacement returns an edit that replaces a text.
func replacement(old, text string) func(string) string {
	return func(site string) string { return strings.Replace(site, old, text, 1) }
}

func before(directives string) func(string) string { return replacement("# before", directives) }
func beside(directives string) func(string) string { return replacement("# beside", directives) }

// global returns an edit that sets options of the servers, or adds what stands
// at the beginning of a Caddyfile.
func global(text string) func(string) string {
	return func(site string) string { return text + "\n" + site }
}

func servers(options string) func(string) string {
	return global("{\n servers {\n" + options + "\n}\n}")
}

func TestPlaceChangesWithWhatLeadsToTheRule(t *testing.T) {
	const users = "basic_auth {\n ann $2a$04$dB.XFy9T9hn8.Z6FlzYB3uFRli0r2TJaPV9PY7FhzinIdeQjZOl9u\n }"
	const gate = "&(gate) {\n" + users + "\n}\n"
	for name, c := range map[string]struct {
		edit           func(site string) string
		routes, passed bool // differ
	}{
		"nothing":             {before(""), false, false},
		"a backend":           {replacement("a:1", "b:2"), false, false},
		"a response header":   {before("header X-A b"), false, false},
		"compression":         {before("encode"), false, false},
		"another rule":        {before("sse /live/news {\n topic news\n }"), false, false},
		"another rule beside": {beside("sse /news {\n topic news\n }"), false, false},
		"a block beside":      {beside("handle /live/a* {\n respond a\n }"), false, false},
		"a block by method":   {beside("@post method POST\n handle @post {\n respond a\n }"), false, false},
		"another site":        {global("http://a.example.com {\n respond a\n }"), false, false},
		"a block around":      {replacement("handle /live*", "handle {\n handle /live*"), false, false},
		"a timeout":           {servers("timeouts {\n idle 1m\n }"), false, false},
		"an unused route":     {global(gate), false, false},

		"a password":           {before(users), false, true},
		"a password beside":    {beside(users), false, true},
		"a refusal":            {before("respond @others 403"), false, true},
		"a refusal beside":     {beside("abort @others"), false, true},
		"a refusal in a block": {before("route {\n header X-A b\n error @others 403\n }"), false, true},
		"a block by address":   {beside("handle @others {\n respond 403\n }"), false, true},
		"a rule by address":    {beside("sse @staff {\n topic news\n }"), false, true},
		"a block by a user":    {beside("handle /u/{http.auth.user.id}/* {\n respond a\n }"), false, true},
		"an authorizing proxy": {before("forward_auth a:2 {\n uri /auth\n }"), false, true},
		"a request header":     {before("request_header X-A b"), false, true},
		"a rewrite":            {before("rewrite /live/x"), false, true},
		"a named route":        {func(site string) string { return gate + before("invoke gate")(site) }, false, true},
		"trusted proxies":      {servers("trusted_proxies static 10.0.0.0/8"), false, true},
		"the PROXY protocol":   {servers("listener_wrappers {\n proxy_protocol\n }"), false, true},

		"the block's path":      {replacement("handle /live*", "handle /li*"), true, false},
		"the block's condition": {replacement("handle /live*", "handle @staff"), true, false},
		"a condition around":    {replacement("route {", "route @staff {"), true, false},
		"the rule's path":       {replacement("sse /live/*", "sse /live/x*"), true, false},
		"the rule's condition":  {replacement("sse /live/*", "sse @staff"), true, false},
	} {
		for kind, address := range map[string]string{"site": "http://example.com", "port": ":80"} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				site := address + " {" + unplaced
				edited := c.edit(site)
				if name == "a block around" {
					edited += "}\n"
				}
				was, is := lastPlace(t, site), lastPlace(t, edited)
				if got := was.routes != is.routes; got != c.routes {
					t.Errorf("the routes differ: %t", got)
				}
				if got := was.passed != is.passed; got != c.passed {
					t.Errorf("what requests pass differs: %t", got)
				}
			})
		}
	}
}

func TestClientCertificatesBelongToThePlace(t *testing.T) {
	const plain = "https://example.com {\n tls internal\n" + unplaced
	required := strings.Replace(plain, "tls internal", "tls internal {\n client_auth {\n mode require\n }\n }", 1)
	if lastPlace(t, plain).passed == lastPlace(t, required).passed {
		t.Error("the place is the same without client certificates")
	}
}

func TestEditOfAGateChangesThePlace(t *testing.T) {
	const gates = "&(gate) {\n request_header X-A b\n }\n http://example.com {"
	site := gates + before("invoke gate\n basic_auth {\n ann $2a$04$dB.XFy9T9hn8.Z6FlzYB3uFRli0r2TJaPV9PY7FhzinIdeQjZOl9u\n }")(unplaced)
	for _, edited := range []string{strings.Replace(site, "X-A b", "X-A c", 1), strings.Replace(site, "ann", "zoe", 1)} {
		if lastPlace(t, site).passed == lastPlace(t, edited).passed {
			t.Errorf("the place is the same in\n%s", edited)
		}
	}
}
