package telemetry

import "github.com/prometheus/client_golang/prometheus"

// NewBuildCollector returns the metric weir_build_info, which is always 1: its labels say what is running.
func NewBuildCollector(version, commit, object string) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "weir_build_info",
		Help:        "Always 1. The labels are the version, its commit, and the SHA-256 of the kernel object.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit, "object": object},
	}, func() float64 { return 1 })
}
