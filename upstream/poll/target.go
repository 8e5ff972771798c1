package poll

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/body"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// target is the request that the polls of a view repeat.
//
// Polls send a header only in one of four cases: it is part of the view key; it
// is a vary candidate, which joins the key when the backend's Vary names it; it
// can't separate viewers; or it is a credential, and all principals that may
// read the document share the view. An ignored header joins the key when the
// backend's Vary names it, too, and polls don't send it before.
type target struct {
	method   string
	url      *url.URL // never changed
	host     string
	hostname string // the host without its port
	path     string
	header   http.Header // without the principal's
	ignored  http.Header // sent only if the backend's Vary names them
	body     []byte      // of a POST
	original subrequest.Original
	overTLS  bool // to the proxy in front, if there is one

	principal *principal

	// own is the viewer itself, with its own address, if that has to be checked.
	// ownKey is a digest of the request as that principal.
	own    *principal
	ownKey string

	// base is a digest of the key without the headers and the principal. shared
	// is a digest of the key without the vary candidates. private is a digest of
	// shared and the principal.
	base, shared, private string
	// checkFailure is set if the viewer's authorization check failed without a
	// decision.
	checkFailure *checkFailure
}

// varyCandidates are sent as the first viewer sent them, and join the view key
// only if the backend's Vary names them (RFC 9110 §12.5.5).
var varyCandidates = map[string]bool{
	"Accept-Language": true,
	"User-Agent":      true,
}

// credentials are headers that identify a principal. Any other header may hold a
// credential too, and is part of the key like these. But all viewers may send
// the same value, so polls with only such a header carry no address.
var credentials = setOf("Authorization", "Cookie")

func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, n := range names {
		set[n] = true
	}
	return set
}

// newTarget makes a viewer's request repeatable.
func newTarget(r *http.Request, query []byte, caller Requester, h *hub.Hub, c *Config) *target {
	u, original := polledURL(r.URL), polledOriginal(caller.Original())
	if original.URL != nil && *original.URL == *u { // there was no rewrite: one copy is enough
		u = original.URL
	}
	t := &target{
		method:    c.Method,
		url:       u,
		host:      r.Host,
		hostname:  Hostname(r.Host),
		path:      u.Path,
		header:    make(http.Header, len(r.Header)),
		body:      query,
		original:  original,
		principal: newPrincipal(r, caller, c.varyBy),
	}
	parts := []string{c.Scope, scheme(r), t.method, t.host, u.EscapedPath(), u.RawQuery, string(query), strconv.FormatBool(caller.ViaTrustedProxy())}
	parts = append(parts, t.originalParts()...)
	var vars []string
	for _, name := range slices.Sorted(maps.Keys(caller.Vars())) {
		vars = append(vars, name, caller.Vars()[name])
	}
	parts = appendCounted(parts, "", vars...)
	t.base = h.Digest(parts...)
	if c.Body != "" {
		t.original.Method = c.Method
		t.header.Set("Content-Type", c.bodyType()) // unless the request has another
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if t.principal.holds(name) {
			continue
		}
		if c.ignores(name) {
			if t.ignored == nil {
				t.ignored = make(http.Header)
			}
			t.ignored[name] = slices.Clone(r.Header[name])
		}
		values := t.headerValues(name, r, c)
		if len(values) == 0 {
			continue
		}
		t.header[name] = values
		if c.varyBy.names(name) || !varyCandidates[name] {
			parts = appendCounted(parts, name, values...)
		}
	}
	if accept := c.ruleAccept(); accept != "" { // also if the request has none
		t.header["Accept"] = []string{accept}
	}
	t.overTLS = r.TLS != nil || caller.ViaTrustedProxy() && strings.EqualFold(t.header.Get("X-Forwarded-Proto"), "https")
	t.shared = h.Digest(parts...)
	t.private = h.Digest(append([]string{t.shared}, t.principal.keyParts()...)...)
	t.principal.id = t.private
	t.setOwn(r, caller, h, c)
	return t
}

// polledURL returns a URL as polls have it: without a position and a fragment. A
// request line may say more (RFC 9112 §3.2.2), of which the host is known; and an
// empty query is none.
func polledURL(from *url.URL) *url.URL {
	u := *from
	u.RawQuery = stream.WithoutPosition(u.RawQuery)
	u.Fragment, u.RawFragment = "", ""
	u.Scheme, u.User, u.Host, u.ForceQuery = "", nil, "", false
	return &u
}

// polledOriginal returns an original request line as polls have it. Absorb looks
// up the view of a GET for a HEAD, too.
func polledOriginal(o subrequest.Original) subrequest.Original {
	if o.URL != nil {
		if u := polledURL(o.URL); *u != *o.URL {
			o.URL = u
		}
	}
	if o.Method == http.MethodHead {
		o.Method = http.MethodGet
	}
	return o
}

// originalParts returns the parts of the view key that are the original request
// line's.
func (t *target) originalParts() []string {
	if t.original.URL == nil {
		return []string{"", "", ""}
	}
	return []string{t.original.Method, t.original.URL.EscapedPath(), t.original.URL.RawQuery}
}

// appendCounted appends a name, the number of its values, and the values. The
// number separates the values from the following name.
func appendCounted(parts []string, name string, values ...string) []string {
	return append(append(parts, name, strconv.Itoa(len(values))), values...)
}

// headerValues returns the values of a viewer's header that polls send.
func (t *target) headerValues(name string, r *http.Request, c *Config) []string {
	switch {
	case name == "Accept" && c.ruleAccept() != "":
		return nil // it separates no viewers
	case name == "Accept":
		return []string{c.accept(r.Header)}
	case !c.isSent(name):
		return nil
	default:
		return slices.Clone(r.Header[name])
	}
}

