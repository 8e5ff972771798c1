package poll

import (
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"slices"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// asker is whose request a poll makes: a viewer's credentials, and where they
// are.
type asker struct {
	id     string // a digest of all that follows and of what is asked for
	caller Requester
	header http.Header // credentials and addresses
	remote string
	tls    *tls.ConnectionState
}

func newAsker(r *http.Request, caller Requester, by *varyBy) *asker {
	a := &asker{caller: caller, header: make(http.Header), remote: r.RemoteAddr, tls: r.TLS}
	hop := subrequest.ConnectionOptions(r.Header)
	for name := range r.Header {
		if hop[name] || !credentials[name] && !addresses[name] {
			continue
		}
		if values := by.own(name, r); len(values) > 0 {
			a.header[name] = slices.Clone(values)
		}
	}
	if !a.isPersonal() {
		a.anonymise()
	}
	return a
}

// isPersonal tells whether the request says whose it is.
func (a *asker) isPersonal() bool {
	for name := range credentials {
		if len(a.header[name]) > 0 {
			return true
		}
	}
	return a.caller.User() != "" || subrequest.CertificateDigest(a.tls) != ""
}

// anonymise takes the viewer's address out of the request.
func (a *asker) anonymise() {
	for name := range addresses {
		if len(a.header[name]) > 0 {
			a.header[name] = []string{nobody}
		}
	}
	if !a.caller.ViaTrustedProxy() {
		a.remote = net.JoinHostPort(nobody, "0")
	}
}

// parts are what tells the asker from others. The address is one of them, since
// a backend may decide by it and not every cookie is a secret.
func (a *asker) parts() []string {
	if !a.isPersonal() {
		return nil
	}
	parts := []string{a.caller.User(), subrequest.CertificateDigest(a.tls)}
	for _, name := range slices.Sorted(maps.Keys(a.header)) {
		parts = counted(parts, name, a.header[name]...)
	}
	host, _, err := net.SplitHostPort(a.remote)
	if err != nil {
		host = a.remote
	}
	return counted(parts, "", host)
}

// isSameViewer tells whether another asker is the same viewer, wherever they
// are.
func (a *asker) isSameViewer(other *asker) bool {
	if a.id == other.id {
		return true
	}
	for name := range credentials {
		if !slices.Equal(a.header[name], other.header[name]) {
			return false
		}
	}
	return a.caller.User() == other.caller.User() && subrequest.CertificateDigest(a.tls) == subrequest.CertificateDigest(other.tls)
}
