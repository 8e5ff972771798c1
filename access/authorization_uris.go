package access

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// MaxSubrequests is how many authorization checks one stream may need.
const MaxSubrequests = 20

// AuthorizationURIs returns the URIs of the authorization checks for a request,
// sorted, each once. For each topic that the request names, the template is
// expanded with the values that made the topic. A request that leaves a value
// out is refused.
//
// If a query parameter of the template is not part of the topic, then each of its
// values in the request makes a URI.
func (t *Topics) AuthorizationURIs(r *http.Request, repl *caddy.Replacer, u *URITemplate) ([]string, *refusal.Error) {
	repl = repl.WithoutFile()
	uris := make(map[string]struct{})
	for _, tmpl := range t.templates {
		for _, value := range tmpl.expand(r, repl) {
			if err := tmpl.addURIs(r, u, value, uris); err != nil {
				return nil, badRequest(err)
			}
		}
	}
	return slices.Sorted(maps.Keys(uris)), nil
}

var errTooManyURIs = fmt.Errorf("the request needs more authorization checks than one stream may, which is %d: open several streams", MaxSubrequests)

// addURIs adds the URIs for one topic.
func (t topicTemplate) addURIs(r *http.Request, u *URITemplate, value valueFunc, uris map[string]struct{}) error {
	repeated := t.repeatedParameter(u)
	choices := queryValues(r, repeated)
	if len(choices) == 0 {
		return checkParameter(repeated, "")
	}
	for _, choice := range choices {
		uri, err := u.expand(func(name string) (string, error) {
			if name == repeated {
				return choice, nil
			}
			v, err := value(name)
			if errors.Is(err, errNoValue) {
				return "", nil // expand refuses it by the placeholder's name
			}
			return v, err
		})
		if err != nil {
			return err
		}
		if uris[uri] = struct{}{}; len(uris) > MaxSubrequests {
			return errTooManyURIs
		}
	}
	return nil
}

// repeatedParameter returns the template's first query placeholder that the topic
// doesn't have, or an empty string.
func (t topicTemplate) repeatedParameter(u *URITemplate) string {
	for _, name := range u.Placeholders() {
		if strings.HasPrefix(name, queryPlaceholder) && !slices.Contains(t.Placeholders(), name) {
			return name
		}
	}
	return ""
}
