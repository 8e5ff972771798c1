package poll

import (
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"slices"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// principal holds the credentials, addresses, client certificate and user that a
// poll carries.
type principal struct {
	id        string // a digest of the fields below and of the request
	requester Requester
	header    http.Header // credentials and addresses
	remote    string
	tls       *tls.ConnectionState
}

func newPrincipal(r *http.Request, caller Requester, by *varyBy) *principal {
	a := &principal{requester: caller, header: make(http.Header), remote: r.RemoteAddr, tls: r.TLS}
	hop := subrequest.ConnectionOptions(r.Header)
	for name := range r.Header {
		if hop[name] || !credentials[name] && !addresses[name] {
			continue
		}
		if values := by.credentialValues(name, r); len(values) > 0 {
			a.header[name] = slices.Clone(values)
		}
	}
	if !a.isPersonal() {
		a.anonymize()
	}
	return a
}

// isPersonal reports whether the request has credentials.
func (a *principal) isPersonal() bool {
	for name := range credentials {
		if len(a.header[name]) > 0 {
			return true
		}
	}
	return a.requester.User() != "" || subrequest.CertificateDigest(a.tls) != ""
}

// anonymize replaces the client's addresses.
func (a *principal) anonymize() {
	for name := range addresses {
		if len(a.header[name]) > 0 {
			a.header[name] = []string{anonymousAddress}
		}
	}
	if !a.requester.ViaTrustedProxy() {
		a.remote = net.JoinHostPort(anonymousAddress, "0")
	}
}

// keyParts returns the parts of the view key that are the principal's. The
// address is one of them: a backend may decide by it, and not every cookie is a
// secret.
func (a *principal) keyParts() []string {
	if !a.isPersonal() {
		return nil
	}
	parts := []string{a.requester.User(), subrequest.CertificateDigest(a.tls)}
	for _, name := range slices.Sorted(maps.Keys(a.header)) {
		parts = appendCounted(parts, name, a.header[name]...)
	}
	host, _, err := net.SplitHostPort(a.remote)
	if err != nil {
		host = a.remote
	}
	return appendCounted(parts, "", host)
}

// isSameViewer reports whether another principal has the same credentials. Their
// addresses may differ.
func (a *principal) isSameViewer(other *principal) bool {
	if a.id == other.id {
		return true
	}
	for name := range credentials {
		if !slices.Equal(a.header[name], other.header[name]) {
			return false
		}
	}
	return a.requester.User() == other.requester.User() && subrequest.CertificateDigest(a.tls) == subrequest.CertificateDigest(other.tls)
}
