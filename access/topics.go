// Package access decides who may read which topics: topic templates and patterns,
// tokens, authorization checks by the backend, CORS, and limits on streams.
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

// MaxTopics limits the topics of one stream.
const MaxTopics = 100

// Topics are the topics that the clients of a rule may read. It is safe for
// concurrent use.
type Topics struct {
	templates []topicTemplate
	allow     []string
}

type topicTemplate struct {
	*template.Template
	fromClient      bool   // the client chooses the topic, or a part of it
	fromCertificate bool   // so does a client certificate
	covered         bool   // the backend or the token authorizes the client's choice
	query           string // the first query placeholder, which may have several values
}

// queryPlaceholder is the prefix of the placeholders for query parameters.
const queryPlaceholder = "http.request.uri.query."

// NewTopics compiles topic templates, such as orders/{http.request.uri.query.order},
// and the patterns that limit the topics that clients choose. A template with a
// placeholder whose value the client chooses needs a pattern, unless all such
// placeholders are covered: the URI of an authorization check has them. If covered
// contains [CoveredByToken], a token with the claim covers them all.
func NewTopics(templates, allow []string, covered ...string) (*Topics, error) {
	t := &Topics{allow: allow}
	for _, pattern := range allow {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return nil, fmt.Errorf("allow %q is not a pattern: write a topic in which * stands for anything but a slash, such as orders/*", pattern)
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
			return nil, fmt.Errorf("the client chooses topic %s, and not all of its placeholders are in the uri of authorize: add them there, or say which topics clients may choose, for example `allow %s`", src, suggestion(compiled.Template))
		default:
			return nil, fmt.Errorf("the client chooses topic %s: say which topics clients may choose, for example `allow %s`", src, suggestion(compiled.Template))
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
		needed := chosenByClient(name) || strings.HasPrefix(name, certificatePlaceholder)
		t.covered = t.covered && (!needed || slices.Contains(covered, name))
		t.fromClient = t.fromClient || chosenByClient(name)
		t.fromCertificate = t.fromCertificate || strings.HasPrefix(name, certificatePlaceholder)
		if t.query == "" && strings.HasPrefix(name, queryPlaceholder) {
			t.query = name
		}
	}
	return t, nil
}

// certificatePlaceholder is the prefix of the placeholders for the client's
// certificate.
const certificatePlaceholder = "http.request.tls.client."

// isFromClient reports whether the client chooses a part of the topic. A client also
// chooses the fields of its certificate, unless the server has verified it.
func (t topicTemplate) isFromClient(r *http.Request) bool {
	return t.fromClient || t.fromCertificate && (r.TLS == nil || len(r.TLS.VerifiedChains) == 0)
}

// chosenByClient reports whether clients can choose a placeholder's value freely.
// The server determines the others: an authenticated user, a verified certificate,
// the address, a variable of the configuration.
func chosenByClient(name string) bool {
	for _, prefix := range []string{certificatePlaceholder, "http.request.remote"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	for _, prefix := range []string{"http.request.", "http.regexp.", "http.matchers."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// suggestion returns the widest sensible pattern for a template.
func suggestion(t *template.Template) string {
	pattern, _ := t.Expand(func(string) (string, error) { return "*", nil })
	return pattern
}

// Requested returns the topics that a request names, sorted, each once, or a refusal
// if it may not read one of them. A template with a placeholder that has no value
// is skipped. A query parameter with several values makes as many topics. The token
// may be nil; if it has the claim, it must cover all topics.
func (t *Topics) Requested(r *http.Request, repl *caddy.Replacer, token *Token) ([]string, *refusal.Error) {
	repl = repl.WithoutFile()
	topics := make(map[string]struct{})
	for _, tmpl := range t.templates {
		for topic := range tmpl.expand(r, repl) {
			if _, seen := topics[topic]; seen {
				continue
			}
			if len(topics) == MaxTopics {
				return nil, refusal.Newf(http.StatusBadRequest, "the request names more than %d topics, which is the limit of one stream", MaxTopics)
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

// errNoValue ends the expansion of a template.
var errNoValue = errors.New("the placeholder has no value")

// expand yields the topics, each with the values of its placeholders.
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

// valueFunc returns the value of a placeholder, or errMissing.
type valueFunc func(name string) (string, error)

// queryValues returns the values of a query placeholder's parameter. Without a
// placeholder it returns one empty value.
func queryValues(r *http.Request, query string) []string {
	if query == "" {
		return []string{""}
	}
	return r.URL.Query()[strings.TrimPrefix(query, queryPlaceholder)]
}

// CoveredByToken means that a token with the claim covers all placeholders whose
// values the client chooses; see [NewTopics].
const CoveredByToken = "token"

// checkTopic returns a refusal if the client may not read the topic. A topic that the
// client chooses must match a pattern of the rule. If the rule has no patterns, it
// must be covered by an authorization check or by the token's claim.
func (t *Topics) checkTopic(topic string, chosen, covered bool, token *Token) *refusal.Error {
	hasClaim := token != nil && token.HasClaim
	if hasClaim && !token.Covers(topic) {
		return InsufficientScope("the token doesn't cover the topic %q", topic)
	}
	if chosen && !t.isAllowed(topic, covered || hasClaim) {
		refused := refusal.Newf(http.StatusForbidden, "the topic %q is not allowed here", topic)
		refused.Kind = refusal.TopicNotAllowed
		return refused
	}
	return nil
}

// isAllowed reports whether the rule allows a topic that the client chooses.
func (t *Topics) isAllowed(topic string, covered bool) bool {
	return covered && len(t.allow) == 0 || slices.ContainsFunc(t.allow, func(pattern string) bool { return matchTopic(pattern, topic) })
}

// matchTopic reports whether a pattern matches a topic. Between slashes it matches as
// [path.Match] does; ** at the end matches one or more segments.
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
