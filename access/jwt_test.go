package access_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/golang-jwt/jwt/v5"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

const jwtSecret = "0123456789abcdef0123456789abcdef"

// The tests share the keys because generating an RSA key is slow.
var (
	rsaKey  = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	ecKey   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	edwards = sync.OnceValue(func() ed25519.PrivateKey { _, k, err := ed25519.GenerateKey(rand.Reader); return must(k, err) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// claims returns claims that expire in an hour, changed by pairs of name and value.
// A nil value deletes the claim.
func claims(pairs ...any) jwt.MapClaims {
	c := jwt.MapClaims{"exp": time.Now().Add(time.Hour).Unix(), "sub": "ann"}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == nil {
			delete(c, pairs[i].(string))
			continue
		}
		c[pairs[i].(string)] = pairs[i+1]
	}
	return c
}

func sign(method jwt.SigningMethod, key any, c jwt.MapClaims, header ...string) string {
	t := jwt.NewWithClaims(method, c)
	for i := 0; i < len(header); i += 2 {
		t.Header[header[i]] = header[i+1]
	}
	return must(t.SignedString(key))
}

func hs256(c jwt.MapClaims) string { return sign(jwt.SigningMethodHS256, []byte(jwtSecret), c) }

// provision provisions j, with jwtSecret if it has no keys.
func provision(t testing.TB, j *access.JWT) *access.JWT {
	t.Helper()
	if len(j.Keys)+len(j.PEM)+len(j.JWKS) == 0 {
		j.Keys = []string{jwtSecret}
	}
	t.Cleanup(j.Cleanup)
	if err := j.Provision(caddy.NewReplacer(), "topics"); err != nil {
		t.Fatal(err)
	}
	return j
}

func withToken(token string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/events", nil)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return r
}

func check(j *access.JWT, token string) (*access.Token, *refusal.Error) {
	c, _ := j.Take(withToken(token))
	return j.Check(context.Background(), c)
}

// publicPEM writes public keys to a file.
func publicPEM(t testing.TB, keys ...crypto.PublicKey) string {
	t.Helper()
	var content []byte
	for _, k := range keys {
		content = append(content, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(k))})...)
	}
	return fileOf(t, content)
}

func fileOf(t testing.TB, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestEachAlgorithmVerifies(t *testing.T) {
	j := provision(t, &access.JWT{
		Keys: []string{"an older secret, which is of 32 bytes and more", jwtSecret},
		PEM:  []string{publicPEM(t, rsaKey().Public(), ecKey().Public()), publicPEM(t, edwards().Public())},
	})
	for _, c := range []struct {
		method jwt.SigningMethod
		key    any
	}{
		{jwt.SigningMethodHS256, []byte(jwtSecret)},
		{jwt.SigningMethodHS384, []byte(jwtSecret)},
		{jwt.SigningMethodHS512, []byte("an older secret, which is of 32 bytes and more")},
		{jwt.SigningMethodRS256, rsaKey()},
		{jwt.SigningMethodRS384, rsaKey()},
		{jwt.SigningMethodRS512, rsaKey()},
		{jwt.SigningMethodPS256, rsaKey()},
		{jwt.SigningMethodPS512, rsaKey()},
		{jwt.SigningMethodES256, ecKey()},
		{jwt.SigningMethodEdDSA, edwards()},
	} {
		token, refused := check(j, sign(c.method, c.key, claims()))
		if refused != nil || token.Subject != "ann" || token.HasClaim || time.Until(token.Expires) > time.Hour {
			t.Errorf("%s: %+v, %v", c.method.Alg(), token, refused)
		}
	}
}

func TestKeyVerifiesOnlyItsAlgorithms(t *testing.T) {
	public := must(x509.MarshalPKIXPublicKey(rsaKey().Public()))
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	j := provision(t, &access.JWT{PEM: []string{fileOf(t, asPEM)}})
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	withCurve := provision(t, &access.JWT{PEM: []string{publicPEM(t, p384.Public())}})
	for name, c := range map[string]struct {
		j     *access.JWT
		token string
	}{
		"none":                              {j, sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims())},
		"none, with a secret":               {provision(t, &access.JWT{}), sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims())},
		"an HMAC with the public key":       {j, sign(jwt.SigningMethodHS256, asPEM, claims())},
		"an HMAC with the public key's DER": {j, sign(jwt.SigningMethodHS256, public, claims())},
		"an HMAC with nothing":              {j, sign(jwt.SigningMethodHS256, []byte{}, claims())},
		"another curve":                     {withCurve, sign(jwt.SigningMethodES256, ecKey(), claims())},
		"an unknown critical header":        {provision(t, &access.JWT{}), sign(jwt.SigningMethodHS256, []byte(jwtSecret), claims(), "crit", "b64")},
	} {
		token, refused := check(c.j, c.token)
		if refused == nil || refused.Status != http.StatusUnauthorized || refused.Reason != "the token's signature is wrong" {
			t.Errorf("%s: %+v, %v", name, token, refused)
		}
	}
}

