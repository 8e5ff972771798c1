package access

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/golang-jwt/jwt/v5"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// JWT verifies JSON Web Tokens (RFC 7519), which identify a client and its topics.
// Clients send the token in the header `Authorization: Bearer …`, or in the cookie
// or query parameter that cookie and query name. A token must have an `exp` claim.
// At least one of keys, pem and jwks is required.
//
// A key verifies only the algorithms of its kind: a secret HS256, HS384 and HS512;
// an RSA key RS* and PS*; an ECDSA key the ES* of its curve; an Ed25519 key EdDSA.
type JWT struct {
	// Secrets that sign tokens, of at least 32 bytes each. Several secrets
	// permit rotation. The module replaces placeholders, such as
	// {env.JWT_SECRET}, when Caddy loads the configuration.
	Keys []string `json:"keys,omitempty"`

	// Files with public keys or certificates in PEM. The module reads them when
	// Caddy loads the configuration.
	PEM []string `json:"pem,omitempty"`

	// The URL of a JSON Web Key Set (RFC 7517). The module fetches it when the
	// first token needs it, and again every 10 minutes. A token that no known
	// key verifies causes a fetch at once, but at most every 10 seconds. While
	// fetches fail, the known keys stay valid for 24 hours.
	JWKS string `json:"jwks,omitempty"`

	// The name of a cookie that may hold the token. Default: none.
	Cookie string `json:"cookie,omitempty"`

	// The name of a query parameter that may hold the token, for clients that
	// can send neither headers nor cookies. The module removes it from the URL.
	// A request with the parameter reaches no later handler and is not in the
	// access log. Default: none.
	Query string `json:"query,omitempty"`

	// The claim that lists patterns of topics, as in allow. Default: "topics"
	// for subscribers, "publish" for publishers. A subscriber without the claim
	// may read the rule's topics. A publisher without it may publish nothing.
	Claim string `json:"claim,omitempty"`

	// Requires this value of the `iss` claim. Default: any, or none.
	Issuer string `json:"issuer,omitempty"`

	// Requires one of these values in the `aud` claim. Default: any, or none.
	Audience []string `json:"audience,omitempty"`

	// OnFetchError receives the error of each fetch of the key set that fails.
	// It may be nil. It must be set before Provision, and must be safe for
	// concurrent use.
	OnFetchError func(error) `json:"-"`

	local  []key
	remote *keySet
	parser *jwt.Parser
}

// Leeway is how far `nbf` and `iat` may be ahead of the server's clock. `exp` has
// no leeway, since the stream ends at that time.
const Leeway = 30 * time.Second

// maxTokenBytes limits the size of a token.
const maxTokenBytes = 16 << 10

// Validate checks the configuration without resolving placeholders, reading files
// or making requests: a secret or a URL that holds a placeholder passes. It
// changes nothing, so that a Caddyfile's parser can call it.
func (j *JWT) Validate() error {
	if len(j.Keys) == 0 && len(j.PEM) == 0 && j.JWKS == "" {
		return errors.New("jwt needs a key: write `key {env.JWT_SECRET}`, `pem <file>` or `jwks <url>`")
	}
	for i, secret := range j.Keys {
		if strings.Contains(secret, "{") {
			continue
		}
		if err := checkSecret(i, secret); err != nil {
			return fmt.Errorf("jwt: %w", err)
		}
	}
	if j.JWKS != "" && !strings.Contains(j.JWKS, "{") {
		if _, err := parseKeySetURL(j.JWKS); err != nil {
			return fmt.Errorf("jwt: %w", err)
		}
	}
	return nil
}

func checkSecret(i int, secret string) error {
	if len(secret) < minSecretBytes {
		return fmt.Errorf("key %d has %d bytes, and needs %d: make one with `openssl rand -base64 32`", i+1, len(secret), minSecretBytes)
	}
	return nil
}

// Provision checks the configuration and reads the local keys. The claim is the
// default of j.Claim. Cleanup must be called afterwards, even after an error.
func (j *JWT) Provision(repl *caddy.Replacer, claim string) error {
	if j.Claim == "" {
		j.Claim = claim
	}
	if err := j.Validate(); err != nil {
		return err
	}
	if err := j.provisionKeys(repl); err != nil {
		return fmt.Errorf("jwt: %w", err)
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(supportedAlgorithms), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(Leeway), jwt.WithStrictDecoding(),
	}
	if issuer := repl.ReplaceAll(j.Issuer, ""); issuer != "" {
		options = append(options, jwt.WithIssuer(issuer))
	} else if j.Issuer != "" {
		return fmt.Errorf("jwt: issuer %s is empty; is the variable set?", j.Issuer)
	}
	if len(j.Audience) > 0 {
		options = append(options, jwt.WithAudience(j.Audience...))
	}
	j.parser = jwt.NewParser(options...)
	return nil
}

