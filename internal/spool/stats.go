package spool

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Count is a number of records, and of the events that were in them as far as that is known.
type Count struct {
	Records, Events int64
}

func (c *Count) add(e entry) {
	c.Records++
	c.Events += int64(e.events)
}

// Stats tells what is in a spool, and what became of the rest since Open.
type Stats struct {
	Bytes   int64     // of the segments
	Pending Count     // what is not settled
	Oldest  time.Time // when the oldest of that was appended, to the second; zero if there is none
	Damaged Count     // what was lost to damage, found by Open or by Read
	Evicted Count     // what was dropped to make room
	Failing bool      // the disk failed at something the last time that it was asked for it
}

// shown is what is told of a spool: as of the last change, for who asks must not wait for the disk.
type shown struct {
	Stats
	faults [operations]fault
}

// show lets the present state be told.
func (s *Spool) show() { s.shown.Store(&shown{s.stats(), s.faults}) }

// unlock ends a change.
func (s *Spool) unlock() {
	s.show()
	s.mu.Unlock()
}

// Stats returns the present ones.
func (s *Spool) Stats() Stats { return s.shown.Load().Stats }

// Stalled says that the disk hangs: whatever is asked of it fails at once.
func (s *Spool) Stalled() bool { return s.guard.Stalled() }

func (s *Spool) stats() Stats {
	stats := Stats{Bytes: s.bytes, Pending: Count{s.records, s.events}, Damaged: s.damaged, Evicted: s.evicted}
	if _, e, ok := s.following(0); ok {
		stats.Oldest = time.Unix(int64(e.seconds), 0)
	}
	for _, f := range s.faults {
		stats.Failing = stats.Failing || f.failing
	}
	return stats
}

// operation is what a disk can fail at.
type operation uint8

const (
	opAppend operation = iota
	opSync
	opCursor
	opRemove
	opRead
	operations
)

var operationNames = [operations]string{"append", "sync", "cursor", "remove", "read"}

// fault is how an operation fares.
type fault struct {
	count   int64
	failing bool
}

// report counts a failure, and logs the first one in a row and the end of the row.
func (s *Spool) report(op operation, err error) {
	f := &s.faults[op]
	if err != nil {
		f.count++
	}
	if failing := err != nil; failing != f.failing {
		f.failing = failing
		log := s.cfg.Log.With(zap.String("operation", operationNames[op]), zap.String("dir", s.cfg.Dir))
		if failing {
			log.Warn("the spool's disk fails", zap.Error(err))
		} else {
			log.Info("the spool's disk works again")
		}
	}
}

var (
	descBytes   = prometheus.NewDesc("weir_spool_bytes", "Bytes of the spool's segments.", nil, nil)
	descRecords = prometheus.NewDesc("weir_spool_records", "Records in the spool that wait to be delivered.", nil, nil)
	descEvents  = prometheus.NewDesc("weir_spool_events", "Events in the spool that wait to be delivered.", nil, nil)
	descAge     = prometheus.NewDesc("weir_spool_oldest_age_seconds",
		"Time since the oldest record that waits was spooled; 0 if none does.", nil, nil)
	descDamagedRecords = prometheus.NewDesc("weir_spool_damaged_records_total", "Records lost to damage on the disk.", nil, nil)
	descDamagedEvents  = prometheus.NewDesc("weir_spool_damaged_events_total",
		"Events in records lost to damage, as far as it is known.", nil, nil)
	descEvictedRecords = prometheus.NewDesc("weir_spool_evicted_records_total", "Records dropped because the spool was full.", nil, nil)
	descEvictedEvents  = prometheus.NewDesc("weir_spool_evicted_events_total", "Events dropped because the spool was full.", nil, nil)
	descErrors         = prometheus.NewDesc("weir_spool_errors_total", "Failures of the spool's disk.", []string{"operation"}, nil)
)

// Describe implements prometheus.Collector.
func (s *Spool) Describe(descs chan<- *prometheus.Desc) { prometheus.DescribeByCollect(s, descs) }

// Collect implements prometheus.Collector.
func (s *Spool) Collect(metrics chan<- prometheus.Metric) {
	stats := s.shown.Load()
	var age float64
	if !stats.Oldest.IsZero() {
		age = max(0, time.Since(stats.Oldest).Seconds()) // the clock may have been set back
	}
	gauge := func(desc *prometheus.Desc, value float64) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	}
	counter := func(desc *prometheus.Desc, value int64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(value), labels...)
	}
	gauge(descBytes, float64(stats.Bytes))
	gauge(descRecords, float64(stats.Pending.Records))
	gauge(descEvents, float64(stats.Pending.Events))
	gauge(descAge, age)
	counter(descDamagedRecords, stats.Damaged.Records)
	counter(descDamagedEvents, stats.Damaged.Events)
	counter(descEvictedRecords, stats.Evicted.Records)
	counter(descEvictedEvents, stats.Evicted.Events)
	for op, f := range stats.faults {
		counter(descErrors, f.count, operationNames[op])
	}
}