func TestInvalidTokenIsRefusedWithReason(t *testing.T) {
	j := provision(t, &access.JWT{Issuer: "https://login.example", Audience: []string{"shop", "other"}})
	good := func(pairs ...any) jwt.MapClaims {
		return claims(append([]any{"iss", "https://login.example", "aud", "shop"}, pairs...)...)
	}
	at := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	whole := hs256(good())
	for name, c := range map[string]struct{ token, reason string }{
		"right":                       {whole, ""},
		"an audience in a list":       {hs256(good("aud", []string{"x", "other"})), ""},
		"nbf and iat a little ahead":  {hs256(good("nbf", at(20*time.Second), "iat", at(20*time.Second))), ""},
		"another secret":              {sign(jwt.SigningMethodHS256, []byte("another secret of thirty-two bytes!"), good()), "the token's signature is wrong"},
		"one byte changed":            {strings.Replace(whole, ".", ".e", 1), "the token is not a JWT"},
		"cut off":                     {whole[:len(whole)-3], "the token's signature is wrong"},
		"expired, with another key":   {sign(jwt.SigningMethodHS256, []byte("another secret of thirty-two bytes!"), good("exp", at(-time.Hour))), "the token's signature is wrong"},
		"no JWT":                      {"token", "the token is not a JWT"},
		"expired":                     {hs256(good("exp", at(-time.Hour))), "the token has expired"},
		"expired within the leeway":   {hs256(good("exp", at(-2*time.Second))), "the token has expired"},
		"without exp":                 {hs256(good("exp", nil)), "the token lacks exp, iss or aud"},
		"exp as text":                 {hs256(good("exp", "tomorrow")), "the token's claims are malformed"},
		"not valid yet":               {hs256(good("nbf", at(time.Minute))), "the token is not valid yet"},
		"issued ahead":                {hs256(good("iat", at(time.Minute))), "the token is not valid yet"},
		"another issuer":              {hs256(good("iss", "https://login.example.evil.test")), "the token is from another issuer"},
		"without an issuer":           {hs256(good("iss", nil)), "the token lacks exp, iss or aud"},
		"another audience":            {hs256(good("aud", []string{"x"})), "the token is for another audience"},
		"a subject that is no text":   {hs256(good("sub", 7)), "the token's claims are malformed"},
		"topics that are no text":     {hs256(good("topics", []any{"a", 7})), "the token's claim of topics is not a list of strings"},
		"topics that are null":        {hs256(good("topics", any(json0))), "the token's claim of topics is not a list of strings"},
		"longer than any token":       {strings.Repeat("a", 17<<10), "the token is too long"},
		"nothing between the periods": {"..", "the token is not a JWT"},
	} {
		token, refused := check(j, c.token)
		if c.reason == "" {
			if refused != nil || token.Subject != "ann" {
				t.Errorf("%s: %+v, %v", name, token, refused)
			}
			continue
		}
		if refused == nil || refused.Status != http.StatusUnauthorized || refused.Reason != c.reason ||
			refused.Challenge != `Bearer realm="sse", error="invalid_token", error_description="`+c.reason+`"` {
			t.Errorf("%s: %+v, %+v; want %q", name, token, refused, c.reason)
		}
	}
}

// json0 is encoded as null.
var json0 *int

