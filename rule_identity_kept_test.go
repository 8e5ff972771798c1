package caddysse_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unrelated are edits of other things than the rule's place.
var unrelated = map[string]struct{ before, after string }{
	"nothing":     {publicBlock, publicBlock},
	"the backend": {publicBlock, strings.ReplaceAll(publicBlock, "%[2]s", "%[1]s")},
	"a block beside": {
		"handle /a* {\n respond a\n }\n" + publicBlock, "handle /b* {\n redir * /c\n }\n handle /d/* {\n respond d\n }\n" + publicBlock},
	"responses": {
		"encode\n" + publicBlock, "header Content-Security-Policy x\n" + publicBlock},
	"a rule before": {
		publicRule, "sse /news {\n topic news\n hub %[3]s\n }\n" + publicRule},
	"an option of the rule": {
		publicBlock, strings.ReplaceAll(publicBlock, "retry 20ms", "retry 30ms\n heartbeat 5s")},
	"a block around it": {
		publicBlock, "route {\n" + publicBlock + "}\n"},
	"the name of its matcher": {
		"@a " + staffNet + " 192.0.2.0/24\n handle @a {\n" + publicRule + "}\n",
		"@b " + staffNet + " 192.0.2.0/24\n handle @b {\n" + publicRule + "}\n"},
}

func TestReloadKeepsHistoryOfARuleInItsPlace(t *testing.T) {
	document := newDocument(``)
	backend := startBackend(t, document.ServeHTTP)
	for name, edit := range unrelated {
		for _, protocol := range protocols {
			t.Run(name+"/"+protocol, func(t *testing.T) {
				document.set(`"0"`)
				s := startReloads(t, edit.before, backend, backend)
				position := s.changeTwice(document, protocol)
				s.reload(edit.after)
				c := s.open(protocol, "/doc", append(stranger, "Last-Event-ID", position)...)
				c.expect("", `"1"`)
				c.expect("", `"2"`)
				c.close()
			})
		}
	}
}

// changeTwice changes a document from 0 to 2 while somebody watches, and returns
// the position at 0.
func (r *reloads) changeTwice(document *document, protocol string) string {
	r.t.Helper()
	c := r.open(protocol, "/doc", stranger...)
	position := c.expect("", `"0"`).ID
	for _, next := range []string{`"1"`, `"2"`} {
		document.set(next)
		c.expect("", next)
	}
	c.close()
	return position
}

// otherPlaces are rules whose place the module doesn't know.
var otherPlaces = map[string]struct{ site, routes string }{
	"a named route":        {"invoke live", "&(live) {\n" + publicRule + "}\n"},
	"an error's routes":    {"error 404\n handle_errors {\n" + publicRule + "}\n", ""},
	"an answer's routes":   {"reverse_proxy %[1]s {\n @any status 2xx\n handle_response @any {\n" + publicRule + "}\n }\n", ""},
	"an intercepted reply": {"route {\n intercept {\n @any status 2xx\n handle_response @any {\n" + publicRule + "}\n }\n respond 200\n }\n", ""},
}

func TestRuleInUnknownPlaceKeepsNothingAndSaysSo(t *testing.T) {
	document := newDocument(``)
	backend := startBackend(t, document.ServeHTTP)
	for name, config := range otherPlaces {
		t.Run(name, func(t *testing.T) {
			document.set(`"0"`)
			log := filepath.Join(t.TempDir(), "log")
			s := startReloads(t, "respond 204", backend, backend)
			s.global += "\nlog everything {\n output file " + log + " {\n roll_disabled\n }\n}"
			load := func() {
				t.Helper()
				s.count++
				routes := s.fill(config.routes)
				if err := loadCaddyfile(s.caddyfile(s.global, s.rules(config.site)) + routes); err != nil {
					t.Fatal(err)
				}
			}
			load()
			position := s.changeTwice(document, "HTTP/1.1")
			load()
			c := s.open("HTTP/1.1", "/doc", append(stranger, "Last-Event-ID", position)...)
			for e := c.next(); string(e.Data) != `"2"`; e = c.next() {
				if string(e.Data) == `"1"` {
					t.Fatal("the history was kept")
				}
			}
			c.close()
			content, err := os.ReadFile(log)
			if err != nil || !strings.Contains(string(content), "the rule keeps nothing across reloads") {
				t.Errorf("the log doesn't say so: %v", err)
			}
		})
	}
}

const limitedBlock = "handle @%s {\n sse /events {\n hub %%[3]s\n topic news\n max_streams 1\n }\n }\n"

func TestReloadGivesSlotsOfOneRuleToNoViewerOfAnother(t *testing.T) {
	matchers := "@staff " + staffNet + "\n@strangers client_ip 192.0.2.0/24\n"
	strangers := fmt.Sprintf(limitedBlock, "strangers")
	both := matchers + fmt.Sprintf(limitedBlock, "staff") + strangers
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := startReloads(t, both, "", "")
			c := s.open(protocol, "/events", member...)
			s.reload(strings.Replace(matchers, "@staff "+staffNet, "", 1) + strangers)
			c.ended() // its slot is reserved for it
			c, err := s.withClients().tryOpen(protocol, "/events", stranger...)
			if err != nil {
				t.Fatalf("the only stream of the strangers' rule: %v", err)
			}
			c.close()
		})
	}
}

const hookRule = `sse /hooks/shop {
	hub %%[3]s
	webhook {
		verify token X-Token "` + secret + `"
		topic  %s
		id     {header.X-Delivery}
	}
}
`

// A delivery counts once for each rule, and a rule doesn't take over what another
// has received.
func TestReloadGivesDeliveriesOfOneRuleToNoOther(t *testing.T) {
	public := "handle {\n" + fmt.Sprintf(hookRule, "public") + "sse /events {\n hub %[3]s\n topic public\n }\n }\n"
	both := "@staff " + staffNet + "\n handle @staff {\n" + fmt.Sprintf(hookRule, "staff") + "}\n" + public
	s := startReloads(t, both, "", "")
	send := func(id, address string) string {
		t.Helper()
		resp := s.do("POST", "/hooks/shop", `{}`, "X-Forwarded-For", address, "X-Token", secret, "X-Delivery", id)
		if resp.StatusCode != http.StatusAccepted {
			t.Fatal(resp.Status, resp.body)
		}
		return resp.body
	}
	c := s.open("HTTP/1.1", "/events", stranger...)
	send("d1", staffAddress)
	first := send("d2", strangerAddress)
	c.expect("", `{}`)
	send("d1", strangerAddress)
	c.expect("", `{}`) // it is another delivery
	send("d3", staffAddress)
	s.reload(public)
	c.ended()
	c = s.open("HTTP/1.1", "/events", stranger...)
	if again := send("d2", strangerAddress); again != first {
		t.Errorf("the rule doesn't know its delivery any more: %s, and %s the first time", again, first)
	}
	send("d3", strangerAddress)
	c.expect("", `{}`)
}
