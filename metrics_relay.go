package caddysse

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-sse/caddy-sse/upstream/relay"
)

var (
	relayRequestsTotal = counter("relay_requests_total", "Requests of relays to the backend that have ended, by result.", "result")
	relayEventsTotal   = counter("relay_events_total", "Events that relays have published.")

	relayRepeatedTotal = counter("relay_repeated_events_total", "Events that standing feeds have sent again after a reconnect, and that were not published again.")

	relayStanding      = description("relay_standing_feeds", "Standing feeds.")
	relayStandingStale = description("relay_standing_stale_feeds", "Standing feeds that fail.")

	relayResponses = description("relay_responses", "Streams of the backend that are read.")
	relayEnded     = description("relay_ended_responses", "Streams of the backend that have ended and can be resumed.")
	relayViewers   = description("relay_viewers", "Streams of relays to clients.")
	relayStale     = description("relay_stale_responses", "Streams of the backend that have broken off and are waiting for a new connection.")
)

// relayMetrics are the metrics of one relay rule.
type relayMetrics struct {
	requests map[relay.Result]prometheus.Counter
	events   prometheus.Counter
}

func newRelayMetrics(id ruleID) *relayMetrics {
	return &relayMetrics{requests: counters(relayRequestsTotal, id, relay.Results), events: id.counter(relayEventsTotal)}
}

// Requested implements [relay.Observer].
func (m *relayMetrics) Requested(r relay.Result) { m.requests[r].Inc() }

// Published implements [relay.Observer].
func (m *relayMetrics) Published(events int) { m.events.Add(float64(events)) }

// Repeated implements [relay.Observer]. Feeds of viewers repeat nothing.
func (m *relayMetrics) Repeated(int) {}

// standingMetrics are the metrics of one rule with standing feeds.
type standingMetrics struct {
	*relayMetrics
	repeated prometheus.Counter
}

func newStandingMetrics(id ruleID) *standingMetrics {
	return &standingMetrics{newRelayMetrics(id), id.counter(relayRepeatedTotal)}
}

// Repeated implements [relay.Observer].
func (m *standingMetrics) Repeated(events int) { m.repeated.Add(float64(events)) }

// standingCollector counts the standing feeds of each rule.
type standingCollector struct{}

// Describe implements [prometheus.Collector].
func (standingCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- relayStanding
	ch <- relayStandingStale
}

// Collect implements [prometheus.Collector].
func (standingCollector) Collect(ch chan<- prometheus.Metric) {
	eachHub(func(hub string, s *sharedHub) {
		for rule, t := range s.standing.Totals() {
			ch <- prometheus.MustNewConstMetric(relayStanding, prometheus.GaugeValue, float64(t.Feeds), hub, rule)
			ch <- prometheus.MustNewConstMetric(relayStandingStale, prometheus.GaugeValue, float64(t.Stale), hub, rule)
		}
	})
}

// relayCollector counts the feeds of each rule.
type relayCollector struct{}

// Describe implements [prometheus.Collector].
func (relayCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{relayResponses, relayEnded, relayViewers, relayStale} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (relayCollector) Collect(ch chan<- prometheus.Metric) {
	eachHub(func(hub string, s *sharedHub) {
		for rule, t := range s.feeds.Totals() {
			for desc, value := range map[*prometheus.Desc]int{relayResponses: t.Running, relayEnded: t.Ended, relayViewers: t.Viewers, relayStale: t.Stale} {
				ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), hub, rule)
			}
		}
	})
}

// Interface guards
var (
	_ prometheus.Collector = relayCollector{}
	_ prometheus.Collector = standingCollector{}
	_ relay.Observer       = (*relayMetrics)(nil)
	_ relay.Observer       = (*standingMetrics)(nil)
)
