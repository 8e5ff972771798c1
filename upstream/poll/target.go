package poll

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/stream"
)

// target is a request that is made again and again.
//
// A header reaches the backend only if it is part of the view's key, or is one
// of the hints, which become part of it as soon as the backend says that they
// matter, or can't tell one viewer from another.
type target struct {
	caller   Caller
	url      *url.URL
	host     string
	hostname string // the host without its port
	path     string
	header   http.Header
	remote   string
	tls      *tls.ConnectionState

	base string // a digest of all of the key but the hints
}

// hints are sent as the first viewer sent them, and tell viewers apart only if
// the backend's Vary names them (RFC 9110 §12.5.5).
var hints = map[string]bool{
	"Accept-Language": true,
	"User-Agent":      true,
}

// notSent are headers that are about the viewer's connection, page or request
// and not about the document: each would make every viewer a view of its own.
var notSent = setOf(
	// Hop by hop (RFC 9110 §7.6.1), and what belongs to the stream.
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
	"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", "Content-Length",
	"Last-Event-Id", "Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
	"Cache-Control", "Pragma", "Priority",
	// Left to the transport, which then decodes what it asked for.
	"Accept-Encoding",
	// How the request came here (RFC 7838 §5, RFC 8470 §5.1, RFC 8586 §2).
	"Alt-Used", "Early-Data", "Cdn-Loop",
	// What browsers tell of the page.
	"Origin", "Referer", "Dnt", "Upgrade-Insecure-Requests", "Save-Data", "Device-Memory", "Downlink", "Dpr", "Ect", "Rtt",
	// Ids of a single request.
	"Traceparent", "Tracestate", "Baggage", "X-Request-Id", "X-Correlation-Id", "X-Amzn-Trace-Id", "X-Cloud-Trace-Context", "Cf-Ray", "Via",
)

// addresses are headers in which proxies say who the viewer is.
var addresses = setOf("X-Forwarded-For", "Forwarded", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "Fastly-Client-Ip", "X-Client-Ip")

// credentials are headers that say whose a request is. Any other header may
// hold a credential too, and is part of the key as these are; but it may as
// well be one that all viewers send, so that with the address of whoever came
// first they would get what that one may see.
var credentials = setOf("Authorization", "Cookie")

// nobody is the address of a request that is made for all who ask without
// credentials. A backend that decides by address refuses it: with the address
// of whoever came first, all would get what that one may see.
const nobody = "0.0.0.0"

func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// newTarget makes a viewer's request one that can be repeated.
func newTarget(r *http.Request, caller Caller, h *hub.Hub, c *Config) *target {
	u := *r.URL
	u.RawQuery = stream.WithoutPosition(u.RawQuery)
	u.Fragment, u.RawFragment = "", ""
	t := &target{
		caller:   caller,
		url:      &u,
		host:     r.Host,
		hostname: Hostname(r.Host),
		path:     u.Path,
		header:   make(http.Header, len(r.Header)),
		remote:   r.RemoteAddr,
		tls:      r.TLS,
	}
	personal := caller.User() != "" || t.certificate() != ""
	parts := []string{c.Scope, t.scheme(), t.host, u.EscapedPath(), u.RawQuery, caller.User(), t.certificate(), strconv.FormatBool(caller.Trusted())}
	var vars []string
	for _, name := range slices.Sorted(maps.Keys(caller.Vars())) {
		vars = append(vars, name, caller.Vars()[name])
	}
	parts = counted(parts, "", vars...)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		values := t.take(name, r, c.varyBy)
		if len(values) == 0 {
			continue
		}
		t.header[name] = values
		personal = personal || credentials[name]
		if c.varyBy.names(name) || !hints[name] && !addresses[name] {
			parts = counted(parts, name, values...)
		}
	}
	if personal {
		parts = t.addressed(parts)
	} else {
		t.anonymise()
	}
	t.base = h.Digest(parts...)
	return t
}

// counted adds a name and how many values it has before the values: what
// follows them can't be taken for one of them, nor the other way round.
func counted(parts []string, name string, values ...string) []string {
	return append(append(parts, name, strconv.Itoa(len(values))), values...)
}

// addressed adds the viewer's address, since a backend may decide by it, and
// not every cookie is a secret.
func (t *target) addressed(parts []string) []string {
	for _, name := range slices.Sorted(maps.Keys(addresses)) {
		parts = counted(parts, name, t.header[name]...)
	}
	host, _, err := net.SplitHostPort(t.remote)
	if err != nil {
		host = t.remote
	}
	return counted(parts, "", host)
}

// take returns what of a viewer's header is sent.
func (t *target) take(name string, r *http.Request, by *varyBy) []string {
	switch {
	case name == "Accept":
		return []string{cmp.Or(stream.OtherTypes(r.Header), "application/json, */*;q=0.5")}
	case notSent[name], strings.HasPrefix(name, "Sec-"), connectionNames(r.Header)[name], by.drops(name):
		return nil
	case name == "Cookie":
		return slices.Clone(by.cookie(r))
	default:
		return slices.Clone(r.Header[name])
	}
}

// connectionNames are the headers that Connection declares to be hop by hop.
func connectionNames(h http.Header) map[string]bool {
	names := make(map[string]bool)
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			names[textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	return names
}

// anonymise takes the viewer's address out of the request.
func (t *target) anonymise() {
	for name := range addresses {
		if len(t.header[name]) > 0 {
			t.header[name] = []string{nobody}
		}
	}
	if !t.caller.Trusted() {
		t.remote = net.JoinHostPort(nobody, "0")
	}
}

func (t *target) scheme() string {
	if t.tls != nil {
		return "https"
	}
	return "http"
}

// certificate identifies the viewer's client certificate; empty if none.
func (t *target) certificate() string {
	if t.tls == nil || len(t.tls.PeerCertificates) == 0 {
		return ""
	}
	sum := sha256.Sum256(t.tls.PeerCertificates[0].Raw)
	return string(sum[:])
}

// key is what viewers who share a view have in common, given the hints that
// the backend tells them apart by.
func (t *target) key(varies map[string]bool) []string {
	parts := []string{t.base}
	for _, name := range slices.Sorted(maps.Keys(varies)) {
		parts = append(parts, name, strings.Join(t.header[name], ", "))
	}
	return parts
}

// request returns a fresh request: a handler may change the one it gets.
func (t *target) request(ctx context.Context, etag string) *http.Request {
	u := *t.url
	r := &http.Request{
		Method:     http.MethodGet,
		URL:        &u,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     t.header.Clone(),
		Body:       http.NoBody,
		Host:       t.host,
		RemoteAddr: t.remote,
		RequestURI: u.RequestURI(),
		TLS:        t.tls,
	}
	if etag != "" {
		r.Header.Set("If-None-Match", etag)
	}
	return r.WithContext(ctx)
}

// Hostname is a Host header without its port.
func Hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(host)
}
