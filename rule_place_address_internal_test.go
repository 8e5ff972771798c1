package caddysse

import (
	"strings"
	"testing"
)

// An address may decide what the module can't rule out. A check of each viewer
// costs the backend a request, so what is common and harmless is known.
func TestConfigurationShowsWhetherAddressDecidesBehindTheRule(t *testing.T) {
	const hash = "$2a$04$dB.XFy9T9hn8.Z6FlzYB3uFRli0r2TJaPV9PY7FhzinIdeQjZOl9u"
	for name, c := range map[string]struct {
		behind string
		want   bool
	}{
		"nothing":                   {"", false},
		"a path":                    {"respond /secret 403", false},
		"a method":                  {"@x method POST\nrespond @x 405", false},
		"a header":                  {"@x header X-Api-Key a\nrespond @x 403", false},
		"a protocol and a query":    {"@x {\nprotocol https\nquery a=b\n}\nrespond @x 403", false},
		"a password":                {"basic_auth {\nann " + hash + "\n}", false},
		"PHP":                       {"root * /srv\nphp_fastcgi localhost:9000\nfile_server", false},
		"compression":               {"encode\nheader X-A b", false},
		"an authorizing proxy":      {"forward_auth localhost:1 {\nuri /auth\ncopy_headers Remote-User\n}", false},
		"the address for a backend": {"reverse_proxy localhost:2 {\nheader_up X-Real-IP {remote_host}\n}", false},
		"an expression":             {"@x expression `path('/a*') && {method} == 'GET' && {uri}.startsWith('/a') && !(header({'X-A': 'b'}))`\nrespond @x 403", false},
		"a redirect":                {"redir /old /new", false},
		"a response by status":      {"reverse_proxy localhost:2 {\n@e status 500\nhandle_response @e {\nrespond sorry 200\n}\n}", false},
		"a document of the address": {"respond {client_ip}", false},

		"remote_ip":                        {"@x remote_ip 10.0.0.0/8\nrespond @x 403", true},
		"client_ip":                        {"@x client_ip 10.0.0.0/8\nabort @x", true},
		"not":                              {"@x not client_ip 10.0.0.0/8\nerror @x 403", true},
		"not in not":                       {"@x not {\nnot remote_ip 10.0.0.0/8\n}\nerror @x 403", true},
		"a header with the address":        {"@x header X-Forwarded-For 10.*\nrespond @x 403", true},
		"a header in another spelling":     {"@x header x-real-ip 10.*\nrespond @x 403", true},
		"the server's header":              {"@x header X-Told-By 10.*\nrespond @x 403", true},
		"a regular expression":             {"@x header_regexp Forwarded 10\nrespond @x 403", true},
		"a function of an expression":      {"@x expression remote_ip('10.0.0.0/8')\nrespond @x 403", true},
		"an address in an expression":      {"@x expression {client_ip}.startsWith('10.')\nrespond @x 403", true},
		"a host in an expression":          {"@x expression {remote_host}.startsWith('10.')\nrespond @x 403", true},
		"a header in an expression":        {"@x expression `{header.X-Forwarded-For}.startsWith('10.')`\nrespond @x 403", true},
		"a header function":                {"@x expression `header({'X-Forwarded-For': '10.*'})`\nrespond @x 403", true},
		"an unknown function":              {"@x expression `geoip('AT')`\nrespond @x 403", true},
		"a name of a map":                  {"@x expression {banned} == 'yes'\nrespond @x 403", true},
		"a variable":                       {"@x vars banned yes\nrespond @x 403", true},
		"a status":                         {"respond x {answer}", true},
		"a block":                          {"handle {\nroute {\n@x client_ip 10.0.0.0/8\nabort @x\n}\n}", true},
		"a named route":                    {"invoke gate", true},
		"templates":                        {"templates\nfile_server", true},
		"a response of a proxy":            {"reverse_proxy localhost:2 {\n@e status 200\nhandle_response @e {\n@x client_ip 10.0.0.0/8\nrespond @x 403\ncopy_response\n}\n}", true},
		"an intercepted response":          {"intercept {\n@e status 200\nhandle_response @e {\n@x client_ip 10.0.0.0/8\nrespond @x 403\n}\n}", true},
		"a path of the address":            {"@x path /{client_ip}\nrespond @x 403", true},
		"another block for some addresses": {"@x client_ip 10.0.0.0/8\nreverse_proxy @x localhost:3", true},
	} {
		t.Run(name, func(t *testing.T) {
			site := `{
	servers {
		trusted_proxies static private_ranges
		client_ip_headers X-Told-By
	}
}
&(gate) {
	@gated client_ip 10.0.0.0/8
	abort @gated
}
http://example.com {
	route {
		@before client_ip 10.0.0.0/8
		respond @before 403
		sse /live/* {
			poll 1s
		}
		` + c.behind + `
		reverse_proxy a:1
	}
}
`
			if got := lastPlace(t, site).addressDecides; got != c.want {
				t.Errorf("%t", got)
			}
		})
	}
}

// Only what a request may reach counts.
func TestAddressDecidesOnlyAmongRoutesBehindTheRule(t *testing.T) {
	const rule = "sse /live/* {\npoll 1s\n}\nreverse_proxy a:1\n"
	const gate = "@x client_ip 10.0.0.0/8\nabort @x\n"
	for name, c := range map[string]struct {
		site string
		want bool
	}{
		"before":                      {"http://a.example.com {\nroute {\n" + gate + rule + "}\n}", false},
		"behind":                      {"http://a.example.com {\n" + rule + gate + "}", true},
		"in a block beside":           {"http://a.example.com {\nhandle /x* {\n" + gate + "}\nhandle {\n" + rule + "}\n}", false},
		"behind the block":            {"http://a.example.com {\nroute {\nroute /live* {\n" + rule + "}\n" + gate + "}\n}", true},
		"in another site":             {"http://b.example.com {\n" + gate + "respond b\n}\nhttp://a.example.com {\n" + rule + "}", false},
		"in another site's catch-all": {"http://a.example.com {\n" + rule + "}\nhttp:// {\n" + gate + "}", false},
		"for the rule's matcher":      {"http://a.example.com {\n@y client_ip 10.0.0.0/8\nsse @y {\npoll 1s\n}\nreverse_proxy a:1\n}", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lastPlace(t, c.site).addressDecides; got != c.want {
				t.Errorf("%t", got)
			}
		})
	}
	if !newPlace().addressDecides {
		t.Error("in an unknown place, no address is checked")
	}
}

func TestPlaceholdersOfHandlersAreThoseThatNoRequestHas(t *testing.T) {
	got := findPlaceholders([]byte(`{"a":"{http.request.uri}{tenant}{http.regexp.shop.1}","b":{"c":"{tenant} {env.X}{http.vars.y}{http.auth.user.email}{ not one }"}}`))
	if want := "http.auth.user.email http.regexp.shop.1 tenant"; strings.Join(got, " ") != want {
		t.Errorf("%q", got)
	}
	if got := findPlaceholders(nil); got == nil || len(got) > 0 {
		t.Errorf("%q", got)
	}
}
