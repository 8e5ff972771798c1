package subrequest

import (
	"crypto/sha256"
	"crypto/tls"
	"net/http"
	"net/textproto"
	"strings"
)

// requestSpecific are the headers of a client's connection, page or single
// request. They identify neither the client nor the resource.
var requestSpecific = func() map[string]bool {
	set := make(map[string]bool)
	for _, name := range []string{
		// Hop by hop (RFC 9110 §7.6.1), and those of the stream itself.
		"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Expect", "Content-Length",
		"Last-Event-Id", "Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
		"Cache-Control", "Pragma", "Priority",
		// The transport sets it, and decodes the response.
		"Accept-Encoding",
		// The request's way to this server (RFC 7838 §5, RFC 8470 §5.1, RFC 8586 §2).
		"Alt-Used", "Early-Data", "Cdn-Loop", "Via",
		// The browser's page and device.
		"Origin", "Referer", "Dnt", "Upgrade-Insecure-Requests", "Save-Data", "Device-Memory", "Downlink", "Dpr", "Ect", "Rtt",
	} {
		set[name] = true
	}
	return set
}()

// IsRequestSpecific reports whether a header is about a client's connection, page
// or single request. Subrequests don't carry such headers: they differ between
// clients that can share a response. The name must be in its canonical form.
//
// Those that a client names in Connection are not among them: it may name only
// headers of the connection there (RFC 9110 §7.6.1), and could otherwise take from
// a subrequest what tells on whose behalf it is made.
func IsRequestSpecific(name string) bool {
	return requestSpecific[name] || strings.HasPrefix(name, "Sec-")
}

// ConnectionOptions returns the names of the headers that Connection lists as hop
// by hop (RFC 9110 §7.6.1), in their canonical form.
func ConnectionOptions(h http.Header) map[string]bool {
	names := make(map[string]bool)
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			names[textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))] = true
		}
	}
	return names
}

// CertificateDigest returns the SHA-256 digest of the client's certificate; empty
// if there is none.
func CertificateDigest(state *tls.ConnectionState) string {
	if state == nil || len(state.PeerCertificates) == 0 {
		return ""
	}
	sum := sha256.Sum256(state.PeerCertificates[0].Raw)
	return string(sum[:])
}

// DefaultAccept is a subrequest's Accept header if the client accepts nothing but
// an event stream. It has no */*: Rails takes a request that lists it for a
// browser's, and responds with HTML. In Spring before 5.3, application/* matches no
// type with a suffix, such as application/hal+json.
const DefaultAccept = "application/json, application/*+json;q=0.9, application/*;q=0.8, text/*;q=0.5"

// CopyHeader copies the headers of a backend's response to a client's: all but
// those of the connection, and Set-Cookie, since several clients may share the
// response. Values of Vary are added; other headers are replaced.
func CopyHeader(dst, src http.Header) {
	for name, values := range src {
		switch name {
		case "Set-Cookie", "Content-Length", "Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Trailer":
		case "Vary":
			dst[name] = append(dst[name], values...)
		default:
			dst[name] = append([]string(nil), values...)
		}
	}
}
