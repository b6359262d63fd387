package collect

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/flow"
)

type metrics struct {
	events []prometheus.Counter // by flow.EndReason
	sweeps prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "weir_flow_events_total",
		Help: "FlowEvents made of the kernel's records, by why the flow was handed over.",
	}, []string{"reason"})
	m := &metrics{
		sweeps: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "weir_sweep_duration_seconds",
			Help:    "How long one walk of the flow map took in the kernel.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 8),
		}),
	}
	for _, reason := range flow.EndReasons() {
		m.events = append(m.events, events.WithLabelValues(reason.String()))
	}
	for _, collector := range []prometheus.Collector{events, m.sweeps} {
		if err := reg.Register(collector); err != nil {
			return nil, fmt.Errorf("register the collector's metrics: %w", err)
		}
	}
	return m, nil
}
