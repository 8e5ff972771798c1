package caddysse

import (
	"context"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// ruleTokens takes the tokens out of a rule's requests: of all kinds that have
// a JWT configuration.
type ruleTokens struct {
	*rule
	jwt *access.JWT // nil: the rule has none
}

// provision sets up the verification of tokens. The claim lists a token's topics,
// unless the configuration names another claim.
func (t *ruleTokens) provision(claim string) error {
	t.logFailures()
	return t.jwt.Provision(caddy.NewReplacer(), claim)
}

// logFailures logs failures to fetch a key set, every ten seconds at most.
func (t *ruleTokens) logFailures() {
	t.jwt.OnFetchError = func(err error) { t.log.Error("keys for tokens can't be fetched", zap.Error(err)) }
}

func (t *ruleTokens) cleanup() {
	if t.jwt != nil {
		t.jwt.Cleanup()
	}
}

// takenCredential is the credential that was taken out of a request. It is the
// value of takenKey in the request's context.
type takenCredential struct {
	access.Credential
	inURL bool
}

type takenKey struct{}

func taken(r *http.Request) takenCredential {
	t, _ := r.Context().Value(takenKey{}).(takenCredential)
	return t
}

func credentialOf(r *http.Request) access.Credential { return taken(r).Credential }

func tokenWasInURL(r *http.Request) bool { return taken(r).inURL }

// serve takes the token out of a request and calls serve with it.
func (t *ruleTokens) serve(w http.ResponseWriter, r *http.Request, serve caddyhttp.HandlerFunc) error {
	if t.jwt == nil {
		return serve(w, r)
	}
	c, inURL := t.jwt.Take(r)
	r = r.WithContext(context.WithValue(r.Context(), takenKey{}, takenCredential{c, inURL}))
	if inURL {
		partOf(r).setTokenInURL()
		return t.serveUnlogged(w, r, serve)
	}
	return serve(w, r)
}

// check verifies the request's token. It returns nil if the rule needs none.
func (t *ruleTokens) check(r *http.Request) (*access.Token, *refusal.Error) {
	if t.jwt == nil {
		return nil, nil
	}
	token, refused := t.jwt.Check(r.Context(), credentialOf(r))
	if refused != nil {
		return nil, refused
	}
	// Also if it is empty: a user whom another handler has set isn't the token's.
	replacer(r).Set("http.auth.user.id", token.Subject)
	return token, nil
}

// serveUnlogged serves a request that had a token in its URL. Caddy has saved
// the whole URL for its logs before any handler could take the token out. The
// access log therefore skips the request, errors stay out of the error log, and
// a line without the token replaces both. The next handlers don't get the
// request; see passOrRefuse.
func (t *ruleTokens) serveUnlogged(w http.ResponseWriter, r *http.Request, serve caddyhttp.HandlerFunc) error {
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	began, response := time.Now(), recordResponse(w, nil)
	defer func() {
		t.log.Info("handled request, without the token in its query",
			zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: r}),
			zap.Int("status", response.status()), zap.Duration("duration", time.Since(began)))
	}()
	if err := serve(response, r); err != nil {
		t.log.Error("request failed", zap.Error(err))
		if response.status() == 0 {
			refusal.Newf(http.StatusInternalServerError, "the request failed").Write(response, r)
		}
	}
	return nil
}

// refuseTokenInURL refuses a request that would be passed to the next handler
// if its URL hadn't contained a token.
func refuseTokenInURL(w http.ResponseWriter, r *http.Request) {
	refusal.Newf(http.StatusBadRequest, "a URL with a token in it is only for streams (GET) and for publishing (POST)").Write(w, r)
}
