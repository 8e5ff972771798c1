package subrequest

import (
	"crypto/sha256"
	"crypto/tls"
	"net/http"
	"net/textproto"
	"strings"
)

// ofOneRequest are headers that are about the viewer's connection, page or
// single request, and neither about who they are nor what they ask for.
var ofOneRequest = func() map[string]bool {
	set := make(map[string]bool)
	for _, name := range []string{
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
	} {
		set[name] = true
	}
	return set
}()

// IsRequestSpecific tells whether a header is about the viewer's connection, page
// or single request, so that it has no place in a request of our own: with it no
// two viewers would be alike. The name must be in its canonical form.
func IsRequestSpecific(name string) bool {
	return ofOneRequest[name] || strings.HasPrefix(name, "Sec-")
}

// ConnectionOptions are the headers that Connection declares to be so (RFC 9110 §7.6.1).
func ConnectionOptions(h http.Header) map[string]bool {
	names := make(map[string]bool)
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			names[textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	return names
}

// CertificateDigest identifies the viewer's client certificate; empty if there is none.
func CertificateDigest(state *tls.ConnectionState) string {
	if state == nil || len(state.PeerCertificates) == 0 {
		return ""
	}
	sum := sha256.Sum256(state.PeerCertificates[0].Raw)
	return string(sum[:])
}

// DefaultAccept is what a request of our own takes, for a viewer who takes nothing
// beside a stream.
const DefaultAccept = "application/json, */*;q=0.5"

// CopyHeader adds the headers of a backend's answer that go to viewers: all but
// those of its connection, and its cookies, since the answer may go to several
// viewers and a session is one's own.
func CopyHeader(dst, answer http.Header) {
	for name, values := range answer {
		switch name {
		case "Set-Cookie", "Content-Length", "Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Trailer":
		case "Vary":
			dst[name] = append(dst[name], values...)
		default:
			dst[name] = append([]string(nil), values...)
		}
	}
}
