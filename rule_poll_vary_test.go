package caddysse_test

import (
	"fmt"
	"net/http"
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
