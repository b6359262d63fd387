package identify

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/flow"
	"weir/internal/tracker"
)

type metrics struct {
	fingerprints []prometheus.Counter // by flow.Method
	anomalies    map[string]prometheus.Counter
	malformed    prometheus.Counter
	noRoom       prometheus.Counter
	tracked      prometheus.Gauge
	evicted      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	fingerprints := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_fingerprints_total",
		Help: "Fingerprints made, by method.",
	}, []string{"method"})
	anomalies := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_anomalies_total",
		Help: "Anomalies found, by rule, once per connection.",
	}, []string{"rule"})
	failures := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_fingerprint_failures_total",
		Help: "Fingerprints that could not be made of samples, by reason.",
	}, []string{"reason"})
	m := &metrics{
		anomalies: map[string]prometheus.Counter{},
		malformed: failures.WithLabelValues("malformed"),
		noRoom:    failures.WithLabelValues("no_room"),
		tracked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "weir_tracked_connections",
			Help: "Connections of which fingerprints, or what they are made of, are in memory.",
		}),
		evicted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_tracked_connections_evicted_total",
			Help: "Connections of which fingerprints were forgotten before their end, for age or for want of room.",
		}),
	}
	for _, method := range flow.Methods() {
		if method.Hashed() != method {
			m.fingerprints = append(m.fingerprints, nil)
			continue
		}
		m.fingerprints = append(m.fingerprints, fingerprints.WithLabelValues(method.String()))
	}
	for _, rule := range tracker.Rules() {
		m.anomalies[rule] = anomalies.WithLabelValues(rule)
	}
	for _, collector := range []prometheus.Collector{fingerprints, anomalies, failures, m.tracked, m.evicted} {
		if err := reg.Register(collector); err != nil {
			return nil, fmt.Errorf("register the metrics of fingerprints: %w", err)
		}
	}
	return m, nil
}
