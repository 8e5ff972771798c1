package access_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/hub"
)

// Placeholders as Caddy expands the Caddyfile's short forms.
const (
	queryA = "{http.request.uri.query.a}"
	queryB = "{http.request.uri.query.b}"
	user   = "{http.auth.user.id}"
)

func topics(t *testing.T, templates, allow []string) *access.Topics {
	t.Helper()
	rule, err := access.NewTopics(templates, allow)
	if err != nil {
		t.Fatal(err)
	}
	return rule
}

// requested returns the topics and the status of a request with a query, which
// Caddy's server has prepared.
func requested(rule *access.Topics, query string, set ...string) ([]string, int) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.URL = &url.URL{Path: "/events/x", RawQuery: query}
	repl := caddy.NewReplacer()
	r = caddyhttp.PrepareRequest(r, repl, httptest.NewRecorder(), new(caddyhttp.Server))
	for pair := range slices.Chunk(set, 2) {
		repl.Set(pair[0], pair[1])
	}
	got, refused := rule.Requested(r, repl, nil)
	if refused != nil {
		return nil, refused.Status
	}
	return got, http.StatusOK
}

func TestClientChosenTopicNeedsAllow(t *testing.T) {
	for _, template := range []string{
		queryA, "orders/" + queryA, "{http.request.uri.path.0}", "{http.request.header.X-Topic}", "{http.request.host}", "{http.request.cookie.a}",
		"{http.regexp.1}", "{http.matchers.file.relative}", "{http.request.uri}", "{http.request.tls.server_name}", user + queryA,
	} {
		if _, err := access.NewTopics([]string{template}, nil); err == nil || !strings.Contains(err.Error(), "allow") {
			t.Errorf("%s: %v", template, err)
		}
		if _, err := access.NewTopics([]string{template}, []string{"*"}); err != nil {
			t.Errorf("%s with allow: %v", template, err)
		}
	}
	for _, template := range []string{
		"news", "users/" + user, "{http.vars.tenant}", "{http.request.tls.client.subject}", "{http.request.remote.host}", "{env.X}",
	} {
		if _, err := access.NewTopics([]string{template}, nil); err != nil {
			t.Errorf("%s: %v", template, err)
		}
	}
}

func TestErrorSuggestsPattern(t *testing.T) {
	_, err := access.NewTopics([]string{"orders/" + queryA + "/items"}, nil)
	if err == nil || !strings.Contains(err.Error(), "`allow orders/*/items`") {
		t.Error(err)
	}
}

