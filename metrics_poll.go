package caddysse

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

var (
	pollsTotal     = counter("polls_total", "Polls of the backend, by result.", "result")
	pollSavedBytes = counter("poll_saved_bytes_total", "Bytes saved by sending changes instead of whole documents.")
	absorbedTotal  = counter("absorbed_requests_total", "Ordinary requests that were answered from the last poll.")
	pollDuration   = durations("poll_duration_seconds", "Duration of polls, including the time until they began.")

	pollViews      = description("poll_views", "Polled views.")
	pollViewers    = description("poll_viewers", "Streams of polled documents.")
	pollStaleViews = description("poll_stale_views", "Views whose backend fails.")
	pollStaleness  = description("poll_staleness_seconds", "Age of the oldest document that viewers have.")
)

// pollMetrics are the metrics of one poll rule.
type pollMetrics struct {
	polls                map[poll.Result]prometheus.Counter
	savedBytes, absorbed prometheus.Counter
	duration             prometheus.Observer
}

func newPollMetrics(id ruleID) *pollMetrics {
	return &pollMetrics{
		polls:      counters(pollsTotal, id, poll.Results),
		savedBytes: id.counter(pollSavedBytes),
		absorbed:   id.counter(absorbedTotal),
		duration:   pollDuration.WithLabelValues(id.hub, id.name),
	}
}

// Polled implements [poll.Observer].
func (m *pollMetrics) Polled(r poll.Result, took time.Duration) {
	m.polls[r].Inc()
	m.duration.Observe(took.Seconds())
}

// Saved implements [poll.Observer].
func (m *pollMetrics) Saved(bytes int64) { m.savedBytes.Add(float64(bytes)) }

// Absorbed implements [poll.Observer].
func (m *pollMetrics) Absorbed() { m.absorbed.Inc() }

// viewCollector counts the views of each rule.
type viewCollector struct{}

// Describe implements [prometheus.Collector].
func (viewCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{pollViews, pollViewers, pollStaleViews, pollStaleness} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (viewCollector) Collect(ch chan<- prometheus.Metric) {
	for id, t := range pollTotals() {
		for _, m := range []struct {
			desc  *prometheus.Desc
			value float64
		}{
			{pollViews, float64(t.Views)},
			{pollViewers, float64(t.Viewers)},
			{pollStaleViews, float64(t.Stale)},
			{pollStaleness, t.Oldest.Seconds()},
		} {
			ch <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, m.value, id.hub, id.name)
		}
	}
}

// pollTotals sums up the views of each rule, including those of earlier
// configurations.
func pollTotals() map[ruleID]poll.Totals {
	totals := make(map[ruleID]poll.Totals)
	eachPoller(func(id ruleID, p *poll.Poller) {
		sum, more := totals[id], p.Totals()
		sum.Views += more.Views
		sum.Viewers += more.Viewers
		sum.Stale += more.Stale
		sum.Oldest = max(sum.Oldest, more.Oldest)
		totals[id] = sum
	})
	return totals
}

// Interface guards
var (
	_ prometheus.Collector = viewCollector{}
	_ poll.Observer        = (*pollMetrics)(nil)
)
