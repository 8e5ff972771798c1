package caddysse_test

import (
	"net/http"
	"strings"
	"testing"
)

// A response has no authority over another host's documents (RFC 9111 §4.4).
func TestLocationOfAnotherHostIsNotInvalidated(t *testing.T) {
	for _, header := range []string{"Location", "Content-Location"} {
		for _, protocol := range protocols {
			t.Run(header+" "+protocol, func(t *testing.T) {
				orders := newDocument(`[]`)
				s := polled(t, "1h", func(w http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPost {
						w.Header().Set(header, r.Header.Get("Created"))
					}
					orders.ServeHTTP(w, r)
				})
				c := s.open(protocol, "/api/orders/8")
				c.expect("", `[]`)
				own := s.url(protocol, "/api/orders/8")
				for _, foreign := range []string{
					"https://other.example/api/orders/8", "//other.example/api/orders/8", "https://localhost/api/orders/8",
					"https://localhost:1/api/orders/8", strings.Replace(own, "localhost", "localhost.other.example", 1),
					strings.Replace(own, "localhost", "other.example@localhost.other.example", 1),
				} {
					s.doOver(protocol, "POST", "/api/checkout", `["another's"]`, "Created", foreign)
				}
				s.doOver(protocol, "POST", "/api/checkout", `["new"]`, "Created", strings.Replace(own, "localhost", "LocalHost", 1))
				c.expect("", `["new"]`)
				if n := orders.count(); n != 2 {
					t.Errorf("%d polls, want 2", n)
				}
			})
		}
	}
}
