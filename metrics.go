package caddysse

import (
	"cmp"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/upstream/forward"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// The metrics, all named caddy_sse_*. They count on across reloads. A rule's
// label is its name, so that there are no more series than rules.
var (
	streams = gauge("streams", "Open streams.", "proto")

	streamsOpened = counter("streams_opened_total", "Streams that have begun, by how.", "start")
	streamsEnded  = counter("streams_ended_total", "Streams that have ended, by why.", "reason")
	refusals      = counter("refusals_total", "Requests that the rule itself has refused, by status and reason.", "status", "reason")

	eventsSent = counter("events_sent_total", "Events that were sent to clients.")
	bytesSent  = counter("bytes_sent_total", "Bytes that were sent to clients.")
	webhooks   = counter("webhooks_total", "Webhooks that were received, by what has become of them.", "result")

	polls        = counter("polls_total", "Requests to the backend, by what they have come to.", "result")
	savedBytes   = counter("poll_saved_bytes_total", "Bytes that viewers were not sent, since changes were told and not whole documents.")
	absorbed     = counter("absorbed_requests_total", "Ordinary requests that were answered from the last poll.")
	pollDuration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "sse",
		Name:    "poll_duration_seconds",
		Help:    "How long requests to the backend took, and waited for their turn.",
		Buckets: prometheus.DefBuckets,
	}, ruleLabels)

	questions        = counter("authorize_total", "Questions of authorize, by what they have come to.", "result")
	rechecks         = counter("authorize_rechecks_total", "How often the backend was asked again about a stream that is open.")
	questionDuration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "sse",
		Name:    "authorize_duration_seconds",
		Help:    "How long questions of authorize took, and waited for their turn.",
		Buckets: prometheus.DefBuckets,
	}, ruleLabels)

	pollViews   = description("poll_views", "Views that are polled.")
	pollViewers = description("poll_viewers", "Streams that watch views.")
	staleViews  = description("poll_stale_views", "Views whose backend fails.")
	staleness   = description("poll_staleness_seconds", "Age of the oldest answer of the backend that viewers have.")
)

var ruleLabels = []string{"hub", "rule"}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy", Subsystem: "sse", Name: name, Help: help,
	}, append(ruleLabels, labels...))
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "caddy", Subsystem: "sse", Name: name, Help: help,
	}, append(ruleLabels, labels...))
}

func description(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("caddy", "sse", name), help, ruleLabels, nil)
}

// registerMetrics adds the metrics to the registry of a configuration.
func registerMetrics(registry *prometheus.Registry) error {
	for _, c := range []prometheus.Collector{
		streams, streamsOpened, streamsEnded, lagCollector{}, eventsSent, bytesSent,
		refusals, questions, rechecks, questionDuration,
		webhooks, forwards, pendingCollector{},
		polls, pollDuration, savedBytes, absorbed, viewCollector{},
		hubCollector{}, appendDuration, appendEvents,
	} {
		if err := registry.Register(c); err != nil && !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
			return err
		}
	}
	return nil
}

// ruleLag is how far the slowest stream of each rule is behind.
var ruleLag = description("rule_lag_events", "How many events the slowest stream of the rule is behind.")

// lagCollector looks at the streams when it is asked.
type lagCollector struct{}

// Describe implements [prometheus.Collector].
func (lagCollector) Describe(ch chan<- *prometheus.Desc) { ch <- ruleLag }

// Collect implements [prometheus.Collector].
func (lagCollector) Collect(ch chan<- prometheus.Metric) {
	slowest := make(map[ruleID]uint64)
	watchedRules.Range(func(rule, _ any) bool {
		slowest[rule.(ruleID)] = 0
		return true
	})
	eachStream(func(o *openStream) {
		rule := o.rule.metrics.rule
		slowest[rule] = max(slowest[rule], o.cursor.Lag())
	})
	for rule, lag := range slowest {
		ch <- prometheus.MustNewConstMetric(ruleLag, prometheus.GaugeValue, float64(lag), rule.hub, rule.name)
	}
}

// viewCollector counts the views when it is asked.
type viewCollector struct{}

// Describe implements [prometheus.Collector].
func (viewCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{pollViews, pollViewers, staleViews, staleness} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (viewCollector) Collect(ch chan<- prometheus.Metric) {
	for rule, t := range pollTotals() {
		for _, m := range []struct {
			desc  *prometheus.Desc
			value float64
		}{
			{pollViews, float64(t.Views)},
			{pollViewers, float64(t.Viewers)},
			{staleViews, float64(t.Stale)},
			{staleness, t.Oldest.Seconds()},
		} {
			ch <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, m.value, rule.hub, rule.name)
		}
	}
}

// ruleID is what a rule is called among all.
type ruleID struct{ hub, name string }

// pollTotals are sums over the views of each rule, those of earlier
// configurations too.
func pollTotals() map[ruleID]poll.Totals {
	totals := make(map[ruleID]poll.Totals)
	eachPoller(func(rule ruleID, p *poll.Poller) {
		sum, more := totals[rule], p.Totals()
		sum.Views += more.Views
		sum.Viewers += more.Viewers
		sum.Stale += more.Stale
		sum.Oldest = max(sum.Oldest, more.Oldest)
		totals[rule] = sum
	})
	return totals
}

// ruleMetrics are the metrics of one rule.
type ruleMetrics struct {
	rule ruleID

	events, bytes prometheus.Counter
	polls         map[poll.Result]prometheus.Counter

	webhooks map[webhook.Result]prometheus.Counter
	forwards map[forward.Result]prometheus.Counter

	took            prometheus.Observer
	saved, absorbed prometheus.Counter

	questions  map[access.Outcome]prometheus.Counter
	askingTook prometheus.Observer
	rechecks   prometheus.Counter
}

