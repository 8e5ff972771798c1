package access

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// Credential is the token of a request. Its zero value is none.
type Credential struct {
	token string
	// fromCookie says that a browser has sent the token by itself, perhaps for
	// a page of another site.
	fromCookie bool
	// multiple says that the request has several Authorization headers.
	multiple bool
}

// bearer is the authentication scheme of RFC 6750.
const bearer = "Bearer"

// Bearer returns the token of the Authorization header (RFC 6750 §2.1). It is
// empty if the request has none, or another scheme.
func Bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, bearer) {
		return ""
	}
	return strings.TrimSpace(token)
}

// Take returns the request's token: from the Authorization header, or else from
// the configured query parameter, or else from the configured cookie. It removes
// the query parameter from the request's URL, so that no handler can store or log
// it; inURL reports whether there was one.
func (j *JWT) Take(r *http.Request) (c Credential, inURL bool) {
	var query string
	if j.Query != "" {
		query, inURL = removeParameter(r, j.Query)
	}
	c.multiple = len(r.Header.Values("Authorization")) > 1
	if c.token = Bearer(r); c.token == "" {
		c.token = query
	}
	if c.token == "" && j.Cookie != "" {
		if cookie, err := r.Cookie(j.Cookie); err == nil {
			c.token, c.fromCookie = cookie.Value, cookie.Value != ""
		}
	}
	return c, inURL
}

// removeParameter removes each occurrence of a query parameter from the request's
// URL and returns the first value. The rest of the query keeps its bytes and order.
func removeParameter(r *http.Request, name string) (value string, found bool) {
	if r.URL.RawQuery == "" {
		return "", false
	}
	var rest []string
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		key, raw, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(key); err != nil || plain != name {
			rest = append(rest, pair)
			continue
		}
		if plain, err := url.QueryUnescape(raw); err == nil && value == "" {
			value = plain
		}
		found = true
	}
	if found {
		r.URL.RawQuery = strings.Join(rest, "&")
		r.RequestURI = r.URL.RequestURI()
	}
	return value, found
}

// challenge returns a WWW-Authenticate header that asks for a bearer token, with
// one parameter at least and an error code if the request had a token (RFC 6750
// §3). The description must have no quotes, backslashes or letters beyond ASCII.
func challenge(code, description string) string {
	c := bearer + ` realm="sse"`
	if code != "" {
		c += `, error="` + code + `"`
	}
	if description != "" {
		c += `, error_description="` + description + `"`
	}
	return c
}

// unauthorized returns the refusal of a token that isn't valid. The reason is
// also the challenge's description.
func unauthorized(kind, reason string, err error) *refusal.Error {
	return &refusal.Error{
		Status: http.StatusUnauthorized, Kind: kind, Reason: reason, Err: err,
		Challenge: challenge("invalid_token", reason),
	}
}

// NoToken returns the refusal of a request without a token; where says how to
// send one.
func NoToken(where string) *refusal.Error {
	return &refusal.Error{
		Status: http.StatusUnauthorized, Kind: refusal.NoToken, Reason: "a token is needed: send " + where,
		Challenge: challenge("", ""),
	}
}

// WrongToken returns the refusal of a token that isn't one of the known ones.
func WrongToken() *refusal.Error { return unauthorized(refusal.WrongToken, "the token is wrong", nil) }

// twoTokens returns the refusal of a request with several Authorization headers.
func twoTokens() *refusal.Error {
	const reason = "the request has more than one Authorization header"
	return &refusal.Error{Status: http.StatusBadRequest, Reason: reason, Challenge: challenge("invalid_request", reason)}
}

// InsufficientScope returns the refusal of a valid token that doesn't cover a topic.
func InsufficientScope(format string, args ...any) *refusal.Error {
	refused := refusal.Newf(http.StatusForbidden, format, args...)
	refused.Kind = refusal.TopicNotAllowed
	refused.Challenge = challenge("insufficient_scope", "")
	return refused
}
