package poll

import (
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// addresses are headers in which proxies name the client's address, beside those
// that the server's configuration names. Anonymous polls carry all of them.
var addresses = setOf("X-Forwarded-For", "Forwarded", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "Fastly-Client-Ip", "Fly-Client-Ip",
	"X-Client-Ip", "Client-Ip", "X-Cluster-Client-Ip", "X-Azure-Clientip", "X-Envoy-External-Address")

// IsAddressHeader reports whether proxies name the client's address in a header,
// beside those that the server's configuration names.
func IsAddressHeader(name string) bool { return mayBeAddress(http.CanonicalHeaderKey(name)) }

// rareAddresses are further ones. Anonymous polls carry them only if the viewer's
// request does, which separates views.
var rareAddresses = setOf("Cf-Connecting-Ipv6", "Cf-Pseudo-Ipv4", "X-Azure-Socketip", "Cloudfront-Viewer-Address", "X-Appengine-User-Ip",
	"X-Nf-Client-Connection-Ip", "Fastly-Temp-Xff", "X-Sucuri-Clientip", "X-Originating-Ip", "X-Forwarded", "Forwarded-For")

// addressSuffixes are those of further names.
var addressSuffixes = []string{
	"-Client-Ip", "-Clientip", "-Connecting-Ip", "-Real-Ip", "-Forwarded-For", "-Proxied-For", "-Remote-Ip", "-Remote-Addr", "-Source-Ip", "-Client-Addr", "-Client-Address",
}

// rareAddressesIn returns the headers of a request, beside those that proxies
// usually send, that hold nothing but addresses and whose names say so. What vary
// names is none of them.
func (a *principal) rareAddressesIn(h http.Header, by *varyBy) (names []string) {
	for name, values := range h {
		if addresses[name] || slices.Contains(a.trusted, name) || by.names(name) || !mayBeAddress(name) {
			continue
		}
		if !slices.ContainsFunc(values, func(v string) bool { return !areAddresses(name, v) }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// mayBeAddress reports whether a header's name says that it holds the client's
// address: a known one, or one that matches a pattern, such as *-Client-Ip, and
// may be no credential's.
func mayBeAddress(name string) bool {
	if addresses[name] || rareAddresses[name] {
		return true
	}
	return slices.ContainsFunc(addressSuffixes, func(s string) bool { return strings.HasSuffix(name, s) }) && !subrequest.MayBeCredential(name)
}

// areAddresses reports whether a value is a list of addresses, perhaps with ports.
func areAddresses(name, value string) bool {
	for element := range strings.SplitSeq(value, ",") {
		if _, ok := addressOf(name, strings.TrimSpace(element)); !ok {
			return false
		}
	}
	return true
}

// withoutPorts returns the values of a header that names addresses, without the
// ports: a client has another one with each connection. Any other value stays as it
// is.
func withoutPorts(name string, values []string) []string {
	cut := make([]string, len(values))
	for i, value := range values {
		if name == "Forwarded" {
			cut[i] = forwardedPort.ReplaceAllString(value, "$1$2")
			continue
		}
		elements := strings.Split(value, ",")
		for j, element := range elements {
			trimmed := strings.TrimSpace(element)
			if address, ok := addressOf(name, trimmed); ok {
				elements[j] = strings.Replace(element, trimmed, address, 1)
			}
		}
		cut[i] = strings.Join(elements, ",")
	}
	return cut
}

// forwardedPort matches a node with a port in Forwarded (RFC 7239 §6). Some
// proxies leave the quotes out.
var forwardedPort = regexp.MustCompile(`(?i)(\bfor="?)(\[[0-9a-f:.]+\]|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+):(?:[0-9]{1,5}|_[a-z0-9._-]+)`)

// addressOf returns an address without its port. CloudFront's always has one, and
// no brackets.
func addressOf(name, text string) (string, bool) {
	if _, err := netip.ParseAddr(text); err == nil && name != "Cloudfront-Viewer-Address" {
		return text, true
	}
	if withPort, err := netip.ParseAddrPort(text); err == nil {
		return withPort.Addr().String(), true
	}
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return "", false
	}
	_, notAddress := netip.ParseAddr(text[:i])
	_, notPort := strconv.ParseUint(text[i+1:], 10, 16)
	return text[:i], notAddress == nil && notPort == nil
}
