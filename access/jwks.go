package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/caddy-sse/caddy-sse/internal/inflight"
)

const (
	// refreshAfter is the age at which the next token makes the key set be
	// fetched again. Tokens don't wait for that.
	refreshAfter = 10 * time.Minute
	// keySetMaxAge is the age up to which a key set serves while it can't be
	// fetched again.
	keySetMaxAge = 24 * time.Hour
	// fetchPause is the least time between two fetches, whatever key ids
	// tokens name.
	fetchPause     = 10 * time.Second
	fetchTimeout   = 10 * time.Second
	maxKeySetBytes = 512 << 10
)

// keySet is a JSON Web Key Set (RFC 7517) at a URL. The first token that needs
// it makes it be fetched.
type keySet struct {
	url     string
	client  *http.Client
	onError func(error)     // may be nil
	ctx     context.Context // ends fetches when the rule ends
	cancel  context.CancelFunc
	fetches inflight.Group[struct{}]

	mu        sync.Mutex
	keys      []key
	version   int       // counts the fetches that succeeded
	fetched   time.Time // when the last of them ended
	attempted time.Time // when the last fetch began
	err       error     // of the last fetch
}

func newKeySet(source string, onFailed func(error)) (*keySet, error) {
	u, err := parseKeySetURL(source)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // the next fetch is minutes away
	return &keySet{
		url: u.String(), onError: onFailed, ctx: ctx, cancel: cancel,
		client:  &http.Client{Transport: transport, Timeout: fetchTimeout, CheckRedirect: checkRedirect},
		fetches: inflight.Group[struct{}]{Detached: true}, // the keys are for later tokens, too
	}, nil
}

func parseKeySetURL(source string) (*url.URL, error) {
	u, err := url.Parse(source)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("jwks is not a URL: write for example https://login.example.com/.well-known/jwks.json")
	}
	return u, nil
}

// checkRedirect refuses redirects away from HTTPS, and long chains of them.
func checkRedirect(req *http.Request, via []*http.Request) error {
	switch {
	case len(via) > 3:
		return errors.New("more than three redirects")
	case via[0].URL.Scheme == "https" && req.URL.Scheme != "https":
		return errors.New("redirected away from https")
	default:
		return nil
	}
}

// errNoKeys is the error of a key set that was never fetched, or is too old.
var errNoKeys = errors.New("the key set can't be fetched")

// current returns the keys that can be used now and their version. It starts a
// fetch in the background if they are due for one.
func (s *keySet) current() ([]key, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.usableLocked(now) {
		return nil, s.version
	}
	if now.Sub(s.fetched) >= refreshAfter && !s.pausedLocked(now) {
		go func() { _, _, _ = s.fetches.Do(s.ctx, "", s.update) }()
	}
	return s.keys, s.version
}

// newer reports whether the set has changed since a version whose keys did not
// verify a token. It fetches the set first, unless the set has the key that the
// token names. It returns errNoKeys if the token's key may be in a set that can't
// be fetched, and ctx's error if ctx ends first.
func (s *keySet) newer(ctx context.Context, version int, alg, id string) (bool, error) {
	s.mu.Lock()
	known := s.version != version || s.usableLocked(time.Now()) && hasNamed(s.keys, alg, id)
	s.mu.Unlock()
	if !known {
		_, _, _ = s.fetches.Do(ctx, "", s.update) // s.err has the error, also of an earlier fetch
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.version != version:
		return true, nil
	case known, s.err == nil && s.usableLocked(time.Now()):
		return false, nil
	default:
		return false, errors.Join(errNoKeys, s.err)
	}
}

func (s *keySet) usableLocked(now time.Time) bool {
	return !s.fetched.IsZero() && now.Sub(s.fetched) < keySetMaxAge
}

func (s *keySet) pausedLocked(now time.Time) bool {
	return !s.attempted.IsZero() && now.Sub(s.attempted) < fetchPause
}

// hasNamed reports whether a key has the id that a token names. A key or a token
// without an id names nothing.
func hasNamed(keys []key, alg, id string) bool {
	return id != "" && slices.ContainsFunc(keys, func(k key) bool { return k.id == id && k.fits(alg) })
}

// update fetches the set, unless a fetch began within fetchPause.
func (s *keySet) update(context.Context) (none struct{}, err error) {
	s.mu.Lock()
	now := time.Now()
	if s.pausedLocked(now) {
		s.mu.Unlock()
		return none, nil
	}
	s.attempted = now
	s.mu.Unlock()
	keys, err := s.fetch()
	if err != nil && s.onError != nil && s.ctx.Err() == nil {
		s.onError(withoutURL(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err = err; err == nil {
		s.keys, s.fetched = keys, time.Now()
		s.version++
	}
	return none, nil
}

func (s *keySet) fetch() ([]key, error) {
	req, err := http.NewRequestWithContext(s.ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the response has status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySetBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxKeySetBytes:
		return nil, fmt.Errorf("the response is larger than %d bytes", maxKeySetBytes)
	}
	return parseKeySet(body)
}

// parseKeySet returns a set's public keys for signatures. It skips other keys and
// kinds that it doesn't know (RFC 7517 §5), and symmetric ones: a secret that can
// be fetched is none.
func parseKeySet(body []byte) (keys []key, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, errors.New("the response is not a JSON Web Key Set")
	}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) != nil || k.Use != "" && k.Use != "sig" || !k.IsPublic() || checkPublicKey(k.Key) != nil {
			continue
		}
		keys = append(keys, key{id: k.KeyID, alg: k.Algorithm, verify: k.Key})
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no public key for signatures")
	}
	return keys, nil
}