// name is what the rule is called; by its kind if it has no name.
func (h *Handler) name() string {
	kind := "topic"
	switch {
	case h.Poll != nil:
		kind = "poll"
	case h.Webhook != nil:
		kind = "webhook"
	case h.Publish != nil:
		kind = "publish"
	}
	return cmp.Or(h.Name, kind)
}

// metricsOf returns a rule's metrics, all of them at zero at first: what is not
// there can't be watched.
func metricsOf(h *Handler) *ruleMetrics {
	m := &ruleMetrics{rule: ruleID{h.hubName(), h.name()}}
	m.events = eventsSent.WithLabelValues(m.rule.hub, m.rule.name)
	m.bytes = bytesSent.WithLabelValues(m.rule.hub, m.rule.name)
	if h.hasStreams() {
		m.addStreams()
	}
	if h.Webhook != nil {
		m.webhooks = make(map[webhook.Result]prometheus.Counter)
		for _, r := range webhook.Results {
			m.webhooks[r] = webhooks.WithLabelValues(m.rule.hub, m.rule.name, string(r))
		}
	}
	if h.Webhook != nil && h.Webhook.Forward == webhook.ForwardAsync {
		m.forwards = make(map[forward.Result]prometheus.Counter)
		for _, r := range forward.Results {
			m.forwards[r] = forwards.WithLabelValues(m.rule.hub, m.rule.name, string(r))
		}
	}
	if h.Authorize != nil {
		m.addQuestions()
	}
	if h.Poll == nil {
		return m
	}
	m.polls = make(map[poll.Result]prometheus.Counter)
	for _, r := range poll.Results {
		m.polls[r] = polls.WithLabelValues(m.rule.hub, m.rule.name, string(r))
	}
	m.took = pollDuration.WithLabelValues(m.rule.hub, m.rule.name)
	m.saved = savedBytes.WithLabelValues(m.rule.hub, m.rule.name)
	m.absorbed = absorbed.WithLabelValues(m.rule.hub, m.rule.name)
	return m
}

func (m *ruleMetrics) addQuestions() {
	m.questions = make(map[access.Outcome]prometheus.Counter)
	for _, o := range access.Outcomes {
		m.questions[o] = questions.WithLabelValues(m.rule.hub, m.rule.name, string(o))
	}
	m.askingTook = questionDuration.WithLabelValues(m.rule.hub, m.rule.name)
	m.rechecks = rechecks.WithLabelValues(m.rule.hub, m.rule.name)
}

// Asked implements [access.Observer].
func (m *ruleMetrics) Asked(o access.Outcome, took time.Duration) {
	m.questions[o].Inc()
	if o != access.Coalesced {
		m.askingTook.Observe(took.Seconds())
	}
}

// Rechecked implements [access.Observer].
func (m *ruleMetrics) Rechecked() { m.rechecks.Inc() }

// received counts what has become of a webhook.
func (m *ruleMetrics) received(r webhook.Result) {
	c := m.webhooks[r]
	if c == nil { // a kind of refusal that is no webhook's
		c = m.webhooks[webhook.Unavailable]
	}
	c.Inc()
}

// forwarded counts an attempt to pass one on.
func (m *ruleMetrics) forwarded(r forward.Result) { m.forwards[r].Inc() }

// Polled implements [poll.Observer].
func (m *ruleMetrics) Polled(r poll.Result, took time.Duration) {
	m.polls[r].Inc()
	m.took.Observe(took.Seconds())
}

// Saved implements [poll.Observer].
func (m *ruleMetrics) Saved(bytes int64) { m.saved.Add(float64(bytes)) }

// Absorbed implements [poll.Observer].
func (m *ruleMetrics) Absorbed() { m.absorbed.Inc() }

// Sent counts what a stream has sent.
func (m *ruleMetrics) Sent(events int, bytes int64) {
	m.events.Add(float64(events))
	m.bytes.Add(float64(bytes))
}

// opened counts a stream in, and out when the function that it returns is called.
func (m *ruleMetrics) opened(protoMajor int, start stream.Start) (ended func(stream.Reason)) {
	streamsOpened.WithLabelValues(m.rule.hub, m.rule.name, startName(start)).Inc()
	open := streams.WithLabelValues(m.rule.hub, m.rule.name, strconv.Itoa(protoMajor))
	open.Inc()
	return func(reason stream.Reason) {
		open.Dec()
		streamsEnded.WithLabelValues(m.rule.hub, m.rule.name, string(reason)).Inc()
	}
}

// starts are what the ways to begin a stream are called, in their order.
var starts = []string{"new", "resumed", "reset"}

func startName(s stream.Start) string { return starts[s] }

// watchedRules are the rules that have, or had, streams.
var watchedRules sync.Map

// addStreams makes the metrics of the rule's streams.
func (m *ruleMetrics) addStreams() {
	watchedRules.Store(m.rule, nil)
	for _, start := range starts {
		streamsOpened.WithLabelValues(m.rule.hub, m.rule.name, start)
	}
	for _, reason := range stream.Reasons {
		streamsEnded.WithLabelValues(m.rule.hub, m.rule.name, string(reason))
	}
	for _, proto := range []string{"1", "2", "3"} {
		streams.WithLabelValues(m.rule.hub, m.rule.name, proto)
	}
}

func (m *ruleMetrics) refused(status int, kind string) {
	refusals.WithLabelValues(m.rule.hub, m.rule.name, strconv.Itoa(status), kind).Inc()
}

// Interface guards
var (
	_ prometheus.Collector = viewCollector{}
	_ prometheus.Collector = lagCollector{}
	_ poll.Observer        = (*ruleMetrics)(nil)
	_ access.Observer      = (*ruleMetrics)(nil)
)
