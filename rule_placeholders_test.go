package caddysse_test

import (
	"fmt"
	"net/http"
	"testing"
)

// The handlers behind a rule use placeholders that handlers and matchers before
// it have set for the client's request.
func TestPlaceholdersOfEarlierHandlersReachPolls(t *testing.T) {
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%q", r.URL.RequestURI()+" "+r.Header.Get("X-Tenant"))
	})
	s := startSite(t, "", `
	map {header.X-Team} {tenant} {
		red     acme
		default none
	}
	@item path_regexp item ^/item/([0-9]+)$
	handle @item {
		sse {
			poll 200ms {
				vary none
			}
		}
		rewrite /api.php?id={re.item.1}
		reverse_proxy `+backend+` {
			header_up X-Tenant {tenant}
		}
	}
	handle /topic {
		sse {
			topic news
			authorize /{tenant}
		}
		@none not vars {tenant} acme
		respond @none 403
		respond ok
	}`)
	for _, protocol := range protocols {
		s.open(protocol, "/item/7", "X-Team", "red").expect("", `"/api.php?id=7 acme"`)
		s.open(protocol, "/item/8", "X-Team", "blue").expect("", `"/api.php?id=8 none"`)
		s.open(protocol, "/item/7", "X-Team", "blue").expect("", `"/api.php?id=7 none"`)
		s.open(protocol, "/topic", "X-Team", "red")
		if resp := s.doOver(protocol, "GET", "/topic", "", "X-Team", "blue", "Accept", "text/event-stream"); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %s", protocol, resp.Status)
		}
	}
}
