package caddysse

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-sse/caddy-sse/upstream/forward"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

var (
	webhooksTotal = counter("webhooks_total", "Received webhooks, by result.", "result")
	forwardsTotal = counter("webhook_forwards_total", "Attempts to forward webhooks in the background, by result.", "result")
	pending       = description("webhooks_pending", "Webhooks that the app has not accepted yet.")
)

// webhookMetrics are the metrics of one webhook rule.
type webhookMetrics struct {
	webhooks map[webhook.Result]prometheus.Counter
	forwards map[forward.Result]prometheus.Counter // nil without forward async
}

func newWebhookMetrics(id ruleID, async bool) *webhookMetrics {
	m := &webhookMetrics{webhooks: counters(webhooksTotal, id, webhook.Results)}
	if async {
		m.forwards = counters(forwardsTotal, id, forward.Results)
	}
	return m
}

// received counts a webhook by its result.
func (m *webhookMetrics) received(r webhook.Result) {
	c := m.webhooks[r]
	if c == nil { // a refusal that is not a webhook's own
		c = m.webhooks[webhook.Unavailable]
	}
	c.Inc()
}

// forwarded counts an attempt to forward a webhook.
func (m *webhookMetrics) forwarded(r forward.Result) { m.forwards[r].Inc() }

// pendingCollector counts the webhooks that the app has not taken yet.
type pendingCollector struct{}

// Describe implements [prometheus.Collector].
func (pendingCollector) Describe(ch chan<- *prometheus.Desc) { ch <- pending }

// Collect implements [prometheus.Collector].
func (pendingCollector) Collect(ch chan<- prometheus.Metric) {
	sums := make(map[ruleID]int)
	eachForwarder(func(id ruleID, f *forward.Forwarder) { sums[id] += f.Pending() })
	for id, n := range sums {
		ch <- prometheus.MustNewConstMetric(pending, prometheus.GaugeValue, float64(n), id.hub, id.name)
	}
}

var _ prometheus.Collector = pendingCollector{}
