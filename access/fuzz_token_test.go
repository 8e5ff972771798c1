package access_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"github.com/caddy-sse/caddy-sse/access"
)

// FuzzToken checks that no token but a signed one is accepted.
func FuzzToken(f *testing.F) {
	good := hs256(jwt.MapClaims{"exp": 1 << 40, "sub": "ann", "topics": []string{"a"}})
	f.Add(good)
	f.Add(sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, jwt.MapClaims{"exp": 1 << 40}))
	f.Add("..")
	f.Add("a=b&token=%zz;token")
	j := provision(f, &access.JWT{Query: "token", Cookie: "session"})
	f.Fuzz(func(t *testing.T, text string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.RawQuery = "token=" + url.QueryEscape(text) + "&" + text
		r.Header = http.Header{"Authorization": {"Bearer " + text}, "Cookie": {"session=" + text}}
		c, _ := j.Take(r)
		if token, refused := j.Check(t.Context(), c); refused == nil && access.Bearer(r) != good {
			t.Errorf("%q is accepted: %+v", text, token)
		}
		if query, err := url.ParseQuery(r.URL.RawQuery); err == nil && query.Has("token") {
			t.Errorf("%q still has the parameter", r.URL.RawQuery)
		}
	})
}
