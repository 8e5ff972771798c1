package access

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// Requester makes subrequests; see [subrequest.Requester].
type Requester interface {
	Do(req *http.Request, maxBody int64) (*subrequest.Response, error)
	User() string
	Vars() map[string]string
	ViaTrustedProxy() bool
	OriginalPath() string
	ClientIP() string
	ClientNetwork() string
}

// Principal holds the credentials, address, certificate and user of a client's
// request. Authorization checks carry them.
type Principal struct {
	requester Requester
	host      string
	header    http.Header
	remote    string
	tls       *tls.ConnectionState
	identity  []string // all that the backend's decision may depend on
}

// bodyHeaders are the headers of a request that a check doesn't repeat: it has no
// body, and its response's body doesn't matter.
var bodyHeaders = []string{"Accept", "Content-Type", "Content-Encoding", "Content-Language"}

// NewPrincipal copies the principal of a client's request, so that checks can
// follow after the request has ended.
func NewPrincipal(r *http.Request, requester Requester) *Principal {
	p := &Principal{requester: requester, host: r.Host, header: make(http.Header), remote: r.RemoteAddr, tls: r.TLS}
	for name, values := range r.Header {
		if !subrequest.IsRequestSpecific(name) && !subrequest.IsRequestID(name) && !slices.Contains(bodyHeaders, name) {
			p.header[name] = slices.Clone(values)
		}
	}
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr
	}
	p.identity = []string{
		r.Host, address, requester.ClientIP(), subrequest.CertificateDigest(r.TLS), strconv.FormatBool(r.TLS != nil),
		requester.User(), requester.OriginalPath(), strconv.FormatBool(requester.ViaTrustedProxy()),
	}
	vars := requester.Vars()
	p.identity = append(p.identity, strconv.Itoa(len(vars)))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		p.identity = append(p.identity, name, vars[name])
	}
	for _, name := range slices.Sorted(maps.Keys(p.header)) {
		p.identity = append(append(p.identity, name, strconv.Itoa(len(p.header[name]))), p.header[name]...)
	}
	p.header.Set("Accept", subrequest.DefaultAccept)
	return p
}

// request returns a new request, since handlers may change the one that they get.
func (p *Principal) request(ctx context.Context, uri string) (*http.Request, error) {
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
		Header:     p.header.Clone(),
		Body:       http.NoBody,
		Host:       p.host,
		RemoteAddr: p.remote,
		RequestURI: uri,
		TLS:        p.tls,
	}
	return r.WithContext(ctx), nil
}
