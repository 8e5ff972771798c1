package caddysse

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-sse/caddy-sse/access"
)

var (
	authorizeTotal    = counter("authorize_total", "Authorization checks, by result.", "result")
	recheckTotal      = counter("authorize_rechecks_total", "Authorization checks that were repeated for an open stream.")
	authorizeDuration = durations("authorize_duration_seconds", "Duration of authorization checks, including the time until they began.")
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
