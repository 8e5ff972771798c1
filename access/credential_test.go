package access_test

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// challengeSyntax is RFC 6750 §3: a scheme and one auth-param or more, with the
// characters that error and error_description may have.
var challengeSyntax = regexp.MustCompile(`^Bearer [a-z_]+="[\x20-\x21\x23-\x5B\x5D-\x7E]*"(, [a-z_]+="[\x20-\x21\x23-\x5B\x5D-\x7E]*")*$`)

func TestBearerChallengeHasParameters(t *testing.T) {
	j := provision(t, &access.JWT{Cookie: "session"})
	checked := func(authorization ...string) *refusal.Error {
		r := httptest.NewRequest(http.MethodGet, "/events", nil)
		r.Header["Authorization"] = authorization
		c, _ := j.Take(r)
		_, refused := j.Check(t.Context(), c)
		return refused
	}
	for name, c := range map[string]struct {
		refused *refusal.Error
		status  int
		want    string // the header
	}{
		"no credential":        {checked(), 401, `Bearer realm="sse"`},
		"another scheme":       {checked("Basic YTpi"), 401, `Bearer realm="sse"`},
		"no secret":            {access.NoToken("it"), 401, `Bearer realm="sse"`},
		"wrong secret":         {access.WrongToken(), 401, `Bearer realm="sse", error="invalid_token", error_description="the token is wrong"`},
		"no JWT":               {checked("Bearer x"), 401, `Bearer realm="sse", error="invalid_token", error_description="the token is not a JWT"`},
		"expired":              {checked("Bearer " + hs256(claims("exp", time.Now().Add(-time.Hour).Unix()))), 401, `Bearer realm="sse", error="invalid_token", error_description="the token has expired"`},
		"two headers":          {checked("Bearer x", "Bearer y"), 400, `Bearer realm="sse", error="invalid_request", error_description="the request has more than one Authorization header"`},
		"topic is not covered": {access.InsufficientScope("no"), 403, `Bearer realm="sse", error="insufficient_scope"`},
	} {
		w := httptest.NewRecorder()
		c.refused.Write(w, request())
		got := w.Header().Values("WWW-Authenticate")
		if w.Code != c.status || len(got) != 1 || got[0] != c.want || !challengeSyntax.MatchString(got[0]) {
			t.Errorf("%s: %d, %q; want %d, %s", name, w.Code, got, c.status, c.want)
		}
	}
}
