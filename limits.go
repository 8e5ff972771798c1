package caddysse

import (
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// counts holds how many streams each rule with limits has. They outlive a
// configuration: while a reload drains, a viewer has a place in the old one or
// in the new one.
var counts = caddy.NewUsagePool()

// countedStreams is a rule's count in the pool.
type countedStreams struct{ access.StreamLimiter }

// Destruct implements [caddy.Destructor].
func (*countedStreams) Destruct() error { return nil }

// streamLimits is what a rule needs to keep to its limits.
type streamLimits struct {
	*access.Limits
	streams *countedStreams
	rule    string // in the pool
}

// provisionLimits takes hold of the rule's count.
func (h *Handler) provisionLimits(ctx caddy.Context) error {
	if h.MaxStreams == nil {
		return nil
	}
	if err := h.MaxStreams.Check(); err != nil {
		return err
	}
	rule := h.app.ruleKey(ctx, h)
	value, _, err := counts.LoadOrNew(rule, func() (caddy.Destructor, error) { return new(countedStreams), nil })
	if err != nil {
		return err
	}
	h.limits = &streamLimits{h.MaxStreams, value.(*countedStreams), rule}
	return nil
}

// ruleKey names a rule among all of a configuration, and is the same for the
// same rule after a reload, whatever has changed in it: where it listens, what
// it is called, and which one it is of those that are called so.
func (a *App) ruleKey(ctx caddy.Context, h *Handler) string {
	key := fmt.Sprintf("%q %q", listens(ctx), h.name())
	return fmt.Sprintf("%s %d", key, a.ordinal(key))
}

// release lets go of the count. Streams that are open still hold it.
func (l *streamLimits) release() error {
	if l == nil {
		return nil
	}
	_, err := counts.Delete(l.rule)
	return err
}

// enter takes a place for the stream that a request asks for. When it is over,
// leave is called with why. A rule without limits has places for all.
func (h *Handler) enter(r *http.Request, nextHandler caddyhttp.Handler) (leave func(stream.Reason), err error) {
	if h.limits == nil {
		return func(stream.Reason) {}, nil
	}
	viewer := subrequest.New(r, nextHandler)
	place, refused := h.limits.streams.AcquireWait(r.Context(), h.limits.Limits, viewer.ClientNetwork(), viewer.User())
	if refused != nil {
		return nil, refused
	}
	return func(reason stream.Reason) {
		if expectedBack(reason) {
			place.Reserve(2*h.stream.Retry + 2*time.Second)
		} else {
			place.Release()
		}
	}, nil
}

// expectedBack tells that it was us who have ended the stream, and that its
// client was told to come again.
func expectedBack(reason stream.Reason) bool {
	return reason == stream.Moved || reason == stream.TooOld || reason == stream.FellBehind
}
