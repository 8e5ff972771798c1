package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"golang.org/x/crypto/bcrypt"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// password is a checker that wants a user and a password (RFC 7617). It knows
// hashes of passwords, and comparing one is slow on purpose. It remembers the
// right password of each hash by a quick digest, under a random key.
//
// Guesses with a wrong user wait in a queue of their own, and each takes as long
// as a comparison. They cost the right user no slot, and the time of a response
// doesn't reveal the user's name while both queues are short.
type password struct {
	user           secrets
	hashes         [][]byte
	key            []byte
	known, unknown comparisons // of the right user, and of wrong users

	mu    sync.RWMutex
	right map[int][]byte // digests of right passwords, by the index of the hash
}

// comparisons runs one slow comparison at a time, so that guesses don't use all
// processors, and limits how many wait.
type comparisons struct {
	slots   chan struct{}
	running chan struct{}
}

// maxComparisons limits the passwords that are compared or wait, for the right
// user and for wrong users.
const maxComparisons = 8

func newComparisons() comparisons {
	return comparisons{make(chan struct{}, maxComparisons), make(chan struct{}, 1)}
}

var errTooManyComparisons = errors.New("too many passwords wait for a comparison")

// do calls compare when no other comparison runs.
func (c comparisons) do(ctx context.Context, compare func()) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	default:
		return errTooManyComparisons
	}
	select {
	case c.running <- struct{}{}:
		defer func() { <-c.running }()
	case <-ctx.Done():
		return ctx.Err()
	}
	compare()
	return nil
}

func newPassword(user string, hashes [][]byte) *password {
	key := make([]byte, sha256.Size)
	_, _ = rand.Read(key) // never fails
	return &password{
		user: newSecrets([][]byte{[]byte(user)}), hashes: hashes, key: key,
		known: newComparisons(), unknown: newComparisons(), right: make(map[int][]byte),
	}
}

func checkHash(hash []byte) error {
	_, _, err := caddyauth.DecodeHash(hash)
	if _, ok := comparer(hash).(caddyauth.BcryptHash); ok {
		_, err = bcrypt.Cost(hash)
	}
	if err != nil { // it isn't wrapped: it may quote a password
		return errors.New("it is not the hash of a password: make one with `caddy hash-password`")
	}
	return nil
}

func comparer(hash []byte) caddyauth.Comparer {
	if strings.HasPrefix(string(hash), "$argon2") {
		return caddyauth.Argon2idHash{}
	}
	return caddyauth.BcryptHash{}
}

func (*password) headersOnly() {}

func (p *password) check(r *request) *refusal.Error {
	if _, refused := single(r.Header, "Authorization", "header"); refused != nil {
		return refused
	}
	user, pass, ok := r.BasicAuth()
	if !ok {
		return unauthorized("header Authorization is not of the kind Basic")
	}
	known := p.user.have(user)
	matches, err := p.matches(r.Context(), known, []byte(pass))
	switch {
	case errors.Is(err, errTooManyComparisons):
		return &refusal.Error{Status: http.StatusServiceUnavailable, Reason: "too many passwords wait to be checked; send it again later", RetryAfter: 5 * time.Second, Err: err}
	case err != nil:
		return refusal.Newf(http.StatusServiceUnavailable, "the request was canceled")
	}
	if !known || !matches {
		detail := "the user is right, and the password is wrong"
		if !known {
			detail = "the user is wrong"
		}
		return detailed(unauthorized("the user or the password is wrong"), detail)
	}
	return nil
}

// matches reports whether the password is right. For an unknown user it compares
// all the same and remembers nothing.
func (p *password) matches(ctx context.Context, known bool, pass []byte) (matches bool, err error) {
	if !known {
		return false, p.unknown.do(ctx, func() { p.compare(pass) })
	}
	digest := (&hmacKey{sha256.New, p.key}).sign(pass)
	if p.remembers(digest) {
		return true, nil
	}
	err = p.known.do(ctx, func() {
		if p.remembers(digest) { // another request has compared it meanwhile
			matches = true
			return
		}
		index := p.compare(pass)
		if matches = index >= 0; matches {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.right[index] = digest
		}
	})
	return matches, err
}

func (p *password) remembers(digest []byte) (found bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, right := range p.right { // without stopping at a match
		found = hmac.Equal(digest, right) || found
	}
	return found
}

// compare returns the index of the hash that the password matches, or -1. It is
// slow.
func (p *password) compare(pass []byte) int {
	return slices.IndexFunc(p.hashes, func(hash []byte) bool {
		ok, err := comparer(hash).Compare(hash, pass)
		return ok && err == nil
	})
}
