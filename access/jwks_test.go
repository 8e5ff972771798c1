package access_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// issuer is a fake server of a key set.
type issuer struct {
	mu      sync.Mutex
	keys    []any // jose.JSONWebKey, or raw JSON
	fail    error
	status  int
	delay   time.Duration
	fetches int
	accept  string   // of the last fetch
	errors  []string // that OnFetchError received
}

func (i *issuer) failed(err error) { i.set(func() { i.errors = append(i.errors, err.Error()) }) }

func (i *issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *issuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	i.fetches++
	i.accept = r.Header.Get("Accept")
	fail, status, delay := i.fail, i.status, i.delay
	body, err := json.Marshal(map[string]any{"keys": i.keys})
	i.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if err := errors.Join(err, fail); err != nil {
		return nil, err
	}
	if status == 0 {
		status = http.StatusOK
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(bytes.NewReader(body)), Request: r}, nil
}

func (i *issuer) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

func (i *issuer) jwt(t *testing.T) *access.JWT {
	t.Helper()
	j := provision(t, &access.JWT{JWKS: "https://login.example/keys?secret=s3cret", OnFetchError: i.failed})
	j.FetchBy(i)
	return j
}

// signer is a private key of an issuer, with its key ID (kid).
type signer struct {
	id  string
	key *ecdsa.PrivateKey
}

func newSigner(id string) signer {
	return signer{id, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))}
}

func (s signer) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.key.Public(), KeyID: s.id, Algorithm: "ES256", Use: "sig"}
}

func (s signer) token() string {
	if s.id == "" {
		return sign(jwt.SigningMethodES256, s.key, claims("exp", time.Now().Add(100*time.Hour).Unix()))
	}
	return sign(jwt.SigningMethodES256, s.key, claims("exp", time.Now().Add(100*time.Hour).Unix()), "kid", s.id)
}

func wantStatus(t *testing.T, what string, refused *refusal.Error, status int) {
	t.Helper()
	got := 0
	if refused != nil {
		got = refused.Status
	}
	if got != status {
		t.Errorf("%s: %v, want %d", what, refused, status)
	}
}

func TestFirstTokenFetchesKeySet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := newSigner("1")
		i := &issuer{keys: []any{one.public()}, delay: time.Second}
		j := i.jwt(t)
		if i.count() != 0 {
			t.Fatal("Provision fetches the key set")
		}
		if _, refused := check(j, hs256(claims())); refused == nil || i.count() != 0 {
			t.Errorf("%v, %d fetches for a token whose algorithm needs no key of the set", refused, i.count())
		}
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				_, refused := check(j, one.token())
				wantStatus(t, "at once with others", refused, 0)
			})
		}
		group.Wait()
		if i.count() != 1 {
			t.Errorf("%d fetches for 50 tokens", i.count())
		}
		if i.accept != "application/jwk-set+json, application/json" { // RFC 7517 §8.5.2
			t.Errorf("the fetch accepts %q", i.accept)
		}
	})
}

func TestKeyRotationTakesEffectAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newSigner("1"), newSigner("2")
		i := &issuer{keys: []any{one.public()}}
		j := i.jwt(t)
		_, refused := check(j, one.token())
		wantStatus(t, "the first key", refused, 0)
		time.Sleep(time.Minute)
		i.set(func() { i.keys = []any{two.public()} })
		_, refused = check(j, two.token())
		wantStatus(t, "a new key", refused, 0)
		_, refused = check(j, one.token())
		wantStatus(t, "the old key", refused, http.StatusUnauthorized)
		synctest.Wait()
	})
}

func TestUnknownKeysFetchAtMostEveryTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := newSigner("1")
		i := &issuer{keys: []any{one.public()}}
		j := i.jwt(t)
		for n := range 600 { // a minute's
			_, refused := check(j, newSignerLike(one, n).token())
			wantStatus(t, "a made-up key", refused, http.StatusUnauthorized)
			time.Sleep(100 * time.Millisecond)
		}
		if n := i.count(); n != 6 {
			t.Errorf("%d fetches in a minute", n)
		}
	})
}

