package caddysse

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// authorize asks the backend whether the client may read the topics of its request.
// If not, authorize responds to the client and returns no grant.
func (s *subscribeRule) authorize(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) (*access.Grant, error) {
	config := s.handler.Authorize
	if config == nil {
		return access.AlwaysGranted(), nil
	}
	uris, refused := s.topics.AuthorizationURIs(r, replacer(r), config.Template())
	if refused != nil {
		return nil, s.refuse(w, r, refused)
	}
	principal := access.NewPrincipal(r, s.requester(r, next))
	grant, denial, err := s.authorizer.Authorize(r.Context(), principal, uris, time.Duration(config.Recheck))
	switch {
	case errors.Is(err, subrequest.ErrConnectionAborted):
		panic(http.ErrAbortHandler) // as the handler did
	case err != nil:
		s.log.Error("authorization check can't be sent", zap.Error(err))
		return nil, s.refuse(w, r, &refusal.Error{Status: http.StatusBadGateway, Kind: refusal.NotStreamable, Reason: "the authorization check can't be sent: " + err.Error(), Err: err})
	case denial != nil:
		return nil, writeResponse(w, uncacheable(denial))
	case r.Context().Err() != nil: // the client has left
		grant.End()
		return nil, nil
	}
	return grant, nil
}

// uncacheable returns a response to another URL than the client's, which is for
// this client only.
func uncacheable(resp *subrequest.Response) *subrequest.Response {
	private := *resp // other clients share resp
	private.Header = resp.Header.Clone()
	if private.Header == nil {
		private.Header = make(http.Header)
	}
	private.Header.Set("Cache-Control", "no-store")
	return &private
}
