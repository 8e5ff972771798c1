package relay

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

// request is what a feed asks the backend, as its first viewer.
type request struct {
	method   string
	url      url.URL
	host     string
	header   http.Header
	body     []byte
	remote   string
	tls      *tls.ConnectionState
	clientIP string
	original subrequest.Original
	asked    bool // for an event stream
	viewer   credentials

	shared *poll.Repeatable // nil: the feed has one viewer
	key    string           // of requests that ask for the same
}

// accept is the Accept header of requests for streams. It names all formats: some
// backends refuse a request that accepts none of theirs.
const accept = "text/event-stream, application/x-ndjson;q=0.9, application/jsonl;q=0.9, application/json-seq;q=0.9, " +
	"multipart/x-mixed-replace;q=0.8, application/json;q=0.8, application/*;q=0.7, text/*;q=0.5"

// notRepeated are headers of the client's connection, and of its wish for a part or
// a coding of the response.
var notRepeated = []string{
	"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", "Content-Length", "Http2-Settings",
	"Accept-Encoding", "Range", "If-Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since",
}

// newRequest returns the request of a feed for a client's request. A position of a
// feed says nothing to the backend.
func newRequest(r *http.Request, body []byte, caller *subrequest.Requester, h *hub.Hub, c *Config, asked bool) *request {
	q := &request{
		method: r.Method, url: *r.URL, host: r.Host, header: r.Header.Clone(), body: body, remote: r.RemoteAddr, tls: r.TLS,
		clientIP: caller.ClientIP(), original: caller.Original(), asked: asked,
		viewer: credentialsOf(r, caller),
	}
	for _, name := range notRepeated {
		delete(q.header, name)
	}
	if isOwnPosition(h, stream.LastEventID(r)) {
		delete(q.header, "Last-Event-Id")
		q.url.RawQuery = stream.WithoutPosition(q.url.RawQuery)
	}
	if asked {
		q.header.Set("Accept", accept)
	}
	parts := []string{"relay", c.Place, r.Method, r.Host, q.url.EscapedPath(), stream.WithoutPosition(q.url.RawQuery), string(body)}
	q.key = h.Digest(parts...)
	if c.Share && asked {
		scope := c.Scope
		if c.AddressDecides {
			scope += " " + caller.ClientIP()
		}
		q.shared = poll.NewRepeatable(r, body, caller, h, scope)
	}
	return q
}

// isOwnPosition reports whether an id is one of this module, which says nothing to
// the backend.
func isOwnPosition(h *hub.Hub, id string) bool {
	_, _, own := parsePosition(id)
	if !own {
		_, own = h.Resolve(id, nil)
	}
	return own
}

// make returns a new request, which handlers may change. It continues after
// lastEventID; empty if it is the first.
func (q *request) make(ctx context.Context, lastEventID string) *http.Request {
	var r *http.Request
	if q.shared != nil {
		r = q.shared.Request(ctx)
		r.Header.Set("Accept", accept)
	} else {
		u := q.url
		r = &http.Request{
			Method: q.method, URL: &u, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: q.header.Clone(), Body: http.NoBody, ContentLength: int64(len(q.body)),
			Host: q.host, RemoteAddr: q.remote, RequestURI: u.RequestURI(), TLS: q.tls,
		}
		if len(q.body) > 0 {
			r.Body = io.NopCloser(bytes.NewReader(q.body))
		}
		r = r.WithContext(subrequest.WithClient(ctx, q.clientIP, q.original))
	}
	if canBeSent(lastEventID) {
		r.Header.Set("Last-Event-ID", lastEventID)
	}
	return r
}

// credentials identify a viewer, also at another address.
type credentials struct {
	user, certificate string
	authorization     []string
	cookies           map[string]string
}

func credentialsOf(r *http.Request, caller *subrequest.Requester) credentials {
	c := credentials{
		user: caller.User(), certificate: subrequest.CertificateDigest(r.TLS),
		authorization: slices.Clone(r.Header["Authorization"]), cookies: make(map[string]string),
	}
	for _, cookie := range r.Cookies() {
		c.cookies[cookie.Name] = cookie.Value
	}
	return c
}

// admits reports whether a request has all the credentials. It may have further
// cookies, which pages get at any time.
func (c credentials) admits(other credentials) bool {
	for name, value := range c.cookies {
		if got, ok := other.cookies[name]; !ok || got != value {
			return false
		}
	}
	return c.user == other.user && c.certificate == other.certificate && slices.Equal(c.authorization, other.authorization)
}

// update replaces the cookies that a response to the viewer sets.
func (c credentials) update(response http.Header) credentials {
	c.cookies = maps.Clone(c.cookies)
	for _, cookie := range (&http.Response{Header: response}).Cookies() {
		if _, sent := c.cookies[cookie.Name]; !sent {
			continue
		}
		if c.cookies[cookie.Name] = cookie.Value; cookie.MaxAge < 0 {
			delete(c.cookies, cookie.Name)
		}
	}
	return c
}

// resumeURL returns the URL from which a viewer resumes a feed with a GET.
func (q *request) resumeURL(token string) string {
	u := q.url
	if q.original.URL != nil {
		u = *q.original.URL
	}
	query := stream.WithoutPosition(u.RawQuery) + "&" + ResumeParameter + "=" + token
	return u.EscapedPath() + "?" + strings.TrimPrefix(query, "&")
}
