package caddysse_test

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"testing"
)

// The backend decides by a header that vary takes from polls.
func TestAbsorbWithVaryAnswersWithNobodyElsesDocument(t *testing.T) {
	s := polled(t, "1h {\n vary none\n absorb\n }", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"key":%q,"authorization":%q,"cookie":%q}`, r.Header.Get("X-Api-Key"), r.Header.Get("Authorization"), r.Header.Get("Cookie"))
	})
	const anonymous = `{"key":"","authorization":"","cookie":""}`
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			path := "/api/" + protocol
			s.open(protocol, path).expect("", anonymous)
			if resp := s.doOver(protocol, "GET", path, ""); resp.body != anonymous || resp.Header.Get("Cache-Status") == "" {
				t.Errorf("a stranger got %q with %v", resp.body, resp.Header)
			}
			for name, want := range map[string]string{
				"X-Api-Key":     `{"key":"k","authorization":"","cookie":""}`,
				"Authorization": `{"key":"","authorization":"k","cookie":""}`,
				"Cookie":        `{"key":"","authorization":"","cookie":"k"}`,
			} {
				for _, method := range []string{"GET", "HEAD"} {
					resp := s.doOver(protocol, method, path, "", name, "k")
					if resp.Header.Get("Cache-Status") != "" || method == "GET" && resp.body != want {
						t.Errorf("%s with %s got %q with %v", method, name, resp.body, resp.Header)
					}
				}
			}
		})
	}
}

func TestAbsorbWithNamedCookieLeavesOtherCookiesToBackend(t *testing.T) {
	s := polled(t, "1h {\n vary Cookie:session\n absorb\n }", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"cookie":%q}`, r.Header.Get("Cookie"))
	})
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			path := "/api/" + protocol
			s.open(protocol, path, "Cookie", "session=a; role=guest").expect("", `{"cookie":"session=a"}`)
			for cookie, absorbed := range map[string]bool{"session=a": true, "session=a; role=admin": false, "role=admin": false, "": false} {
				var header []string
				if cookie != "" {
					header = []string{"Cookie", cookie}
				}
				resp := s.doOver(protocol, "GET", path, "", header...)
				if want := fmt.Sprintf(`{"cookie":%q}`, cookie); resp.body != want || resp.Header.Get("Cache-Status") != "" != absorbed {
					t.Errorf("%q got %q with %v", cookie, resp.body, resp.Header)
				}
			}
		})
	}
}

func TestNamedCookieReachesBackendAsItCame(t *testing.T) {
	s := polled(t, "1h {\n vary Cookie:sid\n }", func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `"%x"`, strings.Join(r.Header["Cookie"], "\n"))
	})
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			for _, cookie := range []string{`sid=x,y`, `sid="x,y"`, `sid=x y`, `sid={"user":"ann","role":1}`, `sid=a\"b\`, "sid=\xff\xc3\xa4", `sid=2; sid=1`} {
				s.open(protocol, "/api/"+protocol, "Cookie", "ads=1; "+cookie+"; lang=de").expect("", fmt.Sprintf(`"%x"`, cookie))
			}
		})
	}
}

// held is a backend that shows its document to new browsers. For old ones it
// waits until it is released, and responds with the status in the path's end.
type held struct{ asked, released chan struct{} }

func (h held) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Accept-Language, User-Agent")
	if r.UserAgent() == "new" && r.Header.Get("Accept-Language") == "new" {
		_, _ = io.WriteString(w, `"new"`)
		return
	}
	for _, step := range []chan struct{}{h.asked, h.released} {
		select {
		case step <- struct{}{}:
		case <-r.Context().Done():
			return
		}
	}
	status, _ := strconv.Atoi(path.Base(r.URL.Path))
	w.WriteHeader(status)
}

// viewers returns the number of viewers of a path's views.
func (s *site) viewers(path string) (n int) {
	s.t.Helper()
	for _, v := range s.list("").Views {
		if v.Path == path {
			n += v.Viewers
		}
	}
	return n
}

// Two viewers wait for one poll, which the backend refuses because of the first
// one's browser or language.
func TestRefusalThatVariesReachesOnlyItsOwnViewer(t *testing.T) {
	backend := held{make(chan struct{}), make(chan struct{})}
	s := watchedSite(t, "", "sse /api/* {\n poll 1h {\n linger 0\n }\n }\n reverse_proxy "+startBackend(t, backend.ServeHTTP))
	for _, protocol := range protocols {
		for _, hint := range []string{"User-Agent", "Accept-Language"} {
			for _, status := range []int{204, 302, 401, 403, 404, 410, 503} {
				t.Run(fmt.Sprint(protocol, " ", hint, " ", status), func(t *testing.T) {
					path := fmt.Sprintf("/api/%s/%s/%d", protocol, hint, status)
					open := func(value string) chan string {
						header := map[string]string{"User-Agent": "new", "Accept-Language": "new"}
						header[hint] = value
						got := make(chan string, 1)
						go func() {
							c, err := s.tryOpen(protocol, path, "User-Agent", header["User-Agent"], "Accept-Language", header["Accept-Language"])
							if err != nil {
								got <- err.Error()
								return
							}
							e := <-c.events
							c.close() // or the view is polled again
							got <- cmp.Or(e.Name, string(e.Data))
						}()
						return got
					}
					first := open("old")
					<-backend.asked
					second := open("new")
					waitFor(t, "second viewer", func() bool { return s.viewers(path) == 2 })
					<-backend.released
					want := strconv.Itoa(status)
					if status == 503 {
						want = "stale"
					}
					if got := <-first; !strings.Contains(got, want) {
						t.Errorf("the old browser got %s", got)
					}
					if got := <-second; got != `"new"` {
						t.Errorf("the new browser got %s", got)
					}
				})
			}
		}
	}
}
