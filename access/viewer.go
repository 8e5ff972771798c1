package access

import (
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

	"github.com/caddy-sse/caddy-sse/upstream/next"
)

// Caller makes the requests; see [next.Caller].
type Caller interface {
	Do(req *http.Request, maxBody int64) (*next.Response, error)
	User() string
	Vars() map[string]string
	Trusted() bool
	Original() string
}

// Viewer is as whom the backend is asked.
type Viewer struct {
	caller Caller
	host   string
	header http.Header
	remote string
	tls    *tls.ConnectionState
	parts  []string // all that tells one viewer's question from another's
}

// notAsked are headers that are about the viewer's connection, page or stream
// and not about who they are: with one that differs from request to request, no
// answer could be shared.
var notAsked = func() map[string]bool {
	set := make(map[string]bool)
	for _, name := range []string{
		// Hop by hop (RFC 9110 §7.6.1), about a body, and of the stream.
		"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect",
		"Content-Length", "Content-Type", "Content-Encoding", "Content-Language",
		"Accept", "Last-Event-Id", "Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
		"Cache-Control", "Pragma", "Priority",
		// Left to the transport, which then decodes what it asked for.
		"Accept-Encoding",
		// How the request came here (RFC 7838 §5, RFC 8470 §5.1, RFC 8586 §2).
		"Alt-Used", "Early-Data", "Cdn-Loop",
		// What browsers tell of the page.
		"Origin", "Referer", "Dnt", "Upgrade-Insecure-Requests", "Save-Data", "Device-Memory", "Downlink", "Dpr", "Ect", "Rtt",
		// Ids of a single request.
		"Traceparent", "Tracestate", "Baggage", "X-Request-Id", "X-Correlation-Id", "X-Amzn-Trace-Id", "X-Cloud-Trace-Context", "Cf-Ray", "Via",
	} {
		set[name] = true
	}
	return set
}()

// NewViewer keeps of a viewer's request what the backend is to be asked with.
// The request may be over by then.
func NewViewer(r *http.Request, caller Caller) *Viewer {
	v := &Viewer{caller: caller, host: r.Host, header: make(http.Header), remote: r.RemoteAddr, tls: r.TLS}
	hop := connectionNames(r.Header)
	for name, values := range r.Header {
		if !notAsked[name] && !hop[name] && !strings.HasPrefix(name, "Sec-") {
			v.header[name] = slices.Clone(values)
		}
	}
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr
	}
	v.parts = []string{r.Host, address, v.certificate(), strconv.FormatBool(r.TLS != nil), caller.User(), caller.Original(), strconv.FormatBool(caller.Trusted())}
	vars := caller.Vars()
	v.parts = append(v.parts, strconv.Itoa(len(vars)))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		v.parts = append(v.parts, name, vars[name])
	}
	for _, name := range slices.Sorted(maps.Keys(v.header)) {
		v.parts = append(append(v.parts, name, strconv.Itoa(len(v.header[name]))), v.header[name]...)
	}
	v.header.Set("Accept", "application/json, */*;q=0.5") // and no stream
	return v
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

// certificate identifies the viewer's client certificate; empty if none.
func (v *Viewer) certificate() string {
	if v.tls == nil || len(v.tls.PeerCertificates) == 0 {
		return ""
	}
	sum := sha256.Sum256(v.tls.PeerCertificates[0].Raw)
	return string(sum[:])
}

// request returns a fresh request: a handler may change the one it gets.
func (v *Viewer) request(ctx context.Context, uri string) (*http.Request, error) {
	u, err := url.ParseRequestURI(uri)
	if err != nil {
		return nil, err
	}
	r := &http.Request{
		Method:     http.MethodGet,
		URL:        u,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     v.header.Clone(),
		Body:       http.NoBody,
		Host:       v.host,
		RemoteAddr: v.remote,
		RequestURI: uri,
		TLS:        v.tls,
	}
	return r.WithContext(ctx), nil
}
