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

// MaxSubrequests is how many URIs the backend is asked for, at most, about one
// stream.
const MaxSubrequests = 20

// AuthorizationURIs are the URIs that must let in who is to watch the topics that a
// request asks for: for each topic the one that is made of the very values that
// made the topic. A request that leaves a value out is refused.
//
// Where a topic has no part of it, a query parameter that is given several
// times is asked about as often.
func (t *Topics) AuthorizationURIs(r *http.Request, repl *caddy.Replacer, u *URITemplate) ([]string, *refusal.Error) {
	repl = repl.WithoutFile()
	questions := make(map[string]struct{})
	for _, tmpl := range t.templates {
		for _, value := range tmpl.expand(r, repl) {
			if err := tmpl.addURIs(r, u, value, questions); err != nil {
				return nil, badRequest(err)
			}
		}
	}
	return slices.Sorted(maps.Keys(questions)), nil
}

var errTooManyURIs = fmt.Errorf("the request asks for more than may be asked about for one stream, which is %d: open several", MaxSubrequests)

// addURIs adds the questions about one topic.
func (t topicTemplate) addURIs(r *http.Request, u *URITemplate, value valueFunc, questions map[string]struct{}) error {
	repeats := t.repeatedParameter(u)
	values := queryValues(r, repeats)
	if len(values) == 0 {
		return checkParameter(repeats, "")
	}
	for _, choice := range values {
		uri, err := u.expand(func(name string) (string, error) {
			if name == repeats {
				return choice, nil
			}
			v, err := value(name)
			if errors.Is(err, errNoValue) {
				return "", nil // which is refused by its name
			}
			return v, err
		})
		if err != nil {
			return err
		}
		if questions[uri] = struct{}{}; len(questions) > MaxSubrequests {
			return errTooManyURIs
		}
	}
	return nil
}

// repeatedParameter is the first of the URI's query placeholders whose value the topic
// has not got: each value of the parameter makes a question.
func (t topicTemplate) repeatedParameter(u *URITemplate) string {
	for _, name := range u.Placeholders() {
		if strings.HasPrefix(name, queryPlaceholder) && !slices.Contains(t.Placeholders(), name) {
			return name
		}
	}
	return ""
}
