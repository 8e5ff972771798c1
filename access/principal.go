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

// Requester makes the requests; see [subrequest.Requester].
type Requester interface {
	Do(req *http.Request, maxBody int64) (*subrequest.Response, error)
	User() string
	Vars() map[string]string
	ViaTrustedProxy() bool
	OriginalPath() string
}

// Principal is as whom the backend is asked.
type Principal struct {
	requester Requester
	host      string
	header    http.Header
	remote    string
	tls       *tls.ConnectionState
	identity  []string // all that tells one viewer's question from another's
}

// bodyHeaders are headers about a body, which a question has none of, and what is
// taken in answer to it, which is nothing that matters.
var bodyHeaders = []string{"Accept", "Content-Type", "Content-Encoding", "Content-Language"}

// NewPrincipal keeps of a viewer's request what the backend is to be asked with.
// The request may be over by then.
func NewPrincipal(r *http.Request, caller Requester) *Principal {
	v := &Principal{requester: caller, host: r.Host, header: make(http.Header), remote: r.RemoteAddr, tls: r.TLS}
	hop := subrequest.ConnectionOptions(r.Header)
	for name, values := range r.Header {
		if !subrequest.IsRequestSpecific(name) && !hop[name] && !slices.Contains(bodyHeaders, name) {
			v.header[name] = slices.Clone(values)
		}
	}
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = r.RemoteAddr
	}
	v.identity = []string{r.Host, address, subrequest.CertificateDigest(r.TLS), strconv.FormatBool(r.TLS != nil), caller.User(), caller.OriginalPath(), strconv.FormatBool(caller.ViaTrustedProxy())}
	vars := caller.Vars()
	v.identity = append(v.identity, strconv.Itoa(len(vars)))
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		v.identity = append(v.identity, name, vars[name])
	}
	for _, name := range slices.Sorted(maps.Keys(v.header)) {
		v.identity = append(append(v.identity, name, strconv.Itoa(len(v.header[name]))), v.header[name]...)
	}
	v.header.Set("Accept", subrequest.DefaultAccept)
	return v
}

// request returns a fresh request: a handler may change the one it gets.
func (v *Principal) request(ctx context.Context, uri string) (*http.Request, error) {
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
