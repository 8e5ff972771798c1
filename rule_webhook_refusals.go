package caddysse

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-sse/caddy-sse/internal/loglimit"
	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/jq"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

const (
	// maxRefusals is how many refusals a rule's log holds.
	maxRefusals = 100
	// maxRefusalText is how many bytes a text of a refusal may have.
	maxRefusalText = 300
)

// refusalEntry is a webhook that a rule has refused. The path and the reason's
// quotes of the payload's structure are the only text of the sender in it.
type refusalEntry struct {
	Hub    string `json:"hub"`
	Rule   string `json:"rule"`
	Sender string `json:"sender"`
	// Client is the sender's address, as [clientIP] returns it.
	Client string `json:"client"`
	Method string `json:"method"`
	Path   string `json:"path"`
	Status int    `json:"status"`
	// Kind is the refusal's label in the metrics.
	Kind webhook.Result `json:"kind"`
	// Reason is the reason that the sender received, Detail is for the operator.
	Reason string `json:"reason"`
	Detail string `json:"detail,omitempty"`
	// Count is how often the refusal has occurred, from First to Last.
	Count int       `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// repeats reports whether two entries are occurrences of the same refusal.
func (e *refusalEntry) repeats(other *refusalEntry) bool {
	return e.Client == other.Client && e.Kind == other.Kind && e.Reason == other.Reason &&
		e.Path == other.Path && e.Method == other.Method && e.Sender == other.Sender
}

// refusalLog holds the last refusals of a rule. A refusal that repeats has one
// entry, so that a sender which tries again and again doesn't displace others.
type refusalLog struct {
	mu       sync.Mutex
	entries  []refusalEntry // the newest last
	limiters map[webhook.Result]*loglimit.Limiter
}

func newRefusalLog() *refusalLog {
	return &refusalLog{limiters: make(map[webhook.Result]*loglimit.Limiter)}
}

// add adds a refusal. It reports whether the refusal should be logged, and how
// many of its kind were not since the last one that was.
func (l *refusalLog) add(e refusalEntry) (suppressed int, log bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Count, e.First = 1, e.Last
	if i := slices.IndexFunc(l.entries, func(o refusalEntry) bool { return o.repeats(&e) }); i >= 0 {
		e.Count, e.First = l.entries[i].Count+1, l.entries[i].First
		l.entries = slices.Delete(l.entries, i, i+1)
	} else if len(l.entries) == maxRefusals {
		l.entries = slices.Delete(l.entries, 0, 1)
	}
	l.entries = append(l.entries, e)

	limiter := l.limiters[e.Kind]
	if limiter == nil {
		limiter = new(loglimit.Limiter)
		l.limiters[e.Kind] = limiter
	}
	return limiter.Allow(e.Last)
}

func (l *refusalLog) list() []refusalEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// refuse responds with a refusal and records it for the operator.
func (h *webhookRule) refuse(w http.ResponseWriter, r *http.Request, err error) error {
	h.recordRefusal(r, err)
	return h.refuseAs(w, r, err, func(refused *refusal.Error) string { return string(webhook.ResultOf(refused)) })
}

// recordRefusal counts a refusal, adds it to the rule's log for the admin API,
// and logs it unless one of its kind was logged within the last minute.
func (h *webhookRule) recordRefusal(r *http.Request, err error) {
	kind := webhook.ResultOf(err)
	h.metrics.received(kind)
	e := h.refusalEntry(r, kind, err)
	suppressed, log := h.hub.refusalLog(h.id.name).add(e)
	if !log {
		return
	}
	h.log.Warn("webhook refused", zap.String("hub", e.Hub), zap.String("rule", e.Rule), zap.String("sender", e.Sender),
		zap.String("client", e.Client), zap.String("path", e.Path), zap.Int("status", e.Status), zap.String("kind", string(kind)),
		zap.String("reason", e.Reason), zap.String("detail", e.Detail), zap.Int("not_logged_since", suppressed))
}

func (h *webhookRule) refusalEntry(r *http.Request, kind webhook.Result, err error) refusalEntry {
	e := refusalEntry{
		Hub: h.id.hub, Rule: h.id.name, Sender: h.Verify.Sender, Client: clientIP(r),
		Method: truncate(r.Method), Path: truncate(r.URL.Path), Kind: kind, Last: time.Now(),
	}
	var refused *refusal.Error
	if errors.As(err, &refused) {
		e.Status, e.Reason, e.Detail = refused.Status, truncate(refused.Reason), truncate(refused.Detail)
	}
	if errors.Is(err, jq.ErrFailed) { // the reason may quote the payload
		field, _, _ := strings.Cut(e.Reason, ":")
		e.Reason = field + ": the program failed on the payload"
	}
	return e
}

// truncate limits the length of a text that the sender has a part in.
func truncate(s string) string { return refusal.Shorten(s, maxRefusalText) }
