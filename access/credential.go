package access

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// Credential is the token that a request came with. Its zero value is none.
type Credential struct {
	token string
	// cookie: a browser has sent it by itself, for whatever page.
	fromCookie bool
	// twice: the request can't be told whose it is.
	multiple bool
}

// bearer is the scheme of RFC 6750, by which a token stands in a header.
const bearer = "Bearer"

// Bearer returns the token of the Authorization header, empty if the request
// has none of the scheme Bearer (RFC 6750 §2.1).
func Bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, bearer) {
		return ""
	}
	return strings.TrimSpace(token)
}

// Take finds the request's token: in the Authorization header, else in the
// query parameter, else in the cookie, as far as they are configured. The query
// parameter is taken out of the request's URL, so that nobody behind can keep
// or log it; hidden tells that there was one.
func (j *JWT) Take(r *http.Request) (c Credential, hidden bool) {
	var query string
	if j.Query != "" {
		query, hidden = takeQuery(r, j.Query)
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
	return c, hidden
}

// takeQuery takes a parameter out of the request's URL, wherever and however
// often it stands. The rest stays as it was sent, in its order.
func takeQuery(r *http.Request, name string) (value string, found bool) {
	if r.URL.RawQuery == "" {
		return "", false
	}
	var kept []string
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		key, raw, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(key); err != nil || plain != name {
			kept = append(kept, pair)
			continue
		}
		if plain, err := url.QueryUnescape(raw); err == nil && value == "" {
			value = plain
		}
		found = true
	}
	if found {
		r.URL.RawQuery = strings.Join(kept, "&")
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
