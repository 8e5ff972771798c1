package poll_test

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/subrequest"
)

// acceptedTypes returns the types of an Accept header, the preferred ones first.
func acceptedTypes(accept string) (types []string) {
	weights := make(map[string]float64)
	for item := range strings.SplitSeq(accept, ",") {
		name, q, weighted := strings.Cut(strings.TrimSpace(item), ";q=")
		weights[name] = 1
		if weighted {
			weights[name], _ = strconv.ParseFloat(q, 64)
		}
		types = append(types, name)
	}
	slices.SortStableFunc(types, func(a, b string) int { return cmp.Compare(weights[b], weights[a]) })
	return types
}

// springMatches is MimeType.isCompatibleWith of Spring. Before 5.3 (old), a
// wildcard without a suffix matches no type with one. Spring 4.3.30 was run to see
// that.
func springMatches(accepted, produced string, old bool) bool {
	t, subtype, _ := strings.Cut(accepted, "/")
	u, other, _ := strings.Cut(produced, "/")
	_, suffix, hasSuffix := cutLast(other, "+")
	switch {
	case t == "*":
		return true
	case t != u:
		return false
	case subtype == "*":
		return !old || !hasSuffix
	case strings.HasPrefix(subtype, "*+"):
		return hasSuffix && subtype[2:] == suffix
	}
	return subtype == other
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// spring chooses among handlers that produce one type each ("produces" of
// @GetMapping). Without a choice it answers 406.
func spring(old bool) func(accept string, produced []string) string {
	return func(accept string, produced []string) string {
		for _, accepted := range acceptedTypes(accept) {
			for _, p := range produced {
				if springMatches(accepted, p, old) {
					return p
				}
			}
		}
		return "406"
	}
}

// aspNet chooses among output formatters, as learn.microsoft.com describes it in
// "Format response data in ASP.NET Core Web API": */* anywhere has the first
// formatter write (RespectBrowserAcceptHeader is off), and so does a header that
// none of them can meet, unless ReturnHttpNotAcceptable is on. ASP.NET was not run.
func aspNet(strict bool) func(accept string, produced []string) string {
	return func(accept string, produced []string) string {
		for _, accepted := range acceptedTypes(accept) {
			if accepted == "*/*" {
				return produced[0]
			}
			for _, p := range produced {
				if springMatches(accepted, p, false) {
					return p
				}
			}
		}
		if strict {
			return "406"
		}
		return produced[0]
	}
}

func TestFrameworksAnswerPollsWithJSON(t *testing.T) {
	frameworks := map[string]func(string, []string) string{
		"Spring": spring(false), "Spring 5.2": spring(true), "ASP.NET": aspNet(false), "ASP.NET, strict": aspNet(true),
	}
	for name, negotiate := range frameworks {
		for _, c := range []struct {
			produced []string
			want     string
		}{
			{[]string{"application/json"}, "application/json"},
			{[]string{"application/json", "text/html"}, "application/json"},
			{[]string{"text/html", "application/xml", "application/json"}, "application/json"},
			{[]string{"application/hal+json"}, "application/hal+json"},
			{[]string{"text/html", "application/xml", "application/vnd.shop.v1+json"}, "application/vnd.shop.v1+json"},
			{[]string{"application/xml"}, "application/xml"},
			{[]string{"text/plain"}, "text/plain"},
			{[]string{"text/html", "application/xml"}, "application/xml"},
		} {
			if got := negotiate(subrequest.DefaultAccept, c.produced); got != c.want {
				t.Errorf("%s: of %q, polls get %q, want %q", name, c.produced, got, c.want)
			}
		}
		for _, produced := range []string{"image/png", "text/event-stream"} {
			if got := negotiate("application/json", []string{produced}); got == "application/json" {
				t.Errorf("%s: the stand-in gives %q for %q", name, got, produced)
			}
		}
	}
}
