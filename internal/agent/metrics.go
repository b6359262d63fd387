package agent

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/datapath"
)

// metrics are those of attaching, in all network namespaces together.
type metrics struct {
	attached *prometheus.GaugeVec // by hook and mode
	refused  *prometheus.GaugeVec // by reason
	lost     prometheus.Counter
	failed   prometheus.Counter
	removed  prometheus.Counter

	namespaces       prometheus.Gauge
	namespacesFailed prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		attached: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_attached_interfaces",
			Help: "Interfaces that a program is attached to, by hook and by how it is attached.",
		}, []string{"hook", "mode"}),
		refused: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "weir_xdp_refused_interfaces",
			Help: "Interfaces that are counted by tc because XDP was not possible or not sensible, by reason.",
		}, []string{"reason"}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_interfaces_lost_total",
			Help: "Interfaces that went away while a program was attached to them.",
		}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_attach_failures_total",
			Help: "Tries to attach to an interface, in vain; it is tried again.",
		}),
		removed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_attachments_removed_total",
			Help: "Programs that somebody else removed from an interface; they are attached again.",
		}),
		namespaces: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "weir_watched_namespaces",
			Help: "Network namespaces that are watched beside the agent's own.",
		}),
		namespacesFailed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_namespace_failures_total",
			Help: "Tries to watch a network namespace, in vain.",
		}),
	}
	for _, side := range []datapath.Side{datapath.Ingress, datapath.Egress} {
		for _, mode := range datapath.Modes() {
			m.attached.WithLabelValues(string(side), string(mode)).Set(0)
		}
	}
	for _, reason := range datapath.Refusals() {
		m.refused.WithLabelValues(string(reason)).Set(0)
	}
	for _, collector := range []prometheus.Collector{
		m.attached, m.refused, m.lost, m.failed, m.removed, m.namespaces, m.namespacesFailed,
	} {
		if err := reg.Register(collector); err != nil {
			return nil, fmt.Errorf("register the metrics of attaching: %w", err)
		}
	}
	return m, nil
}

// count adds an attachment, or takes it off with -1.
func (m *metrics) count(at *datapath.Attachment, n float64) {
	m.attached.WithLabelValues(string(at.Side), string(at.Mode)).Add(n)
	if at.Refused != "" {
		m.refused.WithLabelValues(string(at.Refused)).Add(n)
	}
}
