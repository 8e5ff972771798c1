package caddysse

import (
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-sse/caddy-sse/hub"
)

// What there is to see of the hubs: on the admin API and in metrics.

// hubEntry is a hub in the list.
type hubEntry struct {
	Hub string `json:"hub"`
	hub.Stats
}

// listHubs answers GET /sse/hubs with the hubs by name.
func listHubs(w http.ResponseWriter, r *http.Request) error {
	if err := mustGet(r); err != nil {
		return err
	}
	return answerJSON(w, http.StatusOK, map[string][]hubEntry{"hubs": hubEntries()})
}

// health answers GET /sse/health: 200 if every hub could store its newest
// events, or has had none, and 503 with the hubs that could not.
func health(w http.ResponseWriter, r *http.Request) error {
	if err := mustGet(r); err != nil {
		return err
	}
	failing := make(map[string]string)
	for _, h := range hubEntries() {
		if h.Error != "" {
			failing[h.Hub] = h.Error
		}
	}
	if len(failing) > 0 {
		return answerJSON(w, http.StatusServiceUnavailable, map[string]any{"status": "failing", "hubs": failing})
	}
	return answerJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func hubEntries() []hubEntry {
	list := []hubEntry{}
	hubs.Range(func(name, shared any) bool {
		list = append(list, hubEntry{name.(string), shared.(*sharedHub).Stats()})
		return true
	})
	slices.SortFunc(list, func(a, b hubEntry) int { return strings.Compare(a.Hub, b.Hub) })
	return list
}

// hubCollector looks at the hubs when it is asked.
type hubCollector struct{}

var (
	hubPublished = hubDescription("events_published_total", "Events that were ever published on the hub's log.")
	hubKept      = hubDescription("events_kept", "Events that the hub's history holds.")
	hubFollowers = hubDescription("followers", "Streams that follow the hub.")
	hubLag       = hubDescription("lag_events", "How many events the slowest stream is behind.")
	hubFailing   = hubDescription("store_failing", "1 if the hub could not store its newest events, else 0.")
)

func hubDescription(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("caddy", "sse", name), help, []string{"hub"}, nil)
}

// Describe implements [prometheus.Collector].
func (hubCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{hubPublished, hubKept, hubFollowers, hubLag, hubFailing} {
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
		ch <- prometheus.MustNewConstMetric(hubFollowers, prometheus.GaugeValue, float64(h.Followers), h.Hub)
		ch <- prometheus.MustNewConstMetric(hubLag, prometheus.GaugeValue, float64(h.Lag), h.Hub)
		ch <- prometheus.MustNewConstMetric(hubFailing, prometheus.GaugeValue, failing, h.Hub)
	}
}

var _ prometheus.Collector = hubCollector{}
