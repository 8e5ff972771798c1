package caddysse_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/fcgi"
	"testing"
)

// The backend's document is the request line that it gets as the original one:
// by a header, or as REQUEST_URI.
func TestPollCarriesTheOriginalRequest(t *testing.T) {
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%q", []string{r.URL.RequestURI(), r.Header.Get("X-Original"), r.Header.Get("X-Path"), r.Header.Get("X-Query"), r.Header.Get("X-Method")})
	})
	const headers = ` {
		header_up X-Original {http.request.orig_uri}
		header_up X-Path {http.request.orig_uri.path}
		header_up X-Query {http.request.orig_uri.query}
		header_up X-Method {http.request.orig_method}
	}`
	for name, c := range map[string]struct{ site, path, want string }{
		"no rewrite": {
			`sse {
				poll 1h
			}
			reverse_proxy ` + backend + headers,
			"/shop/a?x=1&last_event_id=", `["/shop/a?x=1" "/shop/a?x=1" "/shop/a" "x=1" "GET"]`,
		},
		"handle_path": {
			`handle_path /shop/* {
				sse {
					poll 1h
				}
				reverse_proxy ` + backend + headers + `
			}`, "/shop/a?x=1", `["/a?x=1" "/shop/a?x=1" "/shop/a" "x=1" "GET"]`,
		},
		"uri": {
			`uri strip_prefix /shop
			sse {
				poll 1h
			}
			reverse_proxy ` + backend + headers, "/shop/a%2Fb?x=%20", `["/a%2Fb?x=%20" "/shop/a%2Fb?x=%20" "/shop/a/b" "x=%20" "GET"]`,
		},
		"a position": {
			`uri strip_prefix /shop
			sse {
				poll 1h
			}
			reverse_proxy ` + backend + headers, "/shop/a?lastEventId=&x=1", `["/a?x=1" "/shop/a?x=1" "/shop/a" "x=1" "GET"]`,
		},
		"rewrite": {
			`rewrite * /index.php
			sse {
				poll 1h
			}
			reverse_proxy ` + backend + headers, "/shop/a?x=1", `["/index.php?x=1" "/shop/a?x=1" "/shop/a" "x=1" "GET"]`,
		},
		"a rewrite without the query": {
			`rewrite * /index.php?
			sse {
				poll 1h
			}
			reverse_proxy ` + backend + headers, "/shop/a?x=1&Last-Event-ID=", `["/index.php" "/shop/a?x=1" "/shop/a" "x=1" "GET"]`,
		},
		"a method": {
			`method POST
			sse {
				poll 1h {
					method POST
				}
			}
			reverse_proxy ` + backend + headers, "/shop/a", `["/shop/a" "/shop/a" "/shop/a" "" "GET"]`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, "", c.site)
			for _, protocol := range protocols {
				s.open(protocol, c.path).expect("", c.want)
			}
		})
	}
}

// PHP programs read REQUEST_URI, which Caddy takes from the original request.
func TestPollOfFastCGICarriesTheOriginalURI(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		done <- fcgi.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, "%q", r.URL.RequestURI()) // of REQUEST_URI
		}))
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	s := startSite(t, "", `
		handle_path /shop/* {
			sse {
				poll 1h
			}
			reverse_proxy `+l.Addr().String()+` {
				transport fastcgi {
					root /srv
				}
			}
		}`)
	for _, protocol := range protocols {
		s.open(protocol, "/shop/a.php?x=1").expect("", `"/shop/a.php?x=1"`)
	}
}

// The rewrite leaves nothing of what the two requests differ in, but the backend
// may read it from the original request.
func TestRequestsThatDifferBeforeARewriteHaveSeparateViews(t *testing.T) {
	backend := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, "%q", r.Header.Get("X-Original"))
	})
	s := startSite(t, "", `
		rewrite * /index.php?
		sse {
			poll 1h {
				absorb
			}
		}
		reverse_proxy `+backend+` {
			header_up X-Original {http.request.orig_uri}
		}`)
	for _, protocol := range protocols {
		for _, path := range []string{"/account?user=ann", "/account?user=bob", "/account", "/a%63count", "/other?user=ann"} {
			s.open(protocol, path).expect("", fmt.Sprintf("%q", path))
			for _, method := range []string{"GET", "HEAD"} {
				resp := s.doOver(protocol, method, path, "")
				if method == "GET" && resp.body != fmt.Sprintf("%q", path) || resp.Header.Get("Cache-Status") == "" {
					t.Errorf("%s %s %s: %q with %v", protocol, method, path, resp.body, resp.Header)
				}
			}
			// The backend may read a position of an ordinary request.
			if resp := s.doOver(protocol, "GET", path+"?last_event_id=1", ""); resp.Header.Get("Cache-Status") != "" {
				t.Errorf("%s: a request with a position is absorbed", path)
			}
		}
	}
}
