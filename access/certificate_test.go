package access_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// With a client_auth mode of request or require, Caddy accepts a self-made
// certificate with any name.
func TestOnlyVerifiedCertificateNamesTopics(t *testing.T) {
	certificate := new(x509.Certificate)
	own := []*x509.Certificate{certificate}
	for name, c := range map[string]struct {
		state  *tls.ConnectionState
		status int
	}{
		"verified":     {&tls.ConnectionState{PeerCertificates: own, VerifiedChains: [][]*x509.Certificate{own}}, http.StatusOK},
		"not verified": {&tls.ConnectionState{PeerCertificates: own}, http.StatusForbidden},
		"without TLS":  {nil, http.StatusForbidden},
	} {
		rule := topics(t, []string{"users/{http.request.tls.client.subject}"}, nil)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.TLS = c.state
		repl := caddy.NewReplacer()
		repl.Set("http.request.tls.client.subject", "CN=ann")
		status := http.StatusOK
		if _, refused := rule.Requested(r, repl, nil); refused != nil {
			status = refused.Status
		}
		if status != c.status {
			t.Errorf("%s: %d, want %d", name, status, c.status)
		}
	}
}