func (j *JWT) provisionKeys(repl *caddy.Replacer) error {
	j.local = nil
	for i, secret := range j.Keys {
		secret, err := repl.ReplaceOrErr(secret, true, true)
		if err != nil {
			return fmt.Errorf("key %d: %w; is the variable set?", i+1, err)
		}
		if err := checkSecret(i, secret); err != nil {
			return err
		}
		j.local = append(j.local, key{verify: []byte(secret)})
	}
	for _, file := range j.PEM {
		file = repl.ReplaceAll(file, "")
		keys, err := readPEM(file)
		if err != nil {
			return fmt.Errorf("pem %s: %w", file, err)
		}
		j.local = append(j.local, keys...)
	}
	if j.JWKS == "" {
		return nil
	}
	var err error
	j.remote, err = newKeySet(repl.ReplaceAll(j.JWKS, ""), j.OnFetchError)
	return err
}

// Cleanup cancels a fetch of the key set.
func (j *JWT) Cleanup() {
	if j.remote != nil {
		j.remote.cancel()
	}
}

// Token holds the claims of a verified token.
type Token struct {
	// Subject is the `sub` claim. It may be empty.
	Subject string
	// Expires is the `exp` claim.
	Expires time.Time
	// HasClaim reports whether the token has the claim that lists topics.
	HasClaim bool

	patterns []string
}

// Covers reports whether a pattern of the token's claim matches a topic.
func (t *Token) Covers(topic string) bool {
	return slices.ContainsFunc(t.patterns, func(pattern string) bool { return matchTopic(pattern, topic) })
}

// Check verifies a token. The refusal is a 401 for an invalid token, whose reason
// reveals no more of a signature than that it is wrong; a 503 if the key may be in
// a set that can't be fetched; or a 400 for a request with several tokens.
func (j *JWT) Check(ctx context.Context, c Credential) (*Token, *refusal.Error) {
	switch {
	case c.multiple:
		return nil, twoTokens()
	case c.token == "":
		return nil, NoToken(j.tokenLocations())
	case len(c.token) > maxTokenBytes:
		return nil, unauthorized(refusal.WrongToken, "the token is too long", nil)
	}
	claims, err := j.verify(ctx, c.token)
	if err != nil {
		return nil, refusalOf(err)
	}
	return j.token(claims)
}

// tokenLocations says how to send a token.
func (j *JWT) tokenLocations() string {
	locations := "the header Authorization: Bearer …"
	if j.Cookie != "" {
		locations += ", or the cookie " + j.Cookie
	}
	if j.Query != "" {
		locations += ", or the query parameter " + j.Query
	}
	return locations
}

// maxCandidates bounds how many signatures are computed for one token.
const maxCandidates = 16

var (
	errCrit  = errors.New("the header has crit, and no extension is supported")
	errNoKey = errors.New("no key is for the token")
)

// verify returns the claims of a token. It fetches the key set only if neither the
// local keys nor the set's known keys verify the signature.
func (j *JWT) verify(ctx context.Context, token string) (jwt.MapClaims, error) {
	claims, keys, err := j.parse(token)
	if j.remote == nil || !keys.mayBeRemote || !errors.Is(err, jwt.ErrTokenSignatureInvalid) && !errors.Is(err, errNoKey) {
		return claims, err
	}
	newer, fetchErr := j.remote.newer(ctx, keys.version, keys.alg, keys.id)
	switch {
	case fetchErr != nil:
		return nil, fetchErr
	case newer:
		claims, _, err = j.parse(token)
	}
	return claims, err
}

// keyLookup describes the keys that a token was checked with.
type keyLookup struct {
	alg, id     string // of the token
	version     int    // of the key set
	mayBeRemote bool
}

// parse checks a token with the known keys.
func (j *JWT) parse(token string) (claims jwt.MapClaims, keys keyLookup, err error) {
	claims = make(jwt.MapClaims)
	_, err = j.parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		if _, ok := t.Header["crit"]; ok { // RFC 7515 §4.1.11
			return nil, errCrit
		}
		keys.alg = t.Method.Alg()
		keys.id, _ = t.Header["kid"].(string)
		return j.candidates(&keys)
	})
	return claims, keys, err
}