func TestMissingTokenRefusalSaysHowToSendOne(t *testing.T) {
	_, refused := check(provision(t, &access.JWT{Cookie: "session"}), "")
	if refused == nil || refused.Status != http.StatusUnauthorized || refused.Challenge != `Bearer realm="sse"` || !strings.Contains(refused.Reason, "cookie session") {
		t.Errorf("%+v", refused)
	}
}

func TestTokenComesFromHeaderQueryOrCookie(t *testing.T) {
	token, other := hs256(claims()), hs256(claims("sub", "bob"))
	all := provision(t, &access.JWT{Cookie: "session", Query: "token"})
	for name, c := range map[string]struct {
		j       *access.JWT
		target  string
		header  []string
		subject string // empty: refused
		uri     string
	}{
		"the header":                     {all, "/e", []string{"Authorization", "bearer " + token}, "ann", "/e"},
		"the header before the others":   {all, "/e?token=" + other, []string{"Authorization", "Bearer " + token, "Cookie", "session=" + other}, "ann", "/e"},
		"the query":                      {all, "/e?a=1&token=" + token + "&b=%20", nil, "ann", "/e?a=1&b=%20"},
		"the query, in disguise":         {all, "/e?t%6Fken=" + token, nil, "ann", "/e"},
		"the query, twice":               {all, "/e?token=" + token + "&x&token=" + other, nil, "ann", "/e?x"},
		"the query before the cookie":    {all, "/e?token=" + token, []string{"Cookie", "session=" + other}, "ann", "/e"},
		"the cookie":                     {all, "/e", []string{"Cookie", "a=b; session=" + token}, "ann", "/e"},
		"another scheme and the cookie":  {all, "/e", []string{"Authorization", "Basic YTpi", "Cookie", "session=" + token}, "ann", "/e"},
		"a query that isn't configured":  {provision(t, &access.JWT{}), "/e?token=" + token, nil, "", "/e?token=" + token},
		"a cookie that isn't configured": {provision(t, &access.JWT{}), "/e", []string{"Cookie", "session=" + token}, "", "/e"},
		"two headers":                    {all, "/e", []string{"Authorization", "Bearer " + token, "Authorization", "Bearer " + other}, "", "/e"},
		"a broken query":                 {all, "/e?token=" + token + "%zz", nil, "", "/e"},
	} {
		r := httptest.NewRequest(http.MethodGet, c.target, nil)
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Add(c.header[i], c.header[i+1])
		}
		credential, hidden := c.j.Take(r)
		got, refused := c.j.Check(t.Context(), credential)
		if (refused == nil) != (c.subject != "") || refused == nil && got.Subject != c.subject {
			t.Errorf("%s: %+v, %v", name, got, refused)
		}
		if r.RequestURI != c.uri || r.URL.RequestURI() != c.uri || hidden != (c.uri != c.target) {
			t.Errorf("%s: the URL is %s, hidden %v", name, r.RequestURI, hidden)
		}
	}
}

func TestCrossOriginPageCannotUseCookie(t *testing.T) {
	j := provision(t, &access.JWT{Cookie: "session"})
	for name, c := range map[string]struct {
		header []string
		status int
	}{
		"a page of another site": {[]string{"Cookie", "session=x", "Sec-Fetch-Site", "cross-site"}, 403},
		"of another origin":      {[]string{"Cookie", "session=x", "Origin", "https://evil.test"}, 403},
		"of the same":            {[]string{"Cookie", "session=x", "Sec-Fetch-Site", "same-origin", "Origin", "http://example.com"}, 0},
		"no browser":             {[]string{"Cookie", "session=x"}, 0},
		"a token in the header":  {[]string{"Authorization", "Bearer x", "Cookie", "session=x", "Origin", "https://evil.test"}, 0},
	} {
		r := httptest.NewRequest(http.MethodPost, "http://example.com/publish", nil)
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Set(c.header[i], c.header[i+1])
		}
		credential, _ := j.Take(r)
		if refused := credential.CheckOrigin(r); (refused != nil) != (c.status != 0) {
			t.Errorf("%s: %v", name, refused)
		}
	}
}

