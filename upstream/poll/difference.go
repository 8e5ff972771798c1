package poll

import (
	"fmt"
	"net"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

const (
	// maxCompared limits how many views of a path a new view is compared with.
	maxCompared = 8
	// maxDifferences limits the log lines about headers that separate views:
	// strangers choose their names.
	maxDifferences = 10
)

// compareLocked looks for a view of the same URL from which a new view differs by
// one header alone. Both views then say so in the list of views, and the log
// does once for each header.
func (p *Poller) compareLocked(v *view) {
	i, ok := p.byPath.find(pathKey(v.target.hostname, v.target.path))
	if !ok {
		return
	}
	others := p.byPath[i].views
	for _, other := range others[max(0, len(others)-1-maxCompared):] {
		if other == v {
			continue
		}
		name := v.target.difference(other.target, p.config.varyBy, v.shared && other.shared)
		if name == "" {
			continue
		}
		for _, one := range []*view{v, other} {
			if one.differsBy == "" {
				one.differsBy = name
			}
		}
		p.logDifferenceLocked(v, name)
	}
}

func (p *Poller) logDifferenceLocked(v *view, name string) {
	if p.differences[name] || len(p.differences) == maxDifferences {
		return
	}
	p.differences[name] = true
	log := p.log.Warn
	if credentials[name] { // which often separate viewers for good reason
		log = p.log.Info
	}
	log("viewers of one URL have views of their own because of one header", v.fields(zap.String("header", name), zap.String("advice", differenceAdvice(name)))...)
}

// differenceAdvice returns what to write if a header is no reason to poll twice.
func differenceAdvice(name string) string {
	switch name {
	case "Cookie":
		return "if only some cookies tell who asks, name them, as in `vary Cookie:session`; if none does, write `vary none`"
	case "Authorization":
		return "if all who may see the document see the same, write `share`"
	case "Accept":
		return "if viewers need one type only, write it, as in `accept application/json`"
	default:
		if alwaysSent[name] {
			return "the header says how to read the request, so views stay apart: let the proxies in front send one value"
		}
		return fmt.Sprintf("if it says nothing about who asks, write `ignore %s`", name)
	}
}

// difference returns the header, if it is only one, in which a request differs
// from another one that would otherwise have the same view. It returns the empty
// string if there are several or none, if the rule's vary names the header, or if
// it holds an address. With shared, credentials separate no viewers.
func (t *target) difference(other *target, by *varyBy, shared bool) string {
	if t.base != other.base || !shared && !t.principal.isAlike(other.principal) {
		return ""
	}
	names := differing(t.header, other.header)
	names = slices.DeleteFunc(names, func(name string) bool { return varyCandidates[name] && !by.names(name) })
	if !shared {
		names = append(names, differing(t.principal.header, other.principal.header)...)
	}
	if len(names) != 1 || by.names(names[0]) || t.principal.isAddress(names[0]) || other.principal.isAddress(names[0]) {
		return ""
	}
	return names[0]
}

// isAlike reports whether two principals differ in nothing but headers.
func (a *principal) isAlike(other *principal) bool {
	if a.isPersonal() != other.isPersonal() {
		return false
	}
	return !a.isPersonal() || a.requester.User() == other.requester.User() && a.clientIP == other.clientIP &&
		hostOf(a.remote) == hostOf(other.remote) && subrequest.CertificateDigest(a.tls) == subrequest.CertificateDigest(other.tls)
}

// hostOf returns a remote address without its port.
func hostOf(remote string) string {
	if host, _, err := net.SplitHostPort(remote); err == nil {
		return host
	}
	return remote
}

// differing returns the names of the headers that two requests don't have alike.
func differing(a, b http.Header) (names []string) {
	for name, values := range a {
		if !slices.Equal(values, b[name]) {
			names = append(names, name)
		}
	}
	for name := range b {
		if len(a[name]) == 0 {
			names = append(names, name)
		}
	}
	return names
}