// newSignerLike returns a signer with s's key and another key ID.
func newSignerLike(s signer, n int) signer {
	return signer{strings.Repeat("x", n+1), s.key}
}

func TestKeySetIsRefreshedInBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := newSigner("1")
		i := &issuer{keys: []any{one.public()}}
		j := i.jwt(t)
		_, refused := check(j, one.token())
		wantStatus(t, "first", refused, 0)
		i.set(func() { i.delay, i.keys = 5*time.Second, []any{newSigner("2").public()} })
		time.Sleep(11 * time.Minute)
		before := time.Now()
		_, refused = check(j, one.token())
		wantStatus(t, "while it is fetched", refused, 0)
		if time.Since(before) > 0 {
			t.Error("the token waited for the fetch")
		}
		time.Sleep(6 * time.Second)
		_, refused = check(j, one.token())
		wantStatus(t, "after it was", refused, http.StatusUnauthorized)
		time.Sleep(time.Minute)
	})
}

func TestUnavailableKeySetReturns503(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one := newSigner("1")
		i := &issuer{keys: []any{one.public()}, fail: errors.New("connection refused")}
		j := i.jwt(t)
		for name, fail := range map[string]func(){
			"unreachable": func() { i.fail = errors.New("connection refused") },
			"an error":    func() { i.status = http.StatusInternalServerError },
			"no keys":     func() { i.keys = nil },
			"too slow":    func() { i.delay = time.Minute },
		} {
			i.set(func() { i.fail, i.status, i.delay, i.keys = nil, 0, 0, []any{one.public()} })
			i.set(fail)
			_, refused := check(j, one.token())
			wantStatus(t, name, refused, http.StatusServiceUnavailable)
			if refused.RetryAfter <= 0 || refused.Err == nil || strings.Contains(refused.Error(), "s3cret") {
				t.Errorf("%s: %v", name, refused)
			}
			time.Sleep(time.Minute)
		}
		i.set(func() { i.fail, i.status, i.delay, i.keys = nil, 0, 0, []any{one.public()} })
		i.set(func() {
			if all := strings.Join(i.errors, "\n"); len(i.errors) != 4 || strings.Contains(all, "s3cret") || !strings.Contains(all, "connection refused") {
				t.Errorf("OnFetchError received %q", i.errors)
			}
		})
		_, refused := check(j, one.token())
		wantStatus(t, "available again", refused, 0)
		i.set(func() { i.fail = errors.New("connection refused") })
		time.Sleep(23 * time.Hour)
		_, refused = check(j, one.token())
		wantStatus(t, "a day without", refused, 0)
		_, refused = check(j, newSigner("2").token())
		wantStatus(t, "a key that may be there", refused, http.StatusServiceUnavailable)
		time.Sleep(2 * time.Hour)
		_, refused = check(j, one.token())
		wantStatus(t, "longer than a day", refused, http.StatusServiceUnavailable)
	})
}

// In an outage, the kept keys verify tokens with and without kid, which is optional
// (RFC 7515 §4.1.4).
func TestOutageRefusesNoTokenThatKnownKeyVerifies(t *testing.T) {
	for name, c := range map[string]struct{ key, token string }{
		"key and token are named":        {"1", "1"},
		"token is not named":             {"1", ""},
		"key is not named":               {"", "1"},
		"neither key nor token is named": {"", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			key := newSigner(c.key)
			token := signer{c.token, key.key}.token()
			i := &issuer{keys: []any{key.public()}}
			j := i.jwt(t)
			_, refused := check(j, token)
			wantStatus(t, name, refused, 0)
			i.set(func() { i.fail = errors.New("connection refused") })
			time.Sleep(time.Hour)
			for range 3 {
				_, refused = check(j, token)
				wantStatus(t, name+", in an outage", refused, 0)
				time.Sleep(time.Minute)
			}
			other := newSigner(c.token).token()
			_, refused = check(j, other)
			if c.key == "1" && c.token == "1" {
				wantStatus(t, name+", another key of that name", refused, http.StatusUnauthorized)
			} else {
				wantStatus(t, name+", perhaps a key that is not known yet", refused, http.StatusServiceUnavailable)
			}
		})
	}
}

