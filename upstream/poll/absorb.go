package poll

import (
	"bytes"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// cachedResponse is the response of the last poll, for ordinary requests. It is
// immutable.
type cachedResponse struct {
	header http.Header
	body   []byte
	etag   string    // the backend's, or a digest of the body
	polled time.Time // start of the poll that fetched or confirmed it
}

// Absorb answers an ordinary GET or HEAD request for a polled document from the
// last poll, and returns true. It returns false if the backend must answer: the
// document has no view, the cached response is older than the interval or than
// the last invalidation, or the backend might answer this request differently.
func (p *Poller) Absorb(w http.ResponseWriter, r *http.Request, caller Requester) bool {
	if !p.config.Absorb || !p.hasViews(Hostname(r.Host), r.URL.Path) || !isAbsorbable(r) || hasPosition(caller.Original().URL) {
		return false
	}
	asStream := r
	if r.Method == http.MethodHead {
		asStream = r.Clone(r.Context())
		asStream.Method = http.MethodGet
	}
	t := newTarget(asStream, nil, caller, p.hub, p.config)
	k := p.cachedFor(t)
	if k == nil || !p.mayAbsorb(t, time.Now()) || !t.carriesAll(r.Header) && !isCacheableForAll(k.header) || !p.config.satisfies(r.Header, k) || variesBy(k.header, t.principal.trusted) {
		return false
	}
	k.write(w, r)
	p.observer.Absorbed()
	return true
}

// hasViews reports whether a path of a host has views. Most requests are for
// another path, and need no view key.
func (p *Poller) hasViews(hostname, path string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.byPath.find(pathKey(hostname, path))
	return ok
}

// isAbsorbable reports whether a request permits a cached response.
func isAbsorbable(r *http.Request) bool {
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead, hasBody(r), len(r.Header["Upgrade"]) > 0:
		return false
	case hasPosition(r.URL):
		return false
	}
	if len(r.Header["Cache-Control"]) == 0 && strings.EqualFold(r.Header.Get("Pragma"), "no-cache") { // RFC 9111 §5.4
		return false
	}
	for name := range directives(r.Header) {
		switch name {
		case "no-cache", "no-store":
			return false
		}
	}
	return true
}

// hasPosition reports whether a URL's query has a parameter that polls leave out.
// To the backend it may mean something in an ordinary request.
func hasPosition(u *url.URL) bool {
	return u != nil && stream.WithoutPosition(u.RawQuery) != u.RawQuery
}

// hasBody reports whether a request has, or may have, a body. Over HTTP/3 an
// unknown length doesn't count: the body of a GET has no meaning (RFC 9110
// §9.3.1).
func hasBody(r *http.Request) bool {
	return r.ContentLength > 0 || r.ContentLength < 0 && r.ProtoMajor < 3
}

// cachedFor returns the cached response of the view that a request would join as
// a stream, or nil if there is none that its principal may read.
func (p *Poller) cachedFor(t *target) *cachedResponse {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, now := p.views[p.keyLocked(t)], time.Now()
	if v == nil {
		return nil
	}
	k := v.state.fresh(now, time.Duration(p.config.Interval))
	if k == nil || !v.isCheckedLocked() {
		return k
	}
	one := v.viewers.find(t.principal.id)
	if one == nil || now.Sub(one.authorizedAt) > authorizedFor || !k.isViewerIndependent() {
		return nil
	}
	return k
}

// authorizedFor is for how long after its last authorization a viewer of a
// shared view gets cached responses.
const authorizedFor = time.Minute

// isViewerIndependent reports whether all headers of the response describe the
// document, the server or the use of the response, and none may describe the
// principal.
func (k *cachedResponse) isViewerIndependent() bool {
	for name := range k.header {
		if !viewerIndependentHeaders[name] {
			return false
		}
	}
	return true
}

var viewerIndependentHeaders = setOf(
	"Content-Type", "Content-Length", "Content-Language", "Content-Encoding", "Content-Disposition", "Content-Location", "Content-Security-Policy",
	"Etag", "Last-Modified", "Accept-Ranges", "Link", "Vary", "Age", "Cache-Control", "Expires", "Pragma", "Date",
	"Server", "Via", "X-Powered-By", "Alt-Svc", "Connection", "Keep-Alive", "Transfer-Encoding", "Trailer",
	"Strict-Transport-Security", "X-Content-Type-Options", "X-Frame-Options", "X-Xss-Protection", "Referrer-Policy", "Permissions-Policy",
	"Cross-Origin-Resource-Policy", "Cross-Origin-Opener-Policy", "Cross-Origin-Embedder-Policy", "Access-Control-Allow-Origin",
)

// satisfies reports whether the backend would have sent the cached response to
// this request, too. It wouldn't if the client prefers another media type, or
// if the response varies by a header of the request that polls don't send.
func (c *Config) satisfies(request http.Header, k *cachedResponse) bool {
	if isCrossOrigin(request) && k.header.Get("Access-Control-Allow-Origin") != "*" {
		return false // polls send no Origin: the response lacks the CORS decision
	}
	if limit, ok := age(request, "max-age"); ok && k.age(time.Now()) >= limit {
		return false
	}
	decides := false
	for name := range listMembers(k.header, "Vary") {
		switch name = textproto.CanonicalMIMEHeaderKey(name); {
		case name == "*", mayBeAddress(name):
			return false
		case name == "Accept":
			decides = true
		case name != "Accept-Encoding" && len(request[name]) > 0 && !c.isSent(name):
			return false
		}
	}
	return stream.PrefersType(request, k.header.Get("Content-Type"), decides)
}

// isCrossOrigin reports whether a browser sent the request for a page that may
// be of another origin. A backend may refuse such a request without a Vary
// header (W3C Fetch Metadata, "resource isolation policy").
func isCrossOrigin(request http.Header) bool {
	site := request.Get("Sec-Fetch-Site")
	return len(request["Origin"]) > 0 || site != "" && site != "same-origin" && site != "none"
}

// age returns the age of the response (RFC 9111 §4.2.3). It includes the time
// that the response spent in other caches.
func (k *cachedResponse) age(now time.Time) time.Duration {
	return seconds(k.header.Get("Age")) + now.Sub(k.polled)
}

func (k *cachedResponse) write(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	subrequest.CopyHeader(header, k.header)
	header.Set("ETag", k.etag)
	header.Set("Age", strconv.FormatInt(int64(k.age(time.Now())/time.Second), 10))
	header.Add("Cache-Status", "caddy-sse; hit") // RFC 9211
	modified, err := http.ParseTime(k.header.Get("Last-Modified"))
	if err != nil {
		modified = time.Time{}
	}
	http.ServeContent(w, r, "", modified, bytes.NewReader(k.body))
}
