// Package access decides who a client is and what it may watch.
package access

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/internal/template"
)

// MaxTopics is how many topics one stream may have.
const MaxTopics = 100

// Topics is what a subscription rule lets its clients watch.
type Topics struct {
	templates []topicTemplate
	allow     []string
}

type topicTemplate struct {
	*template.Template
	fromClient      bool   // by the client, in part or whole
	fromCertificate bool   // by a client certificate, if that has been verified
	covered         bool   // by what the backend is asked
	query           string // a query placeholder, which may stand for several values
}

// queryPlaceholder is the prefix of placeholders for query parameters.
const queryPlaceholder = "http.request.uri.query."

// NewTopics compiles a rule's topic templates and the patterns that bound what
// a client may choose through them. A template whose placeholders leave the
// choice to the client needs a pattern, unless these placeholders are all among
// those that are covered: the backend is asked about each value. With [CoveredByToken]
// among those, the claim of a token covers them, if it has one.
func NewTopics(templates, allow []string, covered ...string) (*Topics, error) {
	t := &Topics{allow: allow}
	for _, pattern := range allow {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return nil, fmt.Errorf("allow %q is no pattern: write a topic in which * stands for anything but a slash, such as orders/*", pattern)
		}
		if rest := strings.TrimSuffix("/"+pattern, "/**"); strings.Contains(rest, "**") {
			return nil, fmt.Errorf("allow %q: ** stands for one name or more, at the end and after a slash only, such as orders/**", pattern)
		}
	}
	for _, src := range templates {
		compiled, err := compileTopic(src, covered)
		if err != nil {
			return nil, err
		}
		switch {
		case !compiled.fromClient || compiled.covered || len(allow) > 0 || slices.Contains(covered, CoveredByToken):
		case len(covered) > 0:
			return nil, fmt.Errorf("topic %s is chosen by the client, and not all of its placeholders are in the uri of authorize: put them there, too, or say which topics it may choose, for example `allow %s`", src, suggestion(compiled.Template))
		default:
			return nil, fmt.Errorf("topic %s is chosen by the client: say which topics it may choose, for example `allow %s`", src, suggestion(compiled.Template))
		}
		t.templates = append(t.templates, compiled)
	}
	return t, nil
}

func compileTopic(src string, covered []string) (topicTemplate, error) {
	compiled, err := template.Compile(src)
	if err != nil {
		return topicTemplate{}, fmt.Errorf("topic %w", err)
	}
	t := topicTemplate{Template: compiled, covered: len(covered) > 0}
	for _, name := range compiled.Placeholders() {
		needed := isFromClient(name) || strings.HasPrefix(name, certificatePlaceholder)
		t.covered = t.covered && (!needed || slices.Contains(covered, name))
		t.fromClient = t.fromClient || isFromClient(name)
		t.fromCertificate = t.fromCertificate || strings.HasPrefix(name, certificatePlaceholder)
		if t.query == "" && strings.HasPrefix(name, queryPlaceholder) {
			t.query = name
		}
	}
	return t, nil
}

// certificatePlaceholder is the prefix of placeholders for the client's certificate.
const certificatePlaceholder = "http.request.tls.client."

// isFromClient tells whether the client has a part in what the template comes to. A
// certificate that nobody has verified says what the client wants it to say.
func (t topicTemplate) isFromClient(r *http.Request) bool {
	return t.fromClient || t.fromCertificate && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0)
}

// isFromClient tells placeholders whose value a client can choose freely from
// those that the server vouches for: an authenticated user, a client certificate
// (see isChosen), the address, a variable that the configuration sets.
func isFromClient(name string) bool {
	for _, vouched := range []string{certificatePlaceholder, "http.request.remote"} {
		if strings.HasPrefix(name, vouched) {
			return false
		}
	}
	for _, chosen := range []string{"http.request.", "http.regexp.", "http.matchers."} {
		if strings.HasPrefix(name, chosen) {
			return true
		}
	}
	return false
}

// suggestion is the widest pattern that makes sense for a template.
func suggestion(t *template.Template) string {
	pattern, _ := t.Expand(func(string) (string, error) { return "*", nil })
	return pattern
}

