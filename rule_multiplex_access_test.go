package caddysse_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/golang-jwt/jwt/v5"
)

func TestEachURLHasItsOwnCredentials(t *testing.T) {
	s := multiplexed(t, "100ms", "", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch cookie, _ := r.Cookie("user"); {
		case r.URL.Path == "/api/bearer" && r.Header.Get("Authorization") != "Bearer alice":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/api/cookie" && cookie == nil:
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Path == "/api/cookie":
			fmt.Fprintf(w, "%q", cookie.Value)
		default:
			fmt.Fprint(w, "1")
		}
	})
	urls := live("/api/bearer", "/api/cookie")
	c := s.open("HTTP/1.1", urls, "Authorization", "Bearer alice", "Cookie", "user=alice")
	c.expect("", ofURL("/api/bearer", "", "1"))
	c.expect("", ofURL("/api/cookie", "", `"alice"`))
	c = s.open("HTTP/1.1", urls, "Authorization", "Bearer mallory", "Cookie", "user=mallory")
	c.expect("", ofURL("/api/bearer", "refused", `{"status":401,"reason":"Unauthorized"}`))
	c.expect("", ofURL("/api/cookie", "", `"mallory"`))
	c = s.open("HTTP/1.1", urls)
	c.expect("", ofURL("/api/bearer", "refused", `{"status":401,"reason":"Unauthorized"}`))
	c.expect("", ofURL("/api/cookie", "refused", `{"status":403,"reason":"Forbidden"}`))
}

