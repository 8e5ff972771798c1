package poll

import (
	"fmt"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// varyBy is which headers tell viewers apart, where a rule says so. No other
// header that may hold a credential is sent.
type varyBy struct {
	headers map[string]bool
	cookies map[string]bool // if not empty: of all cookies only these
}

// alike are headers that are sent, and are part of the key, whatever a rule says:
// they tell how the request came here, not whose it is.
var alike = setOf("Accept", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port")

// newVaryBy reads the names of headers, of single cookies written
// Cookie:session, or the one word "none". No names at all are no rule: nil.
func newVaryBy(names []string) (*varyBy, error) {
	if len(names) == 0 {
		return nil, nil
	}
	by := &varyBy{make(map[string]bool), make(map[string]bool)}
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
		case notSent[header]:
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

// names tells whether the rule names a header.
func (by *varyBy) names(name string) bool { return by != nil && by.headers[name] }

// drops tells whether a header is not sent.
func (by *varyBy) drops(name string) bool {
	return by != nil && !by.names(name) && !alike[name] && !hints[name] && !addresses[name]
}

// cookie returns what of the viewer's cookies is sent.
func (by *varyBy) cookie(r *http.Request) []string {
	if by == nil || len(by.cookies) == 0 {
		return r.Header["Cookie"]
	}
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
