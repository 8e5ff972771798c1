package poll

import (
	"context"
	"net/http"
	"slices"

	"github.com/caddy-sse/caddy-sse/hub"
)

// Repeatable is a client's request as polls repeat it: it carries all by which the
// backend may tell who asks, no header of the single connection, and for clients
// without credentials an address that is nobody's. Requests with the same key may
// have the same response, unless its Vary says otherwise.
type Repeatable struct {
	target *target
	key    string
}

// NewRepeatable makes a request repeatable. body is the request's; scope is part of
// the key.
func NewRepeatable(r *http.Request, body []byte, caller Requester, h *hub.Hub, scope string) *Repeatable {
	t := newTarget(r, body, caller, h, &Config{Method: r.Method, Scope: scope})
	return &Repeatable{t, t.private}
}

// Key returns a keyed digest of the request, without Accept-Language, User-Agent and
// the headers that number a request.
func (r *Repeatable) Key() string { return r.key }

// Request returns a new request, which the caller may change.
func (r *Repeatable) Request(ctx context.Context) *http.Request {
	as := r.target.principal
	return r.target.request(ctx, as, r.target.headerFor(as, validators{}, nil))
}

// SharesWith reports whether a response to the request, of which header is the
// header, is also the response to another request with the same key.
func (r *Repeatable) SharesWith(other *Repeatable, header http.Header) bool {
	for member := range listMembers(header, "Vary") {
		name := http.CanonicalHeaderKey(member)
		if name == "*" || !slices.Equal(r.values(name), other.values(name)) {
			return false
		}
	}
	return r.key == other.key
}

func (r *Repeatable) values(name string) []string {
	for _, header := range []http.Header{r.target.header, r.target.ignored, r.target.principal.header} {
		if len(header[name]) > 0 {
			return header[name]
		}
	}
	return nil
}