func TestInvalidTemplatesAndPatternsAreRefused(t *testing.T) {
	for _, template := range []string{"{", "a}", "{}", "{file./etc/passwd}"} {
		if _, err := access.NewTopics([]string{template}, []string{"*"}); err == nil {
			t.Errorf("the topic %q is accepted", template)
		}
	}
	for _, pattern := range []string{"", "[", "a[", `\`, "a/[b", "**/a", "a**", "a/**/b", "***"} {
		if _, err := access.NewTopics([]string{"a"}, []string{pattern}); err == nil {
			t.Errorf("the pattern %q is accepted", pattern)
		}
	}
}

func TestPatternsLimitClientChosenTopics(t *testing.T) {
	for _, c := range []struct {
		pattern string
		allowed []string
		refused []string
	}{
		{"orders/*", []string{"orders/42", "orders/*", "orders/a b", "orders/é"}, []string{"orders", "orders/42/x", "/orders/42", "xorders/42", "Orders/42", "customers/1"}},
		{"*", []string{"a", "*"}, []string{"a/b", "/a", "/"}},
		{"**", []string{"a", "a/b", "a/b/c", "/"}, nil},
		{"orders/**", []string{"orders/42", "orders/42/items", "orders/../x"}, []string{"orders", "orders2/x", "x/orders/42"}},
		{"orders/*/items", []string{"orders/42/items"}, []string{"orders/items", "orders/4/2/items", "orders/42/items/1"}},
		{"news", []string{"news"}, []string{"new", "newss", "news/x", "n*"}},
		{"o?d/[ab]x", []string{"oxd/ax"}, []string{"o/d/ax", "oxd/cx"}},
		{`\*`, []string{"*"}, []string{"a"}},
	} {
		rule := topics(t, []string{queryA}, []string{"never/this", c.pattern})
		for _, topic := range c.allowed {
			if got, status := requested(rule, "a="+url.QueryEscape(topic)); status != 200 || !slices.Equal(got, []string{topic}) {
				t.Errorf("%s: %q has status %d, topics %q", c.pattern, topic, status, got)
			}
		}
		for _, topic := range c.refused {
			if got, status := requested(rule, "a="+url.QueryEscape(topic)); status != http.StatusForbidden {
				t.Errorf("%s: %q has status %d, topics %q", c.pattern, topic, status, got)
			}
		}
	}
}

func TestFixedTopicsNeedNoPattern(t *testing.T) {
	rule := topics(t, []string{"news", "users/" + user, "orders/" + queryA}, []string{"orders/*"})
	got, status := requested(rule, "a=42", "http.auth.user.id", "ann")
	if status != 200 || !slices.Equal(got, []string{"news", "orders/42", "users/ann"}) {
		t.Errorf("%d %q", status, got)
	}
}

func TestOneForbiddenTopicRefusesRequest(t *testing.T) {
	rule := topics(t, []string{"news", queryA}, []string{"orders/*"})
	if got, status := requested(rule, "a=orders/1&a=secret"); status != http.StatusForbidden {
		t.Errorf("%d %q", status, got)
	}
}

func TestEachQueryValueMakesTopic(t *testing.T) {
	rule := topics(t, []string{"orders/" + queryA, "x/" + queryA + "/" + queryA}, []string{"**"})
	got, status := requested(rule, "a=2&b=x&a=1&a=2&a=")
	if want := []string{"orders/1", "orders/2", "x/1/1", "x/2/2"}; status != 200 || !slices.Equal(got, want) {
		t.Errorf("%d %q, want %q", status, got, want)
	}
}

func TestTopicWithEmptyPlaceholderIsSkipped(t *testing.T) {
	rule := topics(t, []string{"orders/" + queryA, "users/" + user, "both/" + queryA + "/" + queryB, "{http.vars.unknown}", "{not.known}"}, []string{"**"})
	for query, want := range map[string][]string{
		"a=1":     {"orders/1"},
		"a=1&b=2": {"both/1/2", "orders/1"},
		"b=2":     nil,
		"a=":      nil,
		"":        nil,
	} {
		got, status := requested(rule, query)
		if wantStatus := map[bool]int{true: 200, false: 400}[want != nil]; status != wantStatus || !slices.Equal(got, want) {
			t.Errorf("%q: %d %q, want %q", query, status, got, want)
		}
	}
	if got, status := requested(rule, "", "http.auth.user.id", "ann"); status != 200 || !slices.Equal(got, []string{"users/ann"}) {
		t.Errorf("%d %q", status, got)
	}
}

func TestInvalidTopicNamesAreRefused(t *testing.T) {
	rule := topics(t, []string{queryA}, []string{"**"})
	for _, topic := range []string{
		"\x00poll/x", "a\nb", "a\r", "a\x1b[0m", "\x7f", "\xff", strings.Repeat("x", hub.MaxTopicLen+1),
	} {
		if got, status := requested(rule, "a=ok&a="+url.QueryEscape(topic)); status != http.StatusBadRequest {
			t.Errorf("%.20q: %d %.20q", topic, status, got)
		}
	}
	longest := strings.Repeat("x", hub.MaxTopicLen)
	if got, status := requested(rule, "a="+longest); status != 200 || !slices.Equal(got, []string{longest}) {
		t.Errorf("%d for the longest name", status)
	}
}

func TestTopicsOfStreamAreLimited(t *testing.T) {
	rule := topics(t, []string{"t" + queryA}, []string{"t*"})
	query := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "a=%d&a=%d&", i, i) // doubles don't count
		}
		return b.String()
	}
	if got, status := requested(rule, query(access.MaxTopics)); status != 200 || len(got) != access.MaxTopics {
		t.Errorf("%d, %d topics", status, len(got))
	}
	if _, status := requested(rule, query(access.MaxTopics+1)); status != http.StatusBadRequest {
		t.Errorf("%d", status)
	}
}

func TestClientValuesAreNeverExpanded(t *testing.T) {
	rule := topics(t, []string{queryA + "/" + queryB, "{http.request.header.X-Topic}" + user}, []string{"**"})
	for _, value := range []string{"{http.auth.user.id}", "{file./etc/passwd}", `\{x\}`, "{", "{http.request.uri.query.b}", "{env.HOME}"} {
		got, status := requested(rule, "a="+url.QueryEscape(value)+"&b="+url.QueryEscape(value), "http.auth.user.id", "ann", "http.request.header.X-Topic", value)
		want := []string{value + "/" + value}
		if i := slices.Index(got, want[0]); status != 200 || i < 0 || strings.Contains(strings.Join(got, " "), "ann/") {
			t.Errorf("%q: %d %q", value, status, got)
		}
	}
}

// No query selects a topic that the patterns don't allow.
func FuzzTopics(f *testing.F) {
	for _, q := range []string{"a=orders/1", "a=orders/%2e%2e/x", "a=orders/1&a=x", "a=*", "a=orders%2f1%00", "%61=orders/1"} {
		f.Add(q)
	}
	rule, err := access.NewTopics([]string{queryA}, []string{"orders/*"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, query string) {
		got, _ := requested(rule, query)
		for _, topic := range got {
			rest, ok := strings.CutPrefix(topic, "orders/")
			if !ok || strings.Contains(rest, "/") || hub.CheckTopic(topic) != nil {
				t.Errorf("%q gives %q", query, topic)
			}
		}
	})
}