func TestClaimLimitsTopics(t *testing.T) {
	j := provision(t, &access.JWT{Claim: "watch"})
	own, chosen := []string{"news", "users/{http.auth.user.id}"}, []string{queryA}
	for name, c := range map[string]struct {
		templates, allow []string
		claim            any // omitted if nil
		query            string
		status           int // zero: the topics are granted
	}{
		"own topics, without the claim":           {own, nil, nil, "", 0},
		"own topics, named":                       {own, nil, []string{"news", "users/*"}, "", 0},
		"own topics, of which one isn't named":    {own, nil, []string{"users/*"}, "", 403},
		"nothing is named":                        {own, nil, []string{}, "", 403},
		"chosen and named":                        {chosen, nil, []string{"orders/**"}, "a=orders/1/items", 0},
		"chosen and named by one pattern alone":   {chosen, nil, "orders/*", "a=orders/1", 0},
		"chosen, and one of two is named":         {chosen, nil, []string{"orders/*"}, "a=orders/1&a=secrets", 403},
		"chosen, without the claim":               {chosen, nil, nil, "a=orders/1", 403},
		"chosen and allowed, without the claim":   {chosen, []string{"orders/*"}, nil, "a=orders/1", 0},
		"chosen and allowed, but not named":       {chosen, []string{"orders/*"}, []string{"news"}, "a=orders/1", 403},
		"chosen and named, but not allowed":       {chosen, []string{"news"}, []string{"orders/*"}, "a=orders/1", 403},
		"chosen by a pattern that is none":        {chosen, nil, []string{"[", "orders/*"}, "a=orders/1", 0},
		"own topics, by a pattern that isn't one": {own, nil, []string{"["}, "", 403},
	} {
		rule, err := access.NewTopics(c.templates, c.allow, access.CoveredByToken)
		if err != nil {
			t.Fatal(err)
		}
		token, refused := check(j, hs256(claims("watch", c.claim)))
		if refused != nil {
			t.Fatal(name, refused)
		}
		r := httptest.NewRequest(http.MethodGet, "/?"+c.query, nil)
		repl := caddy.NewReplacer()
		repl.Set("http.auth.user.id", token.Subject)
		topics, refused := rule.Requested(r, repl, token)
		if (refused != nil) != (c.status != 0) || refused != nil && refused.Status != c.status {
			t.Errorf("%s: %q, %v", name, topics, refused)
		}
	}
}

func TestInvalidJWTConfigurationIsRefused(t *testing.T) {
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(ecKey()))})
	t.Setenv("SHORT_SECRET", "s3cret")
	short := must(x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: must(rsa.GenerateKey(rand.Reader, 1024)).N, E: 65537}))
	for want, j := range map[string]*access.JWT{
		"write `key":                {},
		"openssl rand":              {Keys: []string{"s3cret"}},
		"key 2 has 6 bytes":         {Keys: []string{jwtSecret, "{env.SHORT_SECRET}"}},
		"is the variable set":       {Keys: []string{"{env.NOT_SET_ANYWHERE}"}},
		"no such file":              {PEM: []string{"/nowhere/at/all"}},
		"only the public one":       {PEM: []string{fileOf(t, private)}},
		"no PEM block":              {PEM: []string{fileOf(t, []byte("text"))}},
		"1024 bits":                 {PEM: []string{fileOf(t, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: short}))}},
		"want PUBLIC KEY":           {PEM: []string{fileOf(t, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL"}))}},
		"jwks is not a URL":         {JWKS: "login.example.com/jwks"},
		"issuer {env.NOT_SET_HERE}": {Keys: []string{jwtSecret}, Issuer: "{env.NOT_SET_HERE}"},
	} {
		err := j.Provision(caddy.NewReplacer(), "topics")
		j.Cleanup()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%+v: %v, want %q", j, err, want)
		}
	}
	// The parser of a Caddyfile calls Validate alone.
	if err := (&access.JWT{Keys: []string{"s3cret"}}).Validate(); err == nil || !strings.Contains(err.Error(), "openssl rand") {
		t.Errorf("%v", err)
	}
}

func TestTokenEndsAtItsExp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := provision(t, &access.JWT{})
		token := hs256(claims())
		time.Sleep(time.Hour - 2*time.Second)
		if _, refused := check(j, token); refused != nil {
			t.Error(refused)
		}
		time.Sleep(2 * time.Second)
		if _, refused := check(j, token); refused == nil || refused.Reason != "the token has expired" {
			t.Error(refused)
		}
	})
}
