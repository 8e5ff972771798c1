package caddysse_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// trustingClients lets clients choose their address.
const trustingClients = `
	servers {
		trusted_proxies static 127.0.0.0/8
		client_ip_headers X-Forwarded-For
	}`

const (
	staffAddress    = "10.0.0.1"
	strangerAddress = "192.0.2.1"
)

const (
	pollForAll     = "sse /doc {\n poll 100ms {\n vary none\n }\n retry 20ms\n hub %[3]s\n }\n"
	staffRule      = pollForAll + "reverse_proxy %[1]s\n"
	publicRule     = pollForAll + "reverse_proxy %[2]s\n"
	staffBlock     = "handle {\n" + staffRule + "}\n"
	publicBlock    = "handle {\n" + publicRule + "}\n"
	strangersBlock = "@strangers client_ip 192.0.2.0/24\n handle @strangers {\n" + publicRule + "}\n"
	staffNet       = "client_ip 10.0.0.0/8"
	outsiders      = "@outsiders not " + staffNet + "\n"
)

// takenAway are reloads after which a stranger reaches a rule that is like the
// one which only staff reached before: only what surrounds it tells them apart.
var takenAway = map[string]struct{ before, after string }{
	"a block by address": {
		"@staff " + staffNet + "\n handle @staff {\n" + staffRule + "}\n" + publicBlock, publicBlock},
	"a block by address, inside of others": {
		"@staff " + staffNet + "\n route {\n handle /d* {\n route {\n route @staff {\n" + staffRule + "}\n" + publicRule + "}\n}\n}\n",
		"route {\n handle /d* {\n route {\n" + publicRule + "}\n}\n}\n"},
	"a block before another": {
		"@staff " + staffNet + "\n handle @staff {\n" + staffRule + "}\n" + strangersBlock,
		strangersBlock + "@staff " + staffNet + "\n handle @staff {\n" + staffRule + "}\n"},
	"a block by path": {
		"handle /doc* {\n" + staffRule + "}\n" + publicBlock, publicBlock},
	"a block by host": {
		"@local host localhost\n handle @local {\n" + staffRule + "}\n" + publicBlock, publicBlock},
	"a block by expression": {
		"@staff expression `{client_ip}.startsWith(\"10.\")`\n handle @staff {\n" + staffRule + "}\n" + publicBlock, publicBlock},
	"a block by a negated matcher": {
		"@staff not client_ip 192.0.2.0/24\n handle @staff {\n" + staffRule + "}\n" + publicBlock, publicBlock},
	"a block in a handle_path": {
		"@staff " + staffNet + "\n handle_path /doc* {\n rewrite /doc\n route {\n route @staff {\n" + staffRule + "}\n" + publicRule + "}\n}\n",
		"handle_path /doc* {\n rewrite /doc\n route {\n" + publicRule + "}\n}\n"},
	"the condition of a block": {
		"@staff " + staffNet + "\n handle @staff {\n" + staffRule + "}\n respond 403\n", staffBlock},
	"the range of a block": {
		"@staff " + staffNet + "\n handle @staff {\n" + staffRule + "}\n respond 403\n",
		"@staff client_ip 10.0.0.0/8 192.0.2.0/24\n handle @staff {\n" + staffRule + "}\n respond 403\n"},
	"a refusal before the rule": {
		"route {\n" + outsiders + "respond @outsiders 403\n" + staffRule + "}\n", "route {\n" + staffRule + "}\n"},
	"a refusal beside the rule's block": {
		outsiders + "handle @outsiders {\n respond 403\n }\n" + staffBlock, staffBlock},
	"a refusal around the rule's block": {
		"route {\n" + outsiders + "error @outsiders 403\n route {\n" + staffRule + "}\n }\n", "route {\n route {\n" + staffRule + "}\n}\n"},
}

// reloads are the configurations that a site has one after the other, each
// marked by a header. Their rules get the arguments: the addresses of two
// backends and the name of the hub.
type reloads struct {
	*site
	global    string
	arguments []string
	count     int
}

func startReloads(t *testing.T, rules string, backends ...string) *reloads {
	hub := newHubName()
	r := &reloads{global: "sse " + hub + " {\n drain 50ms\n }" + trustingClients, arguments: append(backends, hub)}
	r.site = startSite(t, r.global, r.rules(rules))
	return r
}

func (r *reloads) rules(text string) string {
	return fmt.Sprintf("header X-Config %d\n", r.count) + r.fill(text)
}

func (r *reloads) fill(text string) string {
	return strings.NewReplacer("%[1]s", r.arguments[0], "%[2]s", r.arguments[1], "%[3]s", r.arguments[2]).Replace(text)
}

func (r *reloads) reload(rules string, backends ...string) {
	r.t.Helper()
	r.count++
	copy(r.arguments, backends)
	r.site.reload(r.global, r.rules(rules))
}

// open opens a stream of the newest configuration: an old server may accept a
// last connection.
func (r *reloads) open(protocol, path string, header ...string) *client {
	r.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		c, err := r.withClients().tryOpen(protocol, path, header...)
		if err == nil && c.resp.Header.Get("X-Config") == strconv.Itoa(r.count) {
			return c
		}
		if err == nil {
			c.close()
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s over %s under configuration %d: %v", path, protocol, r.count, err)
		}
	}
}

var (
	stranger = []string{"X-Forwarded-For", strangerAddress, "Authorization", basicAuth("guest")}
	member   = []string{"X-Forwarded-For", staffAddress, "Authorization", basicAuth("staff")}
)

func TestReloadGivesHistoryOfOneRuleToNoViewerOfAnother(t *testing.T) {
	staff, public := newDocument(`"staff 0"`), newDocument(`"public 0"`)
	staffBackend, publicBackend := startBackend(t, staff.ServeHTTP), startBackend(t, public.ServeHTTP)
	for name, config := range takenAway {
		for _, protocol := range protocols {
			t.Run(name+"/"+protocol, func(t *testing.T) {
				staff.set(`"staff 0"`)
				public.set(`"public 0"`)
				s := startReloads(t, config.after, publicBackend, publicBackend)
				c := s.open(protocol, "/doc", stranger...)
				position := c.expect("", `"public 0"`).ID
				c.close()

				s.reload(config.before, staffBackend, publicBackend)
				c = s.open(protocol, "/doc", member...)
				c.expect("", `"staff 0"`)
				for i := range 3 {
					secret := fmt.Sprintf(`"staff %d"`, i+1)
					staff.set(secret)
					c.expect("", secret)
				}
				s.reload(config.after, publicBackend, publicBackend)
				c.close()

				public.set(`"public 1"`)
				c = s.open(protocol, "/doc", append(stranger, "Last-Event-ID", position)...)
				for {
					e := c.next()
					if strings.Contains(string(e.Data), "staff") {
						t.Fatalf("the stranger got %s", e.Data)
					}
					if string(e.Data) == `"public 1"` {
						break
					}
				}
			})
		}
	}
}
