package collect

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/flow"
)

type metrics struct {
	events []prometheus.Counter // by flow.EndReason
	sweeps prometheus.Histogram

	level         prometheus.Gauge
	occupancy     prometheus.Gauge
	pressedSweeps prometheus.Counter
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
		level: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "weir_pressure_level",
			Help: "How far idle timeouts are shortened because the flow map fills; 0 is not at all.",
		}),
		occupancy: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "weir_map_occupancy_ratio",
			Help: "Connections in the flow map, of those that it was made for, at the last look.",
		}),
		pressedSweeps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_pressure_sweeps_total",
			Help: "Walks of the flow map that came sooner because it was too full.",
		}),
	}
	for _, reason := range flow.EndReasons() {
		m.events = append(m.events, events.WithLabelValues(reason.String()))
	}
	for _, collector := range []prometheus.Collector{events, m.sweeps, m.level, m.occupancy, m.pressedSweeps} {
		if err := reg.Register(collector); err != nil {
			return nil, fmt.Errorf("register the collector's metrics: %w", err)
		}
	}
	return m, nil
}