// A token without kid may be signed with a new key of the set.
func TestUnnamedTokenOfRotatedKeyIsAcceptedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := newSigner(""), newSigner("")
		i := &issuer{keys: []any{one.public()}}
		j := i.jwt(t)
		_, refused := check(j, one.token())
		wantStatus(t, "the first key", refused, 0)
		time.Sleep(time.Minute)
		i.set(func() { i.keys = []any{two.public()} })
		_, refused = check(j, two.token())
		wantStatus(t, "the next key", refused, 0)
		_, refused = check(j, one.token())
		wantStatus(t, "the key before", refused, http.StatusUnauthorized)
		if i.count() != 2 {
			t.Errorf("%d fetches", i.count())
		}
	})
}

func TestLocalKeysNeedNoKeySet(t *testing.T) {
	file := publicPEM(t, ecKey().Public())
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{fail: errors.New("connection refused"), delay: time.Second}
		j := provision(t, &access.JWT{Keys: []string{jwtSecret}, PEM: []string{file}, JWKS: "https://login.example/keys", OnFetchError: i.failed})
		j.FetchBy(i)
		for _, id := range []string{"", "local"} {
			_, refused := check(j, signer{id, ecKey()}.token())
			wantStatus(t, "a token of the PEM file's key, named "+id, refused, 0)
		}
		_, refused := check(j, hs256(claims()))
		wantStatus(t, "a token of the secret", refused, 0)
		_, refused = check(j, sign(jwt.SigningMethodES256, ecKey(), claims("exp", time.Now().Add(-time.Hour).Unix())))
		wantStatus(t, "an expired token of the PEM file's key", refused, http.StatusUnauthorized)
		if i.count() != 0 {
			t.Errorf("%d fetches for tokens of local keys", i.count())
		}
		_, refused = check(j, newSigner("1").token())
		wantStatus(t, "a token of another key", refused, http.StatusServiceUnavailable)
	})
}

// The number of keys tried per token is limited. The key that the token names is
// always among them.
func TestManyLocalKeysCrowdOutNoNamedKey(t *testing.T) {
	var local []crypto.PublicKey
	for range 20 {
		local = append(local, newSigner("").key.Public())
	}
	file := publicPEM(t, local...)
	synctest.Test(t, func(t *testing.T) {
		one := newSigner("1")
		i := &issuer{keys: []any{one.public()}}
		j := provision(t, &access.JWT{PEM: []string{file}, JWKS: "https://login.example/keys"})
		j.FetchBy(i)
		_, refused := check(j, one.token())
		wantStatus(t, "a named key of the set", refused, 0)
	})
}

func TestKeySetSkipsOtherKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, forEncryption := newSigner("1"), newSigner("2")
		encryption := forEncryption.public()
		encryption.Use = "enc"
		otherAlgorithm := newSigner("3")
		wrongAlgorithm := otherAlgorithm.public()
		wrongAlgorithm.Algorithm = "ES384"
		i := &issuer{keys: []any{
			map[string]any{"kty": "unheard of", "kid": "0"}, map[string]any{}, 7, "text", nil,
			jose.JSONWebKey{Key: []byte(jwtSecret), KeyID: "secret", Algorithm: "HS256"},
			encryption, wrongAlgorithm, one.public(),
		}}
		j := i.jwt(t)
		_, refused := check(j, one.token())
		wantStatus(t, "a key for signatures", refused, 0)
		for name, token := range map[string]string{
			"encryption":        forEncryption.token(),
			"another algorithm": otherAlgorithm.token(),
			"a public secret":   sign(jwt.SigningMethodHS256, []byte(jwtSecret), claims(), "kid", "secret"),
		} {
			_, refused := check(j, token)
			wantStatus(t, name, refused, http.StatusUnauthorized)
		}
	})
}

func TestCleanupCancelsFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{delay: time.Hour}
		j := i.jwt(t)
		done := make(chan *refusal.Error)
		go func() { _, refused := check(j, newSigner("1").token()); done <- refused }()
		synctest.Wait()
		j.Cleanup()
		wantStatus(t, "a canceled fetch", <-done, http.StatusServiceUnavailable)
	})
}
