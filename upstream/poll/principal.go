package poll

import (
	"crypto/tls"
	"maps"
	"net/http"
	"slices"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// principal holds the credentials, addresses, client certificate and user that a
// poll carries.
type principal struct {
	id        string // a digest of the fields below and of the request
	requester Requester
	header    http.Header // credentials and addresses; several principals may share it
	remote    string
	clientIP  string
	trusted   []string // headers in which the server looks for the client's address
	rare      []string // further headers of the request that hold the client's address
	tls       *tls.ConnectionState
}

// anonymousAddress is the address of a request on behalf of all clients without
// credentials. A backend that decides by address refuses it. With the first
// client's address, all would get what that one may see.
const anonymousAddress = "0.0.0.0"

// newPrincipal returns the principal of polls for a viewer's request: the viewer
// or, if it has no credentials, all clients without.
func newPrincipal(r *http.Request, caller Requester, by *varyBy) *principal {
	a := ownPrincipal(r, caller, by)
	if !a.isPersonal() {
		a.anonymize()
	}
	return a
}

// ownPrincipal returns the viewer itself as a principal, with its own address.
func ownPrincipal(r *http.Request, caller Requester, by *varyBy) *principal {
	a := &principal{requester: caller, remote: r.RemoteAddr, clientIP: caller.ClientIP(), trusted: caller.ClientIPHeaders(), tls: r.TLS}
	a.rare = a.rareAddressesIn(r.Header, by)
	for name := range r.Header {
		if !a.holds(name) {
			continue
		}
		values := r.Header[name]
		switch {
		case credentials[name]:
			values = by.credentialValues(name, r)
		case a.isAddress(name):
			values = withoutPorts(name, values)
		}
		if len(values) == 0 {
			continue
		}
		if a.header == nil {
			a.header = make(http.Header)
		}
		a.header[name] = slices.Clone(values)
	}
	return a
}

// holds reports whether the principal holds a header, and the target doesn't: a
// credential or an address.
func (a *principal) holds(name string) bool { return credentials[name] || a.isAddress(name) }

// isAddress reports whether proxies name the client's address in a header.
func (a *principal) isAddress(name string) bool {
	return addresses[name] || slices.Contains(a.trusted, name) || slices.Contains(a.rare, name)
}

// variesBy reports whether a response's Vary names one of some headers.
func variesBy(h http.Header, names []string) bool {
	for member := range listMembers(h, "Vary") {
		if slices.Contains(names, http.CanonicalHeaderKey(member)) {
			return true
		}
	}
	return false
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

// anonymize replaces the client's addresses, also in headers that the request
// lacks: a backend, or the server, may take the lack of one for a client of its
// own network. Only Forwarded is not made up, since backends that read it ignore
// X-Forwarded-Proto and X-Forwarded-Host.
func (a *principal) anonymize() {
	forwarded := len(a.header["Forwarded"]) > 0
	more := slices.DeleteFunc(slices.Concat(a.trusted, a.rare), func(name string) bool { return addresses[name] })
	switch {
	case len(more) > 0:
		a.header = anonymousHeader(forwarded, more...)
	case forwarded:
		a.header = anonymousForwarded
	default:
		a.header = anonymous
	}
	a.clientIP = anonymousAddress
	if !a.requester.ViaTrustedProxy() {
		a.remote = anonymousAddress + ":0"
	}
}

// anonymous and anonymousForwarded are the headers of nearly all anonymous
// principals, which share them.
var anonymous, anonymousForwarded = anonymousHeader(false), anonymousHeader(true)

// anonymousHeader returns the headers with addresses that an anonymous principal
// has, with more than the usual ones.
func anonymousHeader(forwarded bool, more ...string) http.Header {
	h := make(http.Header)
	for _, name := range slices.AppendSeq(more, maps.Keys(addresses)) {
		h[name] = []string{anonymousAddress}
	}
	delete(h, "Forwarded")
	if forwarded {
		h["Forwarded"] = []string{"for=" + anonymousAddress} // RFC 7239 §4
	}
	return h
}

// keyParts returns the parts of the view key that are the principal's. The
// address is one of them: a backend may decide by it, and not every cookie is a
// secret. Of a principal without credentials, it is only which headers with an
// address the request has, of those that aren't made up.
func (a *principal) keyParts() []string {
	if !a.isPersonal() {
		return append(appendCounted(nil, "", a.rare...), a.header["Forwarded"]...)
	}
	return a.parts()
}

// parts returns all that the principal holds.
func (a *principal) parts() []string {
	parts := []string{a.requester.User(), subrequest.CertificateDigest(a.tls)}
	for _, name := range slices.Sorted(maps.Keys(a.header)) {
		parts = appendCounted(parts, name, a.header[name]...)
	}
	return appendCounted(parts, "", hostOf(a.remote), a.clientIP)
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