// candidates returns the keys that may verify a token. The keys that the token
// names come first.
func (j *JWT) candidates(lookup *keyLookup) (any, error) {
	all := j.local
	if j.remote != nil && !strings.HasPrefix(lookup.alg, "HS") {
		var remote []key
		remote, lookup.version = j.remote.current()
		lookup.mayBeRemote = true
		all = append(slices.Clip(all), remote...)
	}
	var named, unnamed []jwt.VerificationKey
	for _, k := range all {
		switch {
		case !k.fits(lookup.alg):
		case lookup.id != "" && k.id == lookup.id:
			named = append(named, k.verify)
		case lookup.id == "" || k.id == "":
			unnamed = append(unnamed, k.verify)
		}
	}
	set := append(named, unnamed...)
	if len(set) == 0 {
		return nil, errNoKey
	}
	return jwt.VerificationKeySet{Keys: set[:min(len(set), maxCandidates)]}, nil
}

// tokenErrors maps the library's errors to refusals; the first match counts. All
// but the first are about tokens with a valid signature.
var tokenErrors = []struct {
	err          error
	kind, reason string
}{
	{jwt.ErrTokenMalformed, refusal.WrongToken, "the token is not a JWT"},
	{jwt.ErrTokenExpired, refusal.ExpiredToken, "the token has expired"},
	{jwt.ErrTokenNotValidYet, refusal.InvalidClaims, "the token is not valid yet"},
	{jwt.ErrTokenUsedBeforeIssued, refusal.InvalidClaims, "the token is not valid yet"},
	{jwt.ErrTokenInvalidAudience, refusal.InvalidClaims, "the token is for another audience"},
	{jwt.ErrTokenInvalidIssuer, refusal.InvalidClaims, "the token is from another issuer"},
	{jwt.ErrTokenRequiredClaimMissing, refusal.InvalidClaims, "the token lacks exp, iss or aud"},
	{jwt.ErrTokenInvalidClaims, refusal.InvalidClaims, "the token's claims are malformed"},
}

func refusalOf(err error) *refusal.Error {
	if errors.Is(err, errNoKeys) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return &refusal.Error{
			Status: http.StatusServiceUnavailable, Kind: refusal.NoKeys, Reason: "the token can't be verified now; try again later",
			RetryAfter: fetchPause, Err: withoutURL(err),
		}
	}
	for _, r := range tokenErrors {
		if errors.Is(err, r.err) {
			return unauthorized(r.kind, r.reason, nil)
		}
	}
	return unauthorized(refusal.WrongToken, "the token's signature is wrong", nil)
}

// withoutURL removes the URL, which may hold secrets, from an error for the log.
func withoutURL(err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		return fmt.Errorf("fetching the key set: %w", failed.Err)
	}
	return err
}

// token returns the token that has the claims, or a refusal if it has expired or
// a claim is not valid.
func (j *JWT) token(claims jwt.MapClaims) (*Token, *refusal.Error) {
	expires, err := claims.GetExpirationTime()
	if err != nil || expires == nil || !time.Now().Before(expires.Time) {
		return nil, unauthorized(refusal.ExpiredToken, "the token has expired", err)
	}
	t := &Token{Expires: expires.Time}
	if t.Subject, err = claims.GetSubject(); err != nil {
		return nil, unauthorized(refusal.InvalidClaims, "the token's claims are malformed", nil)
	}
	value, ok := claims[j.Claim]
	if !ok {
		return t, nil
	}
	t.HasClaim = true
	if t.patterns, ok = parsePatterns(value); !ok {
		return nil, unauthorized(refusal.InvalidClaims, "the token's claim of topics is not a list of strings", nil)
	}
	return t, nil
}

// parsePatterns returns the patterns of a claim: a string, or a list of strings.
func parsePatterns(value any) ([]string, bool) {
	switch v := value.(type) {
	case string:
		return []string{v}, true
	case []any:
		patterns := make([]string, len(v))
		for i := range v {
			var ok bool
			if patterns[i], ok = v[i].(string); !ok {
				return nil, false
			}
		}
		return patterns, true
	default:
		return nil, false
	}
}

// CheckOrigin refuses a cross-origin request whose token comes from a cookie: a
// page may send a form to any site, and the browser adds the cookies. Requests with
// safe methods need no check, since the page can't read the response.
func (c Credential) CheckOrigin(r *http.Request) *refusal.Error {
	if !c.fromCookie {
		return nil
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		refused := refusal.Newf(http.StatusForbidden, "a page of another origin can't use the cookie: send the token in the Authorization header")
		refused.Kind = refusal.CrossSite
		return refused
	}
	return nil
}