func TestLogoutFromOneURLEndsOnlyThatURL(t *testing.T) {
	docs := newDocuments("a", "secret")
	s := multiplexed(t, "100ms", "", docs.ServeHTTP)
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			a, secret := "/api/a?"+protocol, "/api/secret?"+protocol
			docs.set("a", "0")
			docs["/api/secret"].update(func() { docs["/api/secret"].status = http.StatusOK })
			c := s.open(protocol, live(a, secret))
			c.expect("", ofURL(a, "", "0"))
			last := c.expect("", ofURL(secret, "", "0"))
			docs["/api/secret"].update(func() { docs["/api/secret"].status = http.StatusForbidden })
			c.ended() // so that the client reconnects
			docs.set("a", "1")
			c = s.open(protocol, live(a, secret), "Last-Event-ID", last.ID)
			got := []string{string(c.next().Data), string(c.next().Data)}
			slices.Sort(got)
			want := []string{ofURL(a, "", "1"), ofURL(secret, "refused", `{"status":403,"reason":"Forbidden"}`)}
			if !slices.Equal(got, want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

// A page of another origin that may open multiplexed streams gets from them only the
// URLs that it may read alone.
func TestPageOfAnotherOriginReadsOnlyURLsThatItMay(t *testing.T) {
	docs := newDocuments("open", "any", "closed")
	s := startSite(t, "", fmt.Sprintf(`
	sse /live {
		multiplex
		cors https://app.example.com
	}
	sse /any {
		multiplex
		cors *
	}
	sse /api/open {
		poll 100ms
		cors https://app.example.com
	}
	sse /api/any {
		poll 100ms
		cors *
	}
	sse /api/closed {
		poll 100ms
	}
	reverse_proxy %s`, startBackend(t, docs.ServeHTTP)))
	const refused = `{"status":403,"reason":"pages of other origins may not read the URL: see cors"}`
	for _, path := range []string{"/live", "/any"} {
		page := strings.Replace(live("/api/open", "/api/any", "/api/closed"), "/live", path, 1)
		c := s.open("HTTP/1.1", page, "Origin", "https://app.example.com")
		got := []string{string(c.next().Data), string(c.next().Data), string(c.next().Data)}
		want := []string{ofURL("/api/open", "", "0"), ofURL("/api/any", "refused", refused), ofURL("/api/closed", "refused", refused)}
		if path == "/any" {
			want[1] = ofURL("/api/any", "", "0")
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", path, got)
		}
		c = s.open("HTTP/1.1", page) // of the site itself
		c.expect("", ofURL("/api/open", "", "0"))
		c.expect("", ofURL("/api/any", "", "0"))
		c.expect("", ofURL("/api/closed", "", "0"))
	}
}

func TestTokenInURLOfMultiplexedStreamIsNotLogged(t *testing.T) {
	const key = "s3cr3t-key-of-32-bytes-and-more-0"
	file := filepath.Join(t.TempDir(), "log")
	s := startSite(t, "log everything {\n output file "+file+" {\n roll_disabled\n }\n format json\n level DEBUG\n }", fmt.Sprintf(`
	log
	sse /live {
		multiplex
		max_streams 1
	}
	sse /mine {
		topic users/{http.auth.user.id}
		jwt {
			key   %s
			query token
		}
	}
	sse /publish {
		publish {
			token s3cr3t-token-to-publish
		}
	}`, key))
	token := secretToken(t, key, jwt.MapClaims{"sub": "ann"})
	mine := "/mine?token=" + token
	c := s.open("HTTP/1.1", live(mine, "/mine?token=wrong"))
	c.expect("", ofURL("/mine?token=wrong", "refused", `{"status":401,"reason":"the token is not a JWT"}`))
	s.do("POST", "/publish", "topic=users/ann&data=1", "Authorization", "Bearer s3cr3t-token-to-publish", "Content-Type", "application/x-www-form-urlencoded")
	c.expect("", ofURL(mine, "", "1"))
	for path, want := range map[string]int{
		live(mine):                               http.StatusServiceUnavailable, // max_streams
		live(mine, "https://elsewhere.example/"): http.StatusBadRequest,
	} {
		if got := s.do("GET", path, "", "Accept", "text/event-stream").StatusCode; got != want {
			t.Errorf("status %d, want %d", got, want)
		}
	}
	c.close()
	waitFor(t, "the log has the stream", func() bool {
		content, err := os.ReadFile(file)
		if err == nil {
			wantNone(t, "the log", string(content), []string{lastOf(token), token, "s3cr3t"})
		}
		return err == nil && strings.Contains(string(content), "multiplexed stream, without the token in its query") && strings.Contains(string(content), "/publish")
	})
}

func TestMultiplexedStreamNeedsOneSlotOfEachRule(t *testing.T) {
	docs := newDocuments("a", "b", "c")
	backend := startBackend(t, docs.ServeHTTP)
	s := startSite(t, "", fmt.Sprintf("sse /live {\n multiplex\n max_streams 2\n }\n sse /api/* {\n poll 100ms\n max_streams 1\n }\n reverse_proxy %s", backend))
	c := s.open("HTTP/1.1", live("/api/a", "/api/b", "/api/c"))
	for _, name := range []string{"a", "b", "c"} {
		c.expect("", ofURL("/api/"+name, "", "0"))
	}
	other := s.open("HTTP/1.1", live("/api/a"))
	if e := other.next(); !strings.Contains(string(e.Data), `"refused"`) {
		t.Errorf("beyond the limit of the rule: %s", e.Data)
	}
	other.ended()
}

// A handler before a URL's rule may remove what the client may not see.
func TestURLWhoseResponseMayBeChangedIsRefused(t *testing.T) {
	s := startSite(t, "", fmt.Sprintf(`
	encode gzip
	log
	sse /live {
		multiplex
	}
	route /kept {
		test_keep without_flush
		sse {
			poll 100ms
		}
		reverse_proxy %[1]s
	}
	route /replaced {
		intercept {
			@success status 2xx
			handle_response @success {
				respond "hidden"
			}
		}
		sse {
			poll 100ms
		}
		reverse_proxy %[1]s
	}
	route /template {
		templates {
			mime application/json
		}
		sse {
			poll 100ms
		}
		reverse_proxy %[1]s
	}
	sse /compressed {
		poll 100ms
	}
	reverse_proxy %[1]s`, startBackend(t, newDocument("0").ServeHTTP)))
	refused := func(path string) string {
		return ofURL(path, "refused", `{"status":501,"reason":"a handler before the rule may change what the URL sends: open it alone"}`)
	}
	for _, protocol := range protocols {
		c := s.open(protocol, live("/kept", "/replaced", "/template", "/compressed"), "Accept-Encoding", "gzip")
		got := []string{string(c.next().Data), string(c.next().Data), string(c.next().Data), string(c.next().Data)}
		want := []string{refused("/kept"), refused("/replaced"), refused("/template"), ofURL("/compressed", "", "0")}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", protocol, got)
		}
	}
}
