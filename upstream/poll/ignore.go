package poll

import (
	"fmt"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// ignoredHeaders holds the headers of the option ignore: names, and the fixed parts of
// patterns.
type ignoredHeaders struct {
	names              map[string]bool
	prefixes, suffixes []string
}

// minPattern is how many characters of a pattern must be fixed.
const minPattern = 4

// newIgnored parses names of headers, and patterns with a * at one end.
func newIgnored(names []string, by *varyBy) (*ignoredHeaders, error) {
	g := &ignoredHeaders{names: make(map[string]bool)}
	for _, name := range names {
		fixed := strings.Trim(name, "*")
		canonical := textproto.CanonicalMIMEHeaderKey(fixed)
		switch {
		case !httpguts.ValidHeaderFieldName(fixed) || strings.Contains(fixed, "*") || len(name)-len(fixed) > 1:
			return nil, fmt.Errorf("ignore %q is no header name: write for example X-Shop-Visit, or X-Shop-* for all that begin so", name)
		case len(name) > len(fixed) && len(fixed) < minPattern:
			return nil, fmt.Errorf("ignore %s matches too many headers: write more of their names, such as X-Shop-*", name)
		case strings.HasPrefix(name, "*"):
			g.suffixes = append(g.suffixes, canonicalSuffix(fixed))
			continue
		case strings.HasSuffix(name, "*"):
			g.prefixes = append(g.prefixes, canonical)
			continue
		case credentials[canonical]:
			return nil, fmt.Errorf("ignore %s contradicts that credentials separate viewers: name what separates them with vary, such as vary none", canonical)
		case canonical == "Accept":
			return nil, fmt.Errorf("ignore Accept would leave polls without one: write accept and the type, such as accept application/json")
		case addresses[canonical]:
			return nil, fmt.Errorf("ignore %s has no effect, because addresses always separate viewers with credentials, and never viewers without: remove it", canonical)
		case alwaysSent[canonical]:
			return nil, fmt.Errorf("ignore %s is not possible, because it says how to read the request: remove it", canonical)
		case subrequest.IsRequestSpecific(canonical):
			return nil, fmt.Errorf("ignore %s has no effect, because polls never send this header: remove it", canonical)
		case by.names(canonical):
			return nil, fmt.Errorf("ignore %s contradicts vary %s: remove one of the two", canonical, canonical)
		}
		g.names[canonical] = true
	}
	return g, nil
}

// canonicalSuffix returns the end of a header's name in its canonical form.
func canonicalSuffix(s string) string {
	return strings.TrimPrefix(textproto.CanonicalMIMEHeaderKey("x"+s), "X")
}

// matches reports whether ignore names a header. A pattern matches no name that
// may be a credential's or says how to read the request.
func (g *ignoredHeaders) matches(name string) bool {
	if g == nil {
		return false
	}
	if g.names[name] {
		return true
	}
	if alwaysSent[name] || subrequest.MayBeCredential(name) {
		return false
	}
	for _, p := range g.prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	for _, s := range g.suffixes {
		if strings.HasSuffix(name, s) {
			return true
		}
	}
	return false
}

// ignores reports whether a header neither reaches the backend with polls nor
// separates viewers, unless the backend's Vary names it: it numbers a request, or
// the rule says so. A header that vary names always separates viewers.
func (c *Config) ignores(name string) bool {
	return !c.varyBy.names(name) && (subrequest.IsRequestID(name) || c.ignoredHeaders.matches(name))
}

// unsent returns the ignored headers of the target that a response's Vary names,
// and the request lacked, since varies doesn't name them: the response may be
// another one with them.
func (c *Config) unsent(t *target, varies map[string]bool, response http.Header) map[string]bool {
	if len(t.ignored) == 0 {
		return nil
	}
	var names map[string]bool
	for _, name := range c.candidatesIn(response) {
		if len(t.ignored[name]) > 0 && !varies[name] {
			if names == nil {
				names = make(map[string]bool)
			}
			names[name] = true
		}
	}
	return names
}
