package access

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/internal/template"
)

// maxValueBytes limits the value of a placeholder.
const maxValueBytes = 1024

// URITemplate is a path and a query with placeholders. The value of a placeholder
// stays within its path segment or its parameter's value, so no client can add
// segments or parameters to the expanded URI.
type URITemplate struct {
	source string
	path   *template.Template
	query  *template.Template // nil if there is no ?
}

// NewURITemplate compiles a template, such as
// /api/orders/{http.request.uri.query.order}.
func NewURITemplate(src string) (*URITemplate, error) {
	rawPath, rawQuery, hasQuery := cutQuery(src)
	u := &URITemplate{source: src}
	var err error
	if u.path, err = template.Compile(rawPath); err != nil {
		return nil, err
	}
	if hasQuery {
		if u.query, err = template.Compile(rawQuery); err != nil {
			return nil, err
		}
	}
	return u, u.check()
}

// cutQuery cuts at the first question mark outside of a placeholder.
func cutQuery(src string) (rawPath, rawQuery string, found bool) {
	depth := 0
	for i := range len(src) {
		switch src[i] {
		case '{':
			depth++
		case '}':
			depth--
		case '?':
			if depth == 0 {
				return src[:i], src[i+1:], true
			}
		}
	}
	return src, "", false
}

// check returns an error for a template that is ambiguous or can't work.
func (u *URITemplate) check() error {
	for _, name := range u.path.Placeholders() {
		if slices.Contains([]string{"http.request.uri", "http.request.uri.path", "http.request.uri.path.dir", "http.request.uri.query"}, name) {
			return fmt.Errorf("`%s`: {%s} is more than one segment of a path: write for example {path.1}, the second segment of the request's path", u.source, name)
		}
	}
	const value = "‡"
	expanded, err := u.expand(func(string) (string, error) { return value, nil })
	if err != nil {
		return fmt.Errorf("`%s` is not a path: %w", u.source, err)
	}
	parsed, err := url.ParseRequestURI(expanded)
	switch {
	case err != nil || !strings.HasPrefix(expanded, "/") || strings.ContainsFunc(expanded, mustBeEscaped):
		return fmt.Errorf("`%s` is not a path: write one of this site, such as /api/orders/{query.order}", u.source)
	case strings.TrimSuffix(parsed.Path, "/") != strings.TrimSuffix(path.Clean(parsed.Path), "/"):
		return fmt.Errorf("`%s`: write the path without dots and double slashes", u.source)
	}
	params, err := url.ParseQuery(parsed.RawQuery)
	if err != nil {
		return fmt.Errorf("`%s`: the query: %w", u.source, err)
	}
	for name := range params {
		if strings.Contains(name, value) {
			return fmt.Errorf("`%s`: a placeholder can be a parameter's value, but not its name", u.source)
		}
	}
	return nil
}

// mustBeEscaped reports whether a template must escape the character.
func mustBeEscaped(r rune) bool { return r <= ' ' || r == 0x7f || r == '#' || r == '\\' }

// Placeholders returns the names of the placeholders, without braces, in order.
func (u *URITemplate) Placeholders() []string {
	names := u.path.Placeholders()
	if u.query != nil {
		names = append(names, u.query.Placeholders()...)
	}
	return names
}

// expand replaces the placeholders with values. Clients may see its errors.
func (u *URITemplate) expand(value func(name string) (string, error)) (string, error) {
	expanded, err := u.path.Expand(func(name string) (string, error) {
		v, err := value(name)
		if err == nil {
			err = checkSegment(name, v)
		}
		return url.PathEscape(v), err
	})
	if err != nil {
		return "", err
	}
	if hasDots(expanded) {
		return "", errors.New("the request makes a path with a segment of dots")
	}
	if u.query == nil {
		return expanded, nil
	}
	query, err := u.query.Expand(func(name string) (string, error) {
		v, err := value(name)
		if err == nil {
			err = checkParameter(name, v)
		}
		return url.QueryEscape(v), err
	})
	return expanded + "?" + query, err
}

// checkParameter refuses values that no backend needs and some misread.
func checkParameter(name, v string) error {
	isControl := func(r rune) bool { return r < ' ' || r == 0x7f }
	switch {
	case v == "":
		return fmt.Errorf("%s is missing", describe(name))
	case len(v) > maxValueBytes:
		return fmt.Errorf("%s is longer than %d bytes", describe(name), maxValueBytes)
	case !utf8.ValidString(v) || strings.ContainsFunc(v, isControl):
		return fmt.Errorf("%s holds a control character, or is not UTF-8", describe(name))
	}
	return nil
}

// encodedDelimiter matches bytes that become a delimiter when a backend decodes the
// path twice.
var encodedDelimiter = regexp.MustCompile(`(?i)%(2e|2f|5c|25|3f|23|3b|[01][0-9a-f]|7f)`)

// checkSegment refuses values that make another path for a backend that decodes
// before it splits at slashes, or decodes twice, or treats backslashes as slashes.
func checkSegment(name, v string) error {
	if err := checkParameter(name, v); err != nil {
		return err
	}
	if strings.ContainsAny(v, `/\`) || encodedDelimiter.MatchString(v) {
		return fmt.Errorf("%s holds a slash, or something like it", describe(name))
	}
	return nil
}

// hasDots reports whether a segment of an escaped path is "." or "..". Some servers
// end a segment's name at a semicolon.
func hasDots(escapedPath string) bool {
	plain, err := url.PathUnescape(escapedPath)
	if err != nil {
		return true
	}
	for segment := range strings.SplitSeq(plain, "/") {
		segment, _, _ = strings.Cut(segment, ";")
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// describe names a placeholder's value in an error for the client.
func describe(name string) string {
	if parameter, ok := strings.CutPrefix(name, queryPlaceholder); ok {
		return fmt.Sprintf("the parameter %q", parameter)
	}
	return "a part of the request that decides on its topics"
}

func badRequest(err error) *refusal.Error {
	return &refusal.Error{Status: http.StatusBadRequest, Reason: err.Error()}
}
