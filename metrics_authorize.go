package caddysse

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-sse/caddy-sse/access"
)

var (
	authorizeTotal    = counter("authorize_total", "Questions of authorize, by what they have come to.", "result")
	recheckTotal      = counter("authorize_rechecks_total", "How often the backend was asked again about a stream that is open.")
	authorizeDuration = durations("authorize_duration_seconds", "How long questions of authorize took, and waited for their turn.")
)

// authorizeMetrics are the metrics of one rule's authorization checks.
type authorizeMetrics struct {
	outcomes map[access.Outcome]prometheus.Counter
	duration prometheus.Observer
	rechecks prometheus.Counter
}

func newAuthorizeMetrics(id ruleID) *authorizeMetrics {
	return &authorizeMetrics{
		outcomes: counters(authorizeTotal, id, access.Outcomes),
		duration: authorizeDuration.WithLabelValues(id.hub, id.name),
		rechecks: id.counter(recheckTotal),
	}
}

// Checked implements [access.Observer].
func (m *authorizeMetrics) Checked(o access.Outcome, took time.Duration) {
	m.outcomes[o].Inc()
	if o != access.Coalesced {
		m.duration.Observe(took.Seconds())
	}
}

// Rechecked implements [access.Observer].
func (m *authorizeMetrics) Rechecked() { m.rechecks.Inc() }

var _ access.Observer = (*authorizeMetrics)(nil)
