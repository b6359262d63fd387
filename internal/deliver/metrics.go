package deliver

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// dropReason says why events were given up.
type dropReason uint8

const (
	reasonQueueFull dropReason = iota
	reasonSpoolFull
	reasonExpired
	reasonUnreadable
	reasonShutdown
	reasonRejected
	reasonTooLarge
)

var dropReasonNames = []string{
	"queue_full", "spool_full", "expired", "unreadable", "shutdown", "rejected", "too_large",
}

// outcome says what became of the events of a batch.
type outcome uint8

const (
	outcomeDelivered outcome = iota // all of them were
	outcomePartial                  // some were
	outcomeDropped                  // none was
)

var outcomeNames = []string{"delivered", "partial", "dropped"}

// retryCause says why something is sent again.
type retryCause uint8

const (
	causeConnection retryCause = iota
	causeTimeout
	causeThrottled
	causeServerError
	causeUnauthorized
	causeRedirect
	causeStatus
	causeTooLarge
	causeWrite
)

var retryCauseNames = []string{
	"connection", "timeout", "throttled", "server_error", "unauthorized", "redirect", "status", "too_large", "write",
}

type metrics struct {
	delivered   prometheus.Counter
	recovered   prometheus.Counter
	quarantined prometheus.Counter
	dropped     []prometheus.Counter // by dropReason
	batches     []prometheus.Counter // by outcome
	retries     []prometheus.Counter // by retryCause
	duration    prometheus.Histogram
	lastSuccess prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, held func() (bytes int64, events int)) (*metrics, error) {
	m := &metrics{
		delivered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_delivered_events_total", Help: "Events that the Brain accepted, or that were written.",
		}),
		recovered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_recovered_events_total", Help: "Events that an earlier run left in the spool.",
		}),
		quarantined: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "weir_quarantined_events_total", Help: "Events that the Brain refused, kept in the quarantine file. They count as dropped.",
		}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "weir_delivery_request_duration_seconds", Help: "Time from an HTTP request to the head of its answer, or to its failure.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 17), // to 32.8 s
		}),
		lastSuccess: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "weir_delivery_last_success_timestamp_seconds",
			Help: "Unix time at which the Brain last accepted an event, or one was written; 0 if that never was.",
		}),
	}
	queueBytes := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_delivery_queue_bytes", Help: "Bytes of encoded events in memory: being batched, waiting and being sent.",
	}, func() float64 { bytes, _ := held(); return float64(bytes) })
	queueEvents := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "weir_delivery_queue_events", Help: "Events in memory or on disk: being batched, waiting and being sent.",
	}, func() float64 { _, events := held(); return float64(events) })

	dropped := counters("weir_dropped_events_total", "Events given up.", "reason", dropReasonNames, &m.dropped)
	batches := counters("weir_batches_total", "Batches by what became of their events.", "outcome", outcomeNames, &m.batches)
	retries := counters("weir_delivery_retries_total", "Tries that failed and were or will be repeated.", "reason", retryCauseNames, &m.retries)

	all := []prometheus.Collector{m.delivered, m.recovered, m.quarantined, m.duration, m.lastSuccess, queueBytes, queueEvents, dropped, batches, retries}
	for _, c := range all {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register the delivery metrics: %w", err)
		}
	}
	return m, nil
}

// counters makes a counter for every value of a label, so that each shows from the start.
func counters(name, help, label string, values []string, out *[]prometheus.Counter) prometheus.Collector {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	for _, value := range values {
		*out = append(*out, vec.WithLabelValues(value))
	}
	return vec
}
