package caddysse

import "github.com/prometheus/client_golang/prometheus"

// hubCollector reports the state of the hubs.
type hubCollector struct{}

var (
	hubPublished   = hubDescription("events_published_total", "Events that were published on the hub.")
	hubKept        = hubDescription("events_kept", "Events in the hub's history.")
	hubSubscribers = hubDescription("followers", "Streams on the hub.")
	hubLag         = hubDescription("lag_events", "Events that the slowest stream of the hub is behind.")
	hubFailing     = hubDescription("store_failing", "1 if the hub could not store its newest events, otherwise 0.")
)

func hubDescription(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("caddy", "sse", name), help, []string{"hub"}, nil)
}

// Describe implements [prometheus.Collector].
func (hubCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{hubPublished, hubKept, hubSubscribers, hubLag, hubFailing} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (hubCollector) Collect(ch chan<- prometheus.Metric) {
	for _, h := range hubEntries() {
		failing := 0.0
		if h.Error != "" {
			failing = 1
		}
		ch <- prometheus.MustNewConstMetric(hubPublished, prometheus.CounterValue, float64(h.Published), h.Hub)
		ch <- prometheus.MustNewConstMetric(hubKept, prometheus.GaugeValue, float64(h.Kept), h.Hub)
		ch <- prometheus.MustNewConstMetric(hubSubscribers, prometheus.GaugeValue, float64(h.Subscribers), h.Hub)
		ch <- prometheus.MustNewConstMetric(hubLag, prometheus.GaugeValue, float64(h.Lag), h.Hub)
		ch <- prometheus.MustNewConstMetric(hubFailing, prometheus.GaugeValue, failing, h.Hub)
	}
}

var _ prometheus.Collector = hubCollector{}
