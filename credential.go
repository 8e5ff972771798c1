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

// watchClaim is the claim that lists what a token may watch, unless the rule
// says otherwise.
const watchClaim = "topics"

// keysFailed is told when a key set can't be fetched, every ten seconds at most.
func (h *Handler) keysFailed(err error) {
	h.log.Error("keys for tokens can't be fetched", zap.Error(err))
}

func (h *Handler) provisionPublish() error {
	if h.Publish.JWT != nil {
		h.Publish.JWT.Failed = h.keysFailed
	}
	return h.Publish.Provision(caddy.NewReplacer())
}

// provisionJWT sets up who may watch by a token. It returns what that covers.
func (h *Handler) provisionJWT() (covered []string, err error) {
	if h.JWT == nil {
		return nil, nil
	}
	h.JWT.Failed = h.keysFailed
	return []string{access.CoveredByToken}, h.JWT.Provision(caddy.NewReplacer(), watchClaim)
}

// tokens is what says which tokens the rule takes; nil if it takes none.
func (h *Handler) tokens() *access.JWT {
	if h.Publish != nil {
		return h.Publish.JWT
	}
	return h.JWT
}

// taken is what was taken out of a request.
type taken struct {
	access.Credential
	hidden bool // it was in the query
}

// takenKey is the context key of what was taken out of a request.
type takenKey struct{}

func takenFrom(r *http.Request) taken {
	t, _ := r.Context().Value(takenKey{}).(taken)
	return t
}

func credentialOf(r *http.Request) access.Credential { return takenFrom(r).Credential }

// viewer is who a request comes from, by its token; nil if the rule has none.
func (h *Handler) viewer(r *http.Request) (*access.Token, *refusal.Error) {
	if h.JWT == nil {
		return nil, nil
	}
	token, refused := h.JWT.Check(r.Context(), credentialOf(r))
	if refused != nil {
		return nil, refused
	}
	// Also if it has none: another handler's user isn't the token's owner.
	replacer(r).Set("http.auth.user.id", token.Subject)
	return token, nil
}

// withCredential answers a request whose token was taken out of it.
func (h *Handler) withCredential(jwt *access.JWT, w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	c, hidden := jwt.Take(r)
	r = r.WithContext(context.WithValue(r.Context(), takenKey{}, taken{c, hidden}))
	if hidden {
		return h.answerHidden(w, r, next)
	}
	return h.answer(w, r, next)
}

// answerHidden answers a request that came with a token in its query. Caddy has
// put the whole URL aside for its logs before any handler could take it out, so
// that the access log must do without the request, and an error must not come
// to the error log. A line of our own stands for it. It isn't passed on; see passOn.
func (h *Handler) answerHidden(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	caddyhttp.SetVar(r.Context(), caddyhttp.LogSkipVar, true)
	began, answer := time.Now(), watchAnswer(w)
	defer func() {
		h.log.Info("handled request, without the token in its query",
			zap.Object("request", caddyhttp.LoggableHTTPRequest{Request: r}),
			zap.Int("status", answer.status), zap.Duration("duration", time.Since(began)))
	}()
	if err := h.answer(answer, r, next); err != nil {
		h.log.Error("request failed", zap.Error(err))
		if answer.status == 0 {
			refusal.Newf(http.StatusInternalServerError, "the request failed").Write(answer, r)
		}
	}
	return nil
}

// refuseHidden answers a request that would be passed on, but for the token
// that was in its URL.
func refuseHidden(w http.ResponseWriter, r *http.Request) {
	refusal.Newf(http.StatusBadRequest, "a URL with a token in it is for nothing but the streams here, asked for with GET, or for what is published with POST").Write(w, r)
}