// carriesAll reports whether polls carry the headers of the viewer's request as
// they are, apart from addresses, Accept and those that no poll carries. The
// option vary may take away a header, or some of the cookies. What Connection
// names, polls carry, and a proxy takes away.
func (t *target) carriesAll(request http.Header) bool {
	hop := subrequest.ConnectionOptions(request)
	for name, values := range request {
		switch {
		case name == "Accept", subrequest.IsRequestSpecific(name), len(t.ignored[name]) > 0:
			continue
		case hop[name]:
			return false
		case t.principal.isAddress(name):
			continue
		}
		if !slices.Equal(t.header[name], values) && !slices.Equal(t.principal.header[name], values) {
			return false
		}
	}
	return true
}

// standsFor reports whether the response to a poll may be the response to the
// viewer's own request, so that the backend need not get that as well. It must not
// get a POST twice, whatever polls leave out of it.
func (t *target) standsFor(r *http.Request) bool {
	if t.method != http.MethodGet {
		return true
	}
	for _, name := range []string{"Origin", "Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range"} {
		if len(r.Header[name]) > 0 {
			return false
		}
	}
	return t.url.RawQuery == r.URL.RawQuery && stream.LastEventID(r) == "" && t.principal.remote == r.RemoteAddr && t.carriesAll(r.Header)
}

// isSent reports whether polls send a header that the viewer's request has.
func (c *Config) isSent(name string) bool {
	by := c.varyBy
	switch {
	case credentials[name]:
		return by == nil || by.shares || by.names(name)
	case addresses[name]:
		return true
	case c.StreamMethod() == http.MethodPost && pageHeaders[name]:
		return true
	case c.ignores(name):
		return false
	default:
		return !subrequest.IsRequestSpecific(name) && !by.drops(name)
	}
}

// pageHeaders are headers by which a backend may refuse a POST from another
// site's page. Polls of such requests always carry them.
var pageHeaders = setOf("Origin", "Referer", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Fetch-User")

// scheme returns the scheme of the viewer's request and, with TLS, the server
// name: it may differ from the host, and a handler may use it.
func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https " + strings.ToLower(r.TLS.ServerName)
	}
	return "http"
}

// key returns the parts of the view key. If shared is set, all principals that may
// read the document share a view. varies holds the vary candidates that the
// backend has named.
func (t *target) key(shared bool, varies map[string]bool) []string {
	parts := []string{"private", t.private}
	switch {
	case t.checkFailure != nil:
		parts[0] = "unanswered"
	case shared:
		parts = []string{"shared", t.shared}
	}
	for _, name := range slices.Sorted(maps.Keys(varies)) {
		values := t.header[name]
		if len(values) == 0 {
			values = t.ignored[name]
		}
		parts = appendCounted(parts, name, values...)
	}
	return parts
}

// unshared returns the same request for a viewer that the backend could not
// authorize.
func (t *target) unshared(u *checkFailure) *target {
	alone := *t
	alone.checkFailure = u
	return &alone
}

// client returns the network whose limit of views the target counts against.
func (t *target) client() string { return t.principal.requester.ClientNetwork() }

// headerFor returns a new header for a request as a principal: handlers may change
// it. It has the ignored headers that varies names.
func (t *target) headerFor(as *principal, since validators, varies map[string]bool) http.Header {
	n := len(t.header) + len(as.header)
	if since != (validators{}) {
		n++
	}
	h := make(http.Header, n)
	all := make([]string, 0, n) // nearly all have one value
	for _, from := range []http.Header{t.header, as.header} {
		for name, values := range from {
			start := len(all)
			all = append(all, values...)
			h[name] = all[start:len(all):len(all)]
		}
	}
	for name := range varies {
		if values := t.ignored[name]; len(values) > 0 {
			h[name] = slices.Clone(values)
		}
	}
	since.setHeader(h)
	return h
}

// request returns a new request with a header.
func (t *target) request(ctx context.Context, as *principal, header http.Header) *http.Request {
	u := *t.url
	r := &http.Request{
		Method:        t.method,
		URL:           &u,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          http.NoBody,
		ContentLength: int64(len(t.body)),
		Host:          t.host,
		RemoteAddr:    as.remote,
		RequestURI:    u.RequestURI(),
		TLS:           as.tls,
	}
	if len(t.body) > 0 {
		r.Body = &rewinding{content: t.body}
	}
	return r.WithContext(subrequest.WithClient(ctx, as.clientIP, t.original))
}

// Hostname returns a Host header without its port, in lower case.
func Hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(host)
}

// queryNames returns the names of the query's parameters, each once. It leaves
// out parameters without a value, which may be values themselves, and unreadable
// ones.
func (t *target) queryNames() []string {
	names := make(map[string]bool)
	for pair := range strings.SplitSeq(t.url.RawQuery, "&") {
		name, _, named := strings.Cut(pair, "=")
		if name, err := url.QueryUnescape(name); named && err == nil {
			names[name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// query reads the body of a POST that opens a stream, and makes it readable
// again.
func (c *Config) query(r *http.Request) ([]byte, error) {
	switch {
	case c.Body != "":
		return []byte(c.Body), nil
	case c.Method != http.MethodPost:
		return nil, nil
	}
	content, refused := body.Read(nil, r, c.MaxRequest)
	if refused != nil { // a nil *refusal.Error must not become an error
		return nil, refused
	}
	r.ContentLength = int64(len(content))
	return content, nil
}
