package caddysse_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// countingBackend serves a document that differs in each response, so that a
// write causes exactly one poll. Other requests than GETs below /api/ change
// nothing.
func countingBackend(n *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/api/") {
			fmt.Fprint(w, n.Add(1))
		}
	}
}

func TestOnlyWritesCausePolls(t *testing.T) {
	for _, test := range []struct {
		name, options, matchers string
		writes, reads           []string
	}{
		{
			name:   "reads by other methods than GET", // Radicale, MediaWiki's and CouchDB's clients
			writes: []string{"POST /api/x/1", "MKCALENDAR /api/x/1", "PROPPATCH /api/x"},
			reads:  []string{"PROPFIND /api/x", "REPORT /api/x", "SEARCH /api/x/1", "QUERY /api/x", "POST /other"},
		},
		{
			name: "methods", options: "refresh only PUT PATCH DELETE",
			writes: []string{"PUT /api/x/1", "DELETE /api/x"},
			reads:  []string{"POST /api/x", "MKCOL /api/x", "PUT /other"},
		},
		{
			name: "all but one path", options: "refresh /\n refresh off /wp-admin/admin-ajax.php", // WordPress' heartbeat
			writes: []string{"POST /wp-admin/post.php", "DELETE /anything"},
			reads:  []string{"POST /wp-admin/admin-ajax.php", "GET /wp-admin/post.php"},
		},
		{
			name: "links that write", options: "refresh GET /logout\n refresh @trash",
			matchers: "@trash {\n path /wp-admin/post.php\n query action=trash\n }",
			writes:   []string{"GET /logout", "GET /wp-admin/post.php?action=trash&post=7", "POST /wp-admin/post.php?action=trash"},
			reads:    []string{"GET /wp-admin/post.php?action=edit&post=7", "GET /logout-help", "HEAD /logout"},
		},
		{
			name: "a matcher, and nothing else", options: "refresh only @edits",
			matchers: "@edits {\n path /api.php\n method POST\n query action=edit\n }",
			writes:   []string{"POST /api.php?action=edit"},
			reads:    []string{"POST /api.php?action=query", "POST /api/x", "PUT /api/x/1"},
		},
		{
			name: "all but a matcher", options: "refresh off @beat",
			matchers: "@beat header X-Beat 1\n",
			writes:   []string{"POST /api/x"},
			reads:    []string{"POST /api/x X-Beat"},
		},
	} {
		for _, protocol := range protocols {
			t.Run(test.name+" "+protocol, func(t *testing.T) {
				var n atomic.Int64
				// The rewrite shows that the request counts as it came.
				s := startSite(t, "", test.matchers+"\n sse /api/* {\n poll 1h {\n "+test.options+"\n }\n }\n handle {\n rewrite /wp-admin/* /index.php\n reverse_proxy "+startBackend(t, countingBackend(&n))+"\n }")
				c := s.open(protocol, "/api/x")
				c.expect("", "1")
				send := func(request string) {
					method, path, _ := strings.Cut(request, " ")
					path, header, _ := strings.Cut(path, " ")
					if header == "" {
						header = "X-Other"
					}
					if resp := s.doOver(protocol, method, path, "", header, "1"); resp.StatusCode != http.StatusOK {
						t.Fatalf("%s: %s", request, resp.Status)
					}
				}
				for _, read := range test.reads {
					send(read)
				}
				for i, write := range test.writes {
					send(write)
					c.expect("", fmt.Sprint(i+2))
				}
				if polls := int(n.Load()); polls != 1+len(test.writes) {
					t.Errorf("%d polls after %d writes and %d reads", polls, len(test.writes), len(test.reads))
				}
			})
		}
	}
}

func TestLogoutEndsStreamsOfTheSessionAtOnce(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			var out atomic.Bool
			s := polled(t, "1h", func(w http.ResponseWriter, r *http.Request) {
				switch session := r.Header.Get("Cookie"); {
				case r.URL.Path == "/api/logout":
					out.Store(true)
					w.Header().Set("Set-Cookie", "session=; Path=/; Max-Age=0")
				case session == "session=ann" && out.Load():
					w.WriteHeader(http.StatusUnauthorized)
				default:
					fmt.Fprintf(w, "%q", session)
				}
			})
			ann := s.open(protocol, "/api/x", "Cookie", "session=ann")
			ann.expect("", `"session=ann"`)
			bob := s.open(protocol, "/api/x", "Cookie", "session=bob")
			bob.expect("", `"session=bob"`)
			s.doOver(protocol, "GET", "/api/logout", "", "Cookie", "theme=dark; session=ann")
			ann.ended()
			s.doOver(protocol, "GET", "/api/x", "")
			select {
			case e, ok := <-bob.events:
				t.Errorf("the other stream got %v, %v", e, ok)
			default:
			}
		})
	}
}
