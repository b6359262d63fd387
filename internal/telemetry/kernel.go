package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/flow"
)

// Kernel is what the kernel's counters are read from, at every scrape.
type Kernel interface {
	Ledger() (flow.Ledger, error)
	Capacity() uint32
}

// kernelCollector exposes the ledger, and the books as of the last sweep.
type kernelCollector struct {
	kernel Kernel
	audit  func() flow.Audit

	seen, uncounted, counted, exported, evicted   packetsAndBytes
	inserts, evictions, capacity, ringDrops       *prometheus.Desc
	notUnwrapped, samples, samplesDropped         *prometheus.Desc
	residentFlows, residentPackets, residentBytes *prometheus.Desc
	unaccountedPackets, unaccountedBytes          *prometheus.Desc
}

// packetsAndBytes describes a pair of counters.
type packetsAndBytes struct{ packets, bytes *prometheus.Desc }

// NewKernelCollector returns a Prometheus collector of the kernel's counters.
func NewKernelCollector(kernel Kernel, audit func() flow.Audit) prometheus.Collector {
	return &kernelCollector{
		kernel:    kernel,
		audit:     audit,
		seen:      describePair("seen", "that a hook saw", "hook"),
		uncounted: describePair("uncounted", "that were seen and not counted in a flow, by reason", "reason"),
		counted:   describePair("counted", "that were counted in a flow"),
		exported:  describePair("exported", "of the flows that the kernel handed over"),
		evicted:   describePair("evicted", "that evicted flows took with them"),
		inserts: prometheus.NewDesc("weir_flow_inserts_total",
			"Connections entered in the flow map.", nil, nil),
		evictions: prometheus.NewDesc("weir_flow_evictions_total",
			"Connections that made room for others in the full flow map before they were handed over.", nil, nil),
		residentFlows: prometheus.NewDesc("weir_resident_flows",
			"Connections in the flow map at the last sweep.", nil, nil),
		residentPackets: prometheus.NewDesc("weir_resident_packets",
			"Packets counted in the flow map and not yet handed over, at the last sweep.", nil, nil),
		residentBytes: prometheus.NewDesc("weir_resident_bytes",
			"Layer 2 bytes counted in the flow map and not yet handed over, at the last sweep.", nil, nil),
		capacity: prometheus.NewDesc("weir_map_capacity_flows",
			"Connections that the flow map is made for: with so many in it, hardly one was evicted; up to a quarter more fit.", nil, nil),
		unaccountedPackets: prometheus.NewDesc("weir_unaccounted_packets",
			"Counted packets that were neither handed over, nor in the map, nor evicted, at the last sweep. Must be 0.",
			nil, nil),
		unaccountedBytes: prometheus.NewDesc("weir_unaccounted_bytes",
			"Counted bytes that were neither handed over, nor in the map, nor evicted, at the last sweep. Must be 0.",
			nil, nil),
		ringDrops: prometheus.NewDesc("weir_ring_drops_total",
			"Times that a ring to user space was full. No flow is lost: the sweep hands it over later.",
			[]string{"ring"}, nil),
		notUnwrapped: prometheus.NewDesc("weir_not_unwrapped_packets_total",
			"Packets counted in the flow of their tunnel, though what is in such tunnels is to be counted.", nil, nil),
		samples: prometheus.NewDesc("weir_samples_total",
			"Pieces of packets that were copied for fingerprints.", nil, nil),
		samplesDropped: prometheus.NewDesc("weir_samples_dropped_total",
			"Pieces of packets that were not copied for fingerprints though wanted, by reason. No count depends on them.",
			[]string{"reason"}, nil),
	}
}

func describePair(name, what string, labels ...string) packetsAndBytes {
	return packetsAndBytes{
		packets: prometheus.NewDesc("weir_"+name+"_packets_total", "Packets "+what+".", labels, nil),
		bytes:   prometheus.NewDesc("weir_"+name+"_bytes_total", "Layer 2 bytes of the packets "+what+".", labels, nil),
	}
}

// Describe sends every metric's description.
func (k *kernelCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, pair := range []packetsAndBytes{k.seen, k.uncounted, k.counted, k.exported, k.evicted} {
		ch <- pair.packets
		ch <- pair.bytes
	}
	for _, desc := range []*prometheus.Desc{
		k.inserts, k.evictions, k.capacity, k.ringDrops, k.notUnwrapped, k.samples, k.samplesDropped,
		k.residentFlows, k.residentPackets, k.residentBytes, k.unaccountedPackets, k.unaccountedBytes,
	} {
		ch <- desc
	}
}

// Collect reads the kernel's counters.
func (k *kernelCollector) Collect(ch chan<- prometheus.Metric) {
	ledger, err := k.kernel.Ledger()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(k.counted.packets, err)
		return
	}
	counter := func(desc *prometheus.Desc, value uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	gauge := func(desc *prometheus.Desc, value float64) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	pair := func(desc packetsAndBytes, c flow.Counter, labels ...string) {
		counter(desc.packets, c.Packets, labels...)
		counter(desc.bytes, c.Bytes, labels...)
	}
	for hook, c := range ledger.Seen {
		pair(k.seen, c, hook)
	}
	for reason, c := range ledger.Uncounted {
		pair(k.uncounted, c, reason)
	}
	audit := k.audit()
	pair(k.counted, ledger.Counted)
	pair(k.exported, ledger.Exported)
	pair(k.evicted, ledger.Evicted)
	counter(k.inserts, ledger.Inserts)
	counter(k.evictions, ledger.Evictions)
	counter(k.ringDrops, ledger.ClosedFull, "closed")
	counter(k.ringDrops, ledger.RecordsFull, "records")
	counter(k.notUnwrapped, ledger.Unopened)
	counter(k.samples, ledger.Samples)
	counter(k.samplesDropped, ledger.SamplesFull, "ring_full")
	counter(k.samplesDropped, ledger.SamplesLimited, "rate")
	counter(k.samplesDropped, ledger.SamplesForgotten, "forgotten")
	gauge(k.residentFlows, float64(audit.Resident.Flows))
	gauge(k.residentPackets, float64(audit.Resident.Packets))
	gauge(k.residentBytes, float64(audit.Resident.Bytes))
	gauge(k.capacity, float64(k.kernel.Capacity()))
	gauge(k.unaccountedPackets, float64(audit.UnaccountedPackets))
	gauge(k.unaccountedBytes, float64(audit.UnaccountedBytes))
}
