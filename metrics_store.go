package caddysse

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-sse/caddy-sse/store"
)

var (
	appendDuration = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "sse",
		Name:    "store_append_duration_seconds",
		Help:    "Duration of appends to the store; for a file, until the events were on the disk.",
		Buckets: []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"hub"})
	appendEvents = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "sse",
		Name:    "store_append_events",
		Help:    "Events per append to the store, which concurrent publishers share.",
		Buckets: []float64{0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000},
	}, []string{"hub"})
)

// storeWithMetrics measures the appends to a store, also those that fail.
type storeWithMetrics struct {
	store.Store
	took, events prometheus.Observer
}

func withMetrics(hub string, s store.Store) store.Store {
	if shared, ok := s.(store.Shared); ok {
		return sharedWithMetrics{shared, appendDuration.WithLabelValues(hub), appendEvents.WithLabelValues(hub)}
	}
	return storeWithMetrics{s, appendDuration.WithLabelValues(hub), appendEvents.WithLabelValues(hub)}
}

// Append implements [store.Store].
func (s storeWithMetrics) Append(entries []*store.Entry, records []store.IdempotencyRecord) error {
	began := time.Now()
	defer func() {
		s.took.Observe(time.Since(began).Seconds())
		s.events.Observe(float64(len(entries)))
	}()
	return s.Store.Append(entries, records)
}

// sharedWithMetrics measures what this process publishes on a shared log.
type sharedWithMetrics struct {
	store.Shared
	took, events prometheus.Observer
}

// Publish implements [store.Shared].
func (s sharedWithMetrics) Publish(propose func() []*store.Proposal) error {
	began, events := time.Now(), 0
	defer func() {
		s.took.Observe(time.Since(began).Seconds())
		s.events.Observe(float64(events))
	}()
	return s.Shared.Publish(func() []*store.Proposal {
		proposals, n := propose(), 0
		for _, p := range proposals {
			n += len(p.Events)
		}
		events = max(events, n)
		return proposals
	})
}
