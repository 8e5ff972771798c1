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
	// maxRefusals is how many refusals of a rule are kept.
	maxRefusals = 100
	// refusalPause is how often a rule's refusals of one kind are logged.
	// maxNoted is how long a text of a refusal may be.
	maxNoted = 300
)

// refusalEntry is why a webhook was refused. Of what the sender wrote it holds
// the path, and what a reason quotes of the payload's structure.
type refusalEntry struct {
	Hub    string `json:"hub"`
	Rule   string `json:"rule"`
	Sender string `json:"sender"`
	// Client is the address that it came from, as far as proxies are trusted
	// to know it.
	Client string `json:"client"`
	Method string `json:"method"`
	Path   string `json:"path"`
	Status int    `json:"status"`
	// Kind is what the refusal counts as in the metrics.
	Kind webhook.Result `json:"kind"`
	// Reason is what the sender was told, Detail what more there is to it.
	Reason string `json:"reason"`
	Detail string `json:"detail,omitempty"`
	// Count is how often this has happened in a row, from First to Last.
	Count int       `json:"count"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// isLike tells whether two are the same again.
func (e *refusalEntry) isLike(other *refusalEntry) bool {
	return e.Client == other.Client && e.Kind == other.Kind && e.Reason == other.Reason &&
		e.Path == other.Path && e.Method == other.Method && e.Sender == other.Sender
}

// refusalLog is the last refusals of a rule. One that repeats takes the place
// of one only, so that a sender which tries again and again doesn't push out
// what else there was.
type refusalLog struct {
	mu      sync.Mutex
	entries []refusalEntry // the newest last
	lines   map[webhook.Result]*loglimit.Limiter
}

// refusalLogs are by rule. Like its metrics, a rule's outlives configurations.
var refusalLogs struct {
	sync.Mutex
	byRule map[ruleID]*refusalLog
}

func refusalLogOf(rule ruleID) *refusalLog {
	refusalLogs.Lock()
	defer refusalLogs.Unlock()
	if refusalLogs.byRule == nil {
		refusalLogs.byRule = make(map[ruleID]*refusalLog)
	}
	l := refusalLogs.byRule[rule]
	if l == nil {
		l = &refusalLog{lines: make(map[webhook.Result]*loglimit.Limiter)}
		refusalLogs.byRule[rule] = l
	}
	return l
}

// add keeps a refusal, and tells how many of its kind were not logged since the
// last that was, and whether this one is to be.
func (l *refusalLog) add(e refusalEntry) (since int, log bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e.Count, e.First = 1, e.Last
	if i := slices.IndexFunc(l.entries, func(o refusalEntry) bool { return o.isLike(&e) }); i >= 0 {
		e.Count, e.First = l.entries[i].Count+1, l.entries[i].First
		l.entries = slices.Delete(l.entries, i, i+1)
	} else if len(l.entries) == maxRefusals {
		l.entries = slices.Delete(l.entries, 0, 1)
	}
	l.entries = append(l.entries, e)

	line := l.lines[e.Kind]
	if line == nil {
		line = new(loglimit.Limiter)
		l.lines[e.Kind] = line
	}
	return line.Allow(e.Last)
}

func (l *refusalLog) list() []refusalEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// noteRefusal counts a refusal of a webhook, keeps it for the admin API and
// logs it unless one of its kind was logged a moment ago.
func (h *Handler) noteRefusal(r *http.Request, err error) {
	kind := webhook.ResultOf(err)
	h.metrics.received(kind)
	e := refusalEntry{
		Hub: h.metrics.rule.hub, Rule: h.metrics.rule.name, Sender: h.Webhook.Verify.Sender,
		Method: short(r.Method), Path: short(r.URL.Path), Kind: kind, Last: time.Now(),
	}
	e.Client = clientIP(r)
	var refused *refusal.Error
	if errors.As(err, &refused) {
		e.Status, e.Reason, e.Detail = refused.Status, short(refused.Reason), short(refused.Detail)
	}
	if errors.Is(err, jq.ErrFailed) { // it may quote the payload
		field, _, _ := strings.Cut(e.Reason, ":")
		e.Reason = field + ": the program failed on the payload"
	}
	since, log := refusalLogOf(h.metrics.rule).add(e)
	if !log {
		return
	}
	h.log.Warn("webhook refused", zap.String("hub", e.Hub), zap.String("rule", e.Rule), zap.String("sender", e.Sender),
		zap.String("client", e.Client), zap.String("path", e.Path), zap.Int("status", e.Status), zap.String("kind", string(kind)),
		zap.String("reason", e.Reason), zap.String("detail", e.Detail), zap.Int("not_logged_since", since))
}

// short bounds a text that a stranger has a part in.
func short(s string) string {
	if len(s) <= maxNoted {
		return s
	}
	return strings.ToValidUTF8(s[:maxNoted], "") + "…"
}

// refusalList is what GET /sse/refusals answers.
type refusalList struct {
	Total    int            `json:"total"` // of those that match
	Refusals []refusalEntry `json:"refusals"`
}

// listRefusals answers with the webhooks that were refused, the last first:
// those of ?hub=, ?rule=, ?kind=, ?sender= and ?client=, at most ?limit= of
// them, 1000 unless it says otherwise.
func listRefusals(w http.ResponseWriter, r *http.Request) error {
	limit, err := checkListing(r)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	list := refusalList{Refusals: []refusalEntry{}}
	for _, e := range allRefusals() {
		if wanted(query, "hub", e.Hub) && wanted(query, "rule", e.Rule) && wanted(query, "kind", string(e.Kind)) &&
			wanted(query, "sender", e.Sender) && wanted(query, "client", e.Client) {
			list.Refusals = append(list.Refusals, e)
		}
	}
	slices.SortStableFunc(list.Refusals, func(a, b refusalEntry) int { return b.Last.Compare(a.Last) })
	list.Total = len(list.Refusals)
	list.Refusals = list.Refusals[:min(limit, len(list.Refusals))]
	return answerJSON(w, http.StatusOK, list)
}

func allRefusals() (all []refusalEntry) {
	refusalLogs.Lock()
	defer refusalLogs.Unlock()
	for _, l := range refusalLogs.byRule {
		all = append(all, l.list()...)
	}
	return all
}
