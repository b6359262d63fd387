package collect

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"weir/internal/flow"
)

// BenchmarkEvent is the way of a record to an encoded FlowEvent.
func BenchmarkEvent(b *testing.B) {
	kernel := &fakeKernel{}
	var buf []byte
	c, err := New(Config{Hostname: "node-1"}, kernel, fakeHost{}, kernel.clock, func(e *flow.Event) {
		buf = e.AppendJSON(buf[:0])
	}, prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	r := record(5000)
	b.ReportAllocs()
	for b.Loop() {
		c.record(&r)
	}
	b.SetBytes(int64(len(buf)))
}
