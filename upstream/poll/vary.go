package poll

import (
	"fmt"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// varyBy holds the headers that tell viewers apart, where a rule names them.
// Polls send no other header that may hold a credential.
type varyBy struct {
	headers map[string]bool
	cookies map[string]bool // if not empty: of all cookies only these
	shares  bool            // credentials are sent all the same
}

// alwaysSent are headers that are sent, and are part of the view key, whatever a
// rule says: they tell how the request came or is written, and not whose it is.
var alwaysSent = setOf("Accept", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Content-Type", "Content-Encoding")

// newVaryBy parses names of headers, of single cookies as Cookie:session, or the
// word "none". Without names it returns nil. If viewers share a view, polls send
// credentials all the same.
func newVaryBy(names []string, shares bool) (*varyBy, error) {
	if len(names) == 0 {
		return nil, nil
	}
	by := &varyBy{make(map[string]bool), make(map[string]bool), shares}
	if len(names) == 1 && names[0] == "none" {
		return by, nil
	}
	for _, name := range names {
		header, cookie, single := strings.Cut(name, ":")
		header = textproto.CanonicalMIMEHeaderKey(header)
		switch {
		case !httpguts.ValidHeaderFieldName(header) || single && (header != "Cookie" || !httpguts.ValidHeaderFieldName(cookie)):
			return nil, fmt.Errorf("vary %q is no header: write for example Authorization, or Cookie:session for a single cookie", name)
		case header == "None":
			return nil, fmt.Errorf("vary none stands alone")
		case shares && credentials[header]:
			return nil, fmt.Errorf("vary %s and share don't go together: share makes one view of all who may see it, whatever their Authorization and Cookie", header)
		case subrequest.IsRequestSpecific(header):
			return nil, fmt.Errorf("vary %s: that header is never sent with a poll", header)
		case addresses[header]:
			return nil, fmt.Errorf("vary %s: addresses are told apart with credentials only, and then always", header)
		}
		by.headers[header] = true
		if single {
			by.cookies[cookie] = true
		}
	}
	return by, nil
}

// names reports whether the rule names a header.
func (by *varyBy) names(name string) bool { return by != nil && by.headers[name] }

// drops reports whether polls leave out a header that is neither a credential
// nor an address.
func (by *varyBy) drops(name string) bool {
	return by != nil && !by.names(name) && !alwaysSent[name] && !varyCandidates[name]
}

// credentialValues returns the values of a credential or address that polls
// send.
func (by *varyBy) credentialValues(name string, r *http.Request) []string {
	switch {
	case by == nil || by.shares || addresses[name]:
		return r.Header[name]
	case !by.headers[name]:
		return nil
	case name == "Cookie" && len(by.cookies) > 0:
		return by.namedCookies(r)
	default:
		return r.Header[name]
	}
}

// namedCookies returns the cookies that the rule names.
func (by *varyBy) namedCookies(r *http.Request) []string {
	var kept []string
	for _, c := range r.Cookies() {
		if by.cookies[c.Name] {
			kept = append(kept, c.String())
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return []string{strings.Join(kept, "; ")}
}