// Requested returns the topics that a request asks for, each once, or why it can't
// have them. A template of which a placeholder comes to nothing is left out;
// one whose query parameter is given several times makes as many topics. The
// token bounds them all if its claim names topics; nil: there is none.
func (t *Topics) Requested(r *http.Request, repl *caddy.Replacer, token *Token) ([]string, *refusal.Error) {
	repl = repl.WithoutFile()
	topics := make(map[string]struct{})
	for _, tmpl := range t.templates {
		for topic := range tmpl.expand(r, repl) {
			if _, again := topics[topic]; again {
				continue
			}
			if len(topics) == MaxTopics {
				return nil, refusal.Newf(http.StatusBadRequest, "the request names more than %d topics, which is as many as can be watched on one stream", MaxTopics)
			}
			if err := hub.CheckTopic(topic); err != nil {
				return nil, refusal.Newf(http.StatusBadRequest, "%v", err)
			}
			if refused := t.checkTopic(topic, tmpl.isFromClient(r), tmpl.covered, token); refused != nil {
				return nil, refused
			}
			topics[topic] = struct{}{}
		}
	}
	if len(topics) == 0 {
		return nil, refusal.Newf(http.StatusBadRequest, "the request names no topic")
	}
	return slices.Sorted(maps.Keys(topics)), nil
}

// errNoValue ends the expansion of a template that comes to nothing.
var errNoValue = errors.New("placeholder comes to nothing")

// expand yields the topics with the values that made them.
func (t topicTemplate) expand(r *http.Request, repl *caddy.Replacer) iter.Seq2[string, valueFunc] {
	return func(yield func(string, valueFunc) bool) {
		for _, choice := range queryValues(r, t.query) {
			value := func(name string) (string, error) {
				value := choice
				if name != t.query {
					value, _ = repl.GetString(name)
				}
				if value == "" {
					return "", errNoValue
				}
				return value, nil
			}
			if topic, err := t.Expand(value); err == nil && !yield(topic, value) {
				return
			}
		}
	}
}

// valueFunc is what the placeholder of that name comes to, or errMissing.
type valueFunc func(name string) (string, error)

// queryValues are the values of the parameter that a query placeholder is for.
func queryValues(r *http.Request, query string) []string {
	if query == "" {
		return []string{""}
	}
	return r.URL.Query()[strings.TrimPrefix(query, queryPlaceholder)]
}

// CoveredByToken says that a token covers what a client chooses, if its claim names
// topics.
const CoveredByToken = "token"

// checkTopic tells why a topic can't be watched. What the client has chosen must be
// allowed by a pattern of the rule, where it has any, or be covered: by what the
// backend is asked, or by the token's claim.
func (t *Topics) checkTopic(topic string, chosen, covered bool, token *Token) *refusal.Error {
	named := token != nil && token.HasClaim
	if named && !token.Covers(topic) {
		return InsufficientScope("the token doesn't let its owner watch the topic %q", topic)
	}
	if chosen && !t.isAllowed(topic, covered || named) {
		refused := refusal.Newf(http.StatusForbidden, "the topic %q can't be watched here", topic)
		refused.Kind = refusal.TopicNotAllowed
		return refused
	}
	return nil
}

// isAllowed tells whether a topic that the client has chosen is within bounds.
func (t *Topics) isAllowed(topic string, covered bool) bool {
	return covered && len(t.allow) == 0 || slices.ContainsFunc(t.allow, func(pattern string) bool { return matchTopic(pattern, topic) })
}

// matchTopic tells whether a topic is one of the pattern's. Between slashes it
// matches as [path.Match] does; ** at the end stands for one name or more.
func matchTopic(pattern, topic string) bool {
	patterns, names := strings.Split(pattern, "/"), strings.Split(topic, "/")
	for i, p := range patterns {
		if p == "**" && i == len(patterns)-1 {
			return len(names) > i
		}
		if i == len(names) {
			return false
		}
		if ok, err := path.Match(p, names[i]); !ok || err != nil {
			return false
		}
	}
	return len(names) == len(patterns)
}
