package caddysse

import (
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-sse/caddy-sse/stream"
)

var (
	streamsOpen = gauge("streams", "Open streams.", "proto")

	streamsOpened = counter("streams_opened_total", "Streams that have begun, by how they began.", "start")
	streamsEnded  = counter("streams_ended_total", "Streams that have ended, by reason.", "reason")

	eventsSent = counter("events_sent_total", "Events that were sent to clients.")
	bytesSent  = counter("bytes_sent_total", "Bytes that were sent to clients.")

	ruleLag = description("rule_lag_events", "Events that the slowest stream of the rule is behind.")
)

// startNames are the labels of the values of [stream.Start], in their order.
var startNames = []string{"new", "resumed", "reset"}

func startName(s stream.Start) string { return startNames[s] }

// streamMetrics are the metrics of a rule's streams.
type streamMetrics struct {
	id            ruleID
	events, bytes prometheus.Counter
	ended         map[stream.Reason]prometheus.Counter
}

func newStreamMetrics(id ruleID) *streamMetrics {
	for _, start := range startNames {
		id.counter(streamsOpened, start)
	}
	for _, proto := range []string{"1", "2", "3"} {
		streamsOpen.WithLabelValues(id.hub, id.name, proto)
	}
	return &streamMetrics{
		id:     id,
		events: id.counter(eventsSent),
		bytes:  id.counter(bytesSent),
		ended:  counters(streamsEnded, id, stream.Reasons),
	}
}

// opened counts a stream that begins. The caller calls ended when it ends.
func (m *streamMetrics) opened(protoMajor int, start stream.Start) (ended func(stream.Reason)) {
	m.id.counter(streamsOpened, startName(start)).Inc()
	open := streamsOpen.WithLabelValues(m.id.hub, m.id.name, strconv.Itoa(protoMajor))
	open.Inc()
	return func(reason stream.Reason) {
		open.Dec()
		m.ended[reason].Inc()
	}
}

// sentMu guards what sentCollector has counted of each open stream.
var sentMu sync.Mutex

// sentCollector counts what streams have sent: at a scrape, and when a stream ends.
// All streams of a rule share its counters, so that a count for each write would
// make the cores wait for each other.
type sentCollector struct{}

// Describe implements [prometheus.Collector].
func (sentCollector) Describe(ch chan<- *prometheus.Desc) {
	eventsSent.Describe(ch)
	bytesSent.Describe(ch)
}

// Collect implements [prometheus.Collector].
func (sentCollector) Collect(ch chan<- prometheus.Metric) {
	eachStream((*openStream).countSent)
	eventsSent.Collect(ch)
	bytesSent.Collect(ch)
}

// countSent counts what the stream has sent since the last call.
func (o *openStream) countSent() {
	sentMu.Lock()
	defer sentMu.Unlock()
	events, bytes := o.events.Load(), o.bytes.Load()
	o.rule.metrics.events.Add(float64(events - o.countedEvents))
	o.rule.metrics.bytes.Add(float64(bytes - o.countedBytes))
	o.countedEvents, o.countedBytes = events, bytes
}

// lagCollector computes the lag of each rule's slowest stream.
type lagCollector struct{}

// Describe implements [prometheus.Collector].
func (lagCollector) Describe(ch chan<- *prometheus.Desc) { ch <- ruleLag }

// Collect implements [prometheus.Collector].
func (lagCollector) Collect(ch chan<- prometheus.Metric) {
	slowest := make(map[ruleID]uint64)
	eachStreamRule(func(id ruleID) { slowest[id] = 0 })
	eachStream(func(o *openStream) {
		slowest[o.rule.id] = max(slowest[o.rule.id], o.cursor.Lag())
	})
	for id, lag := range slowest {
		ch <- prometheus.MustNewConstMetric(ruleLag, prometheus.GaugeValue, float64(lag), id.hub, id.name)
	}
}

var (
	_ prometheus.Collector = lagCollector{}
	_ prometheus.Collector = sentCollector{}
)
