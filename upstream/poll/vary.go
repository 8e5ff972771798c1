package poll

import (
	"fmt"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// varyBy holds the headers that separate viewers, as named by the option vary.
// Polls send no other header that may hold a credential.
type varyBy struct {
	headers map[string]bool
	cookies map[string]bool // if not empty, the only cookies that count
	shares  bool            // the rule has share: polls send credentials too
}

// alwaysSent are headers that polls send and that are part of the view key, with
// any option vary. They describe the transport and the format of a request, not
// the principal.
var alwaysSent = setOf("Accept", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Content-Type", "Content-Encoding")

// newVaryBy parses the names of headers, of single cookies (Cookie:session), or
// the one word "none". It returns nil if there are no names. If shares is set,
// polls send credentials too.
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
			return nil, fmt.Errorf("vary %q is no header name: write for example Authorization, or Cookie:session for a single cookie", name)
		case header == "None":
			return nil, fmt.Errorf("vary none excludes other headers: write none alone, or remove it")
		case shares && credentials[header]:
			return nil, fmt.Errorf("vary %s contradicts share, which makes one view regardless of Authorization and Cookie: remove one of the two", header)
		case subrequest.IsRequestSpecific(header):
			return nil, fmt.Errorf("vary %s has no effect, because polls never send this header: remove it", header)
		case addresses[header]:
			return nil, fmt.Errorf("vary %s has no effect, because addresses always separate viewers with credentials, and never viewers without: remove it", header)
		}
		by.headers[header] = true
		if single {
			by.cookies[cookie] = true
		}
	}
	return by, nil
}

// names reports whether vary names a header.
func (by *varyBy) names(name string) bool { return by != nil && by.headers[name] }

// drops reports whether polls leave out a header that is neither a credential
// nor an address.
func (by *varyBy) drops(name string) bool {
	return by != nil && !by.names(name) && !alwaysSent[name] && !varyCandidates[name]
}

// credentialValues returns the values of a credential or address header that
// polls send.
func (by *varyBy) credentialValues(name string, r *http.Request) []string {
	switch {
	case by == nil || by.shares || addresses[name]:
		return r.Header[name]
	case !by.headers[name]:
		return nil
	case name == "Cookie" && len(by.cookies) > 0:
		return by.namedCookies(r.Header[name])
	default:
		return r.Header[name]
	}
}

// namedCookies returns the Cookie fields with only the pairs that vary names.
// Their bytes stay unchanged: backends read values, and cookies of the same name,
// in different ways.
func (by *varyBy) namedCookies(fields []string) (named []string) {
	for _, field := range fields {
		var kept []string
		for pair := range strings.SplitSeq(field, ";") { // RFC 6265 §4.2.1
			if name, _, _ := strings.Cut(pair, "="); by.cookies[strings.Trim(name, " \t")] {
				kept = append(kept, pair)
			}
		}
		if len(kept) > 0 {
			named = append(named, strings.Trim(strings.Join(kept, ";"), " \t"))
		}
	}
	return named
}
