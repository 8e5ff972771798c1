package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// refreshAfter is how old a key set may be before the next token has it
	// fetched anew, while it still serves.
	refreshAfter = 10 * time.Minute
	// keptFor is how old it may become when it can't be fetched.
	keptFor = 24 * time.Hour
	// fetchPause is the least time between two fetches, whatever key ids
	// strangers make up.
	fetchPause   = 10 * time.Second
	fetchTimeout = 10 * time.Second
	maxKeySet    = 512 << 10
)

// remoteKeys are those of a JSON Web Key Set (RFC 7517) at a URL. They are
// fetched when the first token needs them, by nobody before.
type remoteKeys struct {
	url    string
	client *http.Client
	failed func(error)     // may be nil
	ctx    context.Context // ends fetches when the rule goes
	cancel context.CancelFunc

	mu      sync.Mutex
	keys    []key
	fetched time.Time     // when keys came
	tried   time.Time     // when the last fetch began
	err     error         // what the last fetch came to
	pending chan struct{} // closed when the fetch that is under way is done
}

func newRemoteKeys(source string, failed func(error)) (*remoteKeys, error) {
	u, err := url.Parse(source)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("jwks is no URL: write for example https://login.example.com/.well-known/jwks.json")
	}
	ctx, cancel := context.WithCancel(context.Background())
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // the next fetch is minutes away
	return &remoteKeys{
		url: u.String(), failed: failed, ctx: ctx, cancel: cancel,
		client: &http.Client{Transport: transport, Timeout: fetchTimeout, CheckRedirect: checkRedirect},
	}, nil
}

// checkRedirect keeps keys that are asked for over HTTPS from coming otherwise.
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

// errNoKeys is for a set that was never fetched, or is too old.
var errNoKeys = errors.New("the key set can't be fetched")

// get returns the keys. They are fetched before if there are none, or if none
// of them has the id; in the background if they are due. It fails with
// errNoKeys, or if ctx ends.
func (s *remoteKeys) get(ctx context.Context, id string) ([]key, error) {
	s.mu.Lock()
	now := time.Now()
	usable := s.usableLocked(now)
	var wait chan struct{}
	switch {
	case !usable, !hasKey(s.keys, id):
		wait = s.fetchLocked(now)
	case now.Sub(s.fetched) >= refreshAfter:
		s.fetchLocked(now)
	}
	s.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.known(id)
}

// known returns what there is after a fetch. A key that isn't there may be one
// that could not be fetched, for which the token can't be blamed.
func (s *remoteKeys) known(id string) ([]key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.usableLocked(time.Now()) && (s.err == nil || hasKey(s.keys, id)) {
		return s.keys, nil
	}
	return nil, errors.Join(errNoKeys, s.err)
}

func (s *remoteKeys) usableLocked(now time.Time) bool {
	return !s.fetched.IsZero() && now.Sub(s.fetched) < keptFor
}

func hasKey(keys []key, id string) bool {
	for _, k := range keys {
		if k.id == id {
			return true
		}
	}
	return false
}

// fetchLocked has the set fetched, unless that was just done. It returns what
// is closed when it is there; nil if there is nothing to wait for.
func (s *remoteKeys) fetchLocked(now time.Time) chan struct{} {
	if s.pending != nil {
		return s.pending
	}
	if !s.tried.IsZero() && now.Sub(s.tried) < fetchPause {
		return nil
	}
	s.tried = now
	done := make(chan struct{})
	s.pending = done
	go func() { // whoever has asked may leave; others wait for it as well
		keys, err := s.fetch()
		if err != nil && s.failed != nil && s.ctx.Err() == nil {
			s.failed(withoutURL(err))
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err = err; err == nil {
			s.keys, s.fetched = keys, time.Now()
		}
		s.pending = nil
		close(done)
	}()
	return done
}

func (s *remoteKeys) fetch() ([]key, error) {
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
		return nil, fmt.Errorf("it was answered with status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySet+1))
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxKeySet:
		return nil, fmt.Errorf("it is larger than %d bytes", maxKeySet)
	}
	return parseKeySet(body)
}

// parseKeySet leaves out what isn't for checking signatures, or isn't known
// (RFC 7517 §5). A symmetric key has no place in a set that can be fetched.
func parseKeySet(body []byte) (keys []key, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, errors.New("it is no JSON Web Key Set")
	}
	for _, raw := range set.Keys {
		var k jose.JSONWebKey
		if k.UnmarshalJSON(raw) != nil || k.Use != "" && k.Use != "sig" || !k.IsPublic() || checkPublic(k.Key) != nil {
			continue
		}
		keys = append(keys, key{id: k.KeyID, alg: k.Algorithm, verify: k.Key})
	}
	if len(keys) == 0 {
		return nil, errors.New("it holds no public key that tokens could be checked with")
	}
	return keys, nil
}
