package caddysse

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// All metrics are named caddy_sse_*. They continue across reloads. A rule's
// label is its name, so that there are no more series than rules.

// ruleLabels are the labels of a rule's metrics; their values are a [ruleID].
var ruleLabels = []string{"hub", "rule"}

var refusalsTotal = counter("refusals_total", "Requests that the rule itself refused, by status and reason.", "status", "reason")

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

// durations is a histogram of times in seconds.
func durations(name, help string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "caddy", Subsystem: "sse", Name: name, Help: help, Buckets: prometheus.DefBuckets,
	}, ruleLabels)
}

func description(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("caddy", "sse", name), help, ruleLabels, nil)
}

// counter returns the counter of a rule.
func (id ruleID) counter(vec *prometheus.CounterVec, labels ...string) prometheus.Counter {
	return vec.WithLabelValues(append([]string{id.hub, id.name}, labels...)...)
}

// counters returns a rule's counter for each value of a label. All of them are
// zero at first: a series that doesn't exist can't trigger an alert.
func counters[T ~string](vec *prometheus.CounterVec, id ruleID, values []T) map[T]prometheus.Counter {
	all := make(map[T]prometheus.Counter, len(values))
	for _, v := range values {
		all[v] = id.counter(vec, string(v))
	}
	return all
}

// registerMetrics adds the metrics of the hubs, of streams and of all kinds of
// rules to the registry of a configuration.
func registerMetrics(registry *prometheus.Registry) error {
	all := []prometheus.Collector{
		refusalsTotal,
		streamsOpen, streamsOpened, streamsEnded, lagCollector{}, sentCollector{},
		hubCollector{}, appendDuration, appendEvents,
	}
	for _, k := range kinds {
		all = append(all, k.collectors...)
	}
	for _, c := range all {
		if err := registry.Register(c); err != nil && !errors.As(err, new(prometheus.AlreadyRegisteredError)) {
			return err
		}
	}
	return nil
}
