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
	"time"

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

func (*token) headersOnly() {}

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
// known. The hashes are slow on purpose: what was right last for each is known
// again by a quick digest, under a key of its own.
//
// Who doesn't know the user waits in a queue of their own, and as long as for a
// comparison: it costs those who do no place, and tells apart from them nobody
// as long as neither queue has grown.
type password struct {
	user           secrets
	hashes         [][]byte
	key            []byte
	known, unknown queue

	mu    sync.RWMutex
	right map[int][]byte // digests, by the place of the hash
}

// queue has one at a time have its turn, so that guesses don't take all
// processors, and few wait.
type queue struct {
	places chan struct{}
	turn   chan struct{}
}

// maxGuesses is how many passwords are compared or wait for it, of those with
// the right user and of the others.
const maxGuesses = 8

func newQueue() queue {
	return queue{make(chan struct{}, maxGuesses), make(chan struct{}, 1)}
}

var errFull = errors.New("too many passwords are to be compared")

// do calls f when it is its turn.
func (q queue) do(ctx context.Context, f func()) error {
	select {
	case q.places <- struct{}{}:
		defer func() { <-q.places }()
	default:
		return errFull
	}
	select {
	case q.turn <- struct{}{}:
		defer func() { <-q.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	f()
	return nil
}

func newPassword(user string, hashes [][]byte) *password {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	return &password{user: newSecrets([][]byte{[]byte(user)}), hashes: hashes, key: key, known: newQueue(), unknown: newQueue(), right: make(map[int][]byte)}
}

func checkHash(hash []byte) error {
	if !isHash(hash) {
		return errors.New("it wants the hash of a password, as `caddy hash-password` makes it, and not the password")
	}
	return nil
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

func (*password) headersOnly() {}

func (p *password) check(d *received) (*proven, *refusal.Error) {
	if _, refused := single(d.Header, "Authorization", "header"); refused != nil {
		return nil, refused
	}
	user, pass, ok := d.BasicAuth()
	if !ok {
		return nil, unauthorized("header Authorization is not of the kind Basic")
	}
	known := p.user.have(user)
	fits, err := p.fits(d.Context(), known, []byte(pass))
	switch {
	case errors.Is(err, errFull):
		return nil, &refusal.Error{Status: http.StatusServiceUnavailable, Reason: "too many passwords are to be checked; send it again later", RetryAfter: 5 * time.Second, Err: err}
	case err != nil:
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

// fits tells whether the password is right. It remembers it only of a user that
// is known.
func (p *password) fits(ctx context.Context, known bool, pass []byte) (fits bool, err error) {
	if !known {
		return false, p.unknown.do(ctx, func() { p.compare(pass) })
	}
	digest := (&hmacKey{sha256.New, p.key}).sign(pass)
	if p.wasRight(digest) {
		return true, nil
	}
	err = p.known.do(ctx, func() {
		if p.wasRight(digest) { // it was compared while this one waited
			fits = true
			return
		}
		which := p.compare(pass)
		if fits = which >= 0; fits {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.right[which] = digest
		}
	})
	return fits, err
}

func (p *password) wasRight(digest []byte) (was bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, right := range p.right { // without stopping at a match
		was = hmac.Equal(digest, right) || was
	}
	return was
}

// compare is the place of the hash that the password fits, or -1. It is slow.
func (p *password) compare(pass []byte) int {
	return slices.IndexFunc(p.hashes, func(hash []byte) bool {
		ok, err := comparer(hash).Compare(hash, pass)
		return ok && err == nil
	})
}
