package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"github.com/tidwall/gjson"
	"golang.org/x/crypto/bcrypt"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// secrets are compared by their digests: neither their content nor their
// length shows in the time that it takes.
type secrets [][sha256.Size]byte

func newSecrets(keys [][]byte) (s secrets) {
	for _, key := range keys {
		s = append(s, sha256.Sum256(key))
	}
	return s
}

// have tells whether the text is one of them. It tries all.
func (s secrets) have(text string) bool {
	sum := sha256.Sum256([]byte(text))
	matched := 0
	for _, secret := range s {
		matched |= subtle.ConstantTimeCompare(sum[:], secret[:])
	}
	return matched == 1
}

// token wants a header that holds a secret as it is.
type token struct {
	secrets        secrets
	header, prefix string
}

func (t *token) check(d *received) (*proven, *refusal.Error) {
	value, refused := single(d.Header, t.header, "header")
	if refused != nil {
		return nil, refused
	}
	text, ok := cutPrefixFold(value, t.prefix)
	if !t.secrets.have(text) || !ok {
		detail := fmt.Sprintf("header %s holds none of %s", t.header, some(len(t.secrets), "secret"))
		if !ok {
			detail = fmt.Sprintf("header %s doesn't begin with %q", t.header, t.prefix)
		}
		return nil, detailed(unauthorized("the token is wrong"), detail)
	}
	return new(proven), nil
}

// cutPrefixFold doesn't mind case: Bearer is bearer (RFC 9110 §11.1).
func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

// clientState wants one of the secrets in each notification of the body.
type clientState struct{ secrets secrets }

func (c *clientState) check(d *received) (*proven, *refusal.Error) {
	wrong := unauthorized("a notification's clientState is wrong or missing")
	if !json.Valid(d.body) {
		return nil, wrong
	}
	notifications := gjson.GetBytes(d.body, "value").Array()
	proof := len(notifications) > 0
	for _, n := range notifications {
		state := n.Get("clientState")
		proof = c.secrets.have(state.String()) && state.Type == gjson.String && proof
	}
	if !proof {
		return nil, wrong
	}
	return new(proven), nil
}

// password wants a user and a password (RFC 7617), of which only hashes are
// known. The hashes are slow on purpose: the last password that was right is
// known again by a quick one, under a key of its own.
type password struct {
	user   secrets
	hashes [][]byte
	key    []byte
	turn   chan struct{} // one is compared at a time, so that guesses don't take all processors

	mu    sync.RWMutex
	right []byte
}

func newPassword(user string, hashes [][]byte) (*password, error) {
	if user == "" {
		return nil, errors.New("it needs a user and the hash of a password: write `verify basic <user> <hash>`, with a hash of `caddy hash-password`")
	}
	for _, hash := range hashes {
		if !isHash(hash) {
			return nil, errors.New("it wants the hash of a password, as `caddy hash-password` makes it, and not the password")
		}
	}
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	return &password{user: newSecrets([][]byte{[]byte(user)}), hashes: hashes, key: key, turn: make(chan struct{}, 1)}, nil
}

func isHash(hash []byte) bool {
	_, _, err := caddyauth.DecodeHash(hash)
	if _, ok := comparer(hash).(caddyauth.BcryptHash); ok {
		_, err = bcrypt.Cost(hash)
	}
	return err == nil
}

func comparer(hash []byte) caddyauth.Comparer {
	if strings.HasPrefix(string(hash), "$argon2") {
		return caddyauth.Argon2idHash{}
	}
	return caddyauth.BcryptHash{}
}

func (p *password) check(d *received) (*proven, *refusal.Error) {
	if _, refused := single(d.Header, "Authorization", "header"); refused != nil {
		return nil, refused
	}
	user, pass, ok := d.BasicAuth()
	if !ok {
		return nil, unauthorized("header Authorization is not of the kind Basic")
	}
	known := p.user.have(user)
	fits, err := p.fits(d.Context(), []byte(pass))
	if err != nil {
		return nil, refusal.Newf(http.StatusServiceUnavailable, "the request was given up")
	}
	if !known || !fits {
		detail := "the user is right, and the password is wrong"
		if !known {
			detail = "the user is wrong"
		}
		return nil, detailed(unauthorized("the user or the password is wrong"), detail)
	}
	return new(proven), nil
}

// fits is as slow for an unknown user as for a wrong password.
func (p *password) fits(ctx context.Context, pass []byte) (bool, error) {
	digest := (&hmacKey{sha256.New, p.key}).sign(pass)
	p.mu.RLock()
	again := hmac.Equal(digest, p.right)
	p.mu.RUnlock()
	if again {
		return true, nil
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if !slices.ContainsFunc(p.hashes, func(hash []byte) bool {
		ok, err := comparer(hash).Compare(hash, pass)
		return ok && err == nil
	}) {
		return false, nil
	}
	p.mu.Lock()
	p.right = digest
	p.mu.Unlock()
	return true, nil
}
