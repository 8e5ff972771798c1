package caddysse_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/internal/testserver"
)

// startCluster starts a site with the hubs a, b and c, which share a stream as the
// hubs of three Caddys do.
func startCluster(t *testing.T) *site {
	t.Helper()
	server := testserver.NATS(t)
	var global, directives strings.Builder
	for _, name := range []string{"a", "b", "c"} {
		fmt.Fprintf(&global, "sse %s {\n store nats nats://%s {\n stream TEST\n }\n }\n", name, server.Address)
		fmt.Fprintf(&directives, `
			sse /%[1]s/hooks/* {
				webhook {
					verify none
					topic  {path.2}
				}
				hub %[1]s
			}
			sse /%[1]s/events/* {
				topic {path.2}
				allow *
				hub   %[1]s
			}
`, name)
	}
	return startSite(t, global.String(), directives.String())
}

func TestEventReachesClientsOfAllCaddysAndTheyResumeAtAny(t *testing.T) {
	s := startCluster(t)
	for n, protocol := range protocols {
		topic := fmt.Sprint("news", n)
		send := func(node, data string) {
			t.Helper()
			if r := s.do("POST", "/"+node+"/hooks/"+topic, data); r.StatusCode != 202 {
				t.Fatalf("publishing at %s: %s %s", node, r.Status, r.body)
			}
		}
		a, b := s.open(protocol, "/a/events/"+topic), s.open(protocol, "/b/events/"+topic)
		send("a", "1")
		first := a.expect("", "1")
		if other := b.expect("", "1"); other.ID != first.ID {
			t.Errorf("%s: the ids are %q and %q", protocol, first.ID, other.ID)
		}
		send("b", "2")
		a.expect("", "2")
		b.expect("", "2")
		send("c", "3")
		c := s.open(protocol, "/c/events/"+topic, "Last-Event-ID", first.ID)
		c.expect("", "2")
		third := c.expect("", "3")
		send("a", "4")
		s.open(protocol, "/b/events/"+topic, "Last-Event-ID", third.ID).expect("", "4")
	}
}

func TestForwardAsyncIsRefusedOnSharedHub(t *testing.T) {
	s := startCluster(t)
	err := s.load("sse z {\n store nats nats://"+testserver.NATS(t).Address+"\n }", `
		sse /hook {
			webhook {
				verify  none
				topic   news
				forward async
			}
			hub z
		}
		respond ok`)
	if err == nil || !strings.Contains(err.Error(), "forward async needs a hub of its own") {
		t.Errorf("loaded: %v", err)
	}
}
