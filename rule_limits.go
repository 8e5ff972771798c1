package caddysse

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// streamCounts counts the open streams of each rule with max_streams. A count
// outlives the configuration: during a reload a client has a slot in the
// streams of the old configuration or of the new one.
var streamCounts = caddy.NewUsagePool()

// streamCount is one rule's count in the pool.
type streamCount struct{ access.StreamLimiter }

// Destruct implements [caddy.Destructor].
func (*streamCount) Destruct() error { return nil }

// streamLimits enforces max_streams for one rule.
type streamLimits struct {
	*access.Limits
	count *streamCount
	key   string // in the pool
}

// acquireLimits acquires the rule's count. It returns nil
// if there are no limits.
func acquireLimits(r *rule, limits *access.Limits) (*streamLimits, error) {
	if limits == nil {
		return nil, nil
	}
	key := r.limitsKey()
	value, _, err := streamCounts.LoadOrNew(key, func() (caddy.Destructor, error) { return new(streamCount), nil })
	if err != nil {
		return nil, err
	}
	return &streamLimits{limits, value.(*streamCount), key}, nil
}

// release releases the rule's count. Open streams still use it.
func (l *streamLimits) release() error {
	if l == nil {
		return nil
	}
	_, err := streamCounts.Delete(l.key)
	return err
}

// acquire acquires a slot for the stream that a request asks for. The caller
// calls release when the stream has ended, with the reason. A rule without
// limits has slots for all. A multiplexed stream needs one slot of each rule of its
// URLs.
func (s *ruleStreams) acquire(r *http.Request, next caddyhttp.Handler) (release func(stream.Reason), err error) {
	if s.limits == nil {
		return func(stream.Reason) {}, nil
	}
	if p := partOf(r); p != nil {
		return p.stream.slots.acquire(s.limits.count, func() (func(stream.Reason), error) { return s.acquireSlot(r, next) })
	}
	return s.acquireSlot(r, next)
}

func (s *ruleStreams) acquireSlot(r *http.Request, next caddyhttp.Handler) (release func(stream.Reason), err error) {
	viewer := subrequest.New(r, next)
	slot, refused := s.limits.count.AcquireWait(r.Context(), s.limits.Limits, viewer.ClientNetwork(), viewer.User())
	if refused != nil {
		return nil, refused
	}
	return func(reason stream.Reason) {
		if clientReconnects(reason) {
			slot.Reserve(2*s.options.Retry + 2*time.Second)
		} else {
			slot.Release()
		}
	}, nil
}

// clientReconnects reports whether the module has ended the stream so that the
// client reconnects.
func clientReconnects(reason stream.Reason) bool {
	return reason == stream.Moved || reason == stream.MaxAgeReached || reason == stream.URLEnded || reason == stream.FellBehind
}
