package collect

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/internal/flow"
)

// BenchmarkEvent is the way of a record to an encoded FlowEvent.
func BenchmarkEvent(b *testing.B) {
	kernel, sink := &fakeKernel{}, &encoder{}
	c, err := New(Config{Hostname: "node-1"}, kernel, fakeHost{}, &fakeIdentifier{}, kernel.clock, sink, zap.NewNop(), prometheus.NewRegistry())
	if err != nil {
		b.Fatal(err)
	}
	r := record(5000)
	b.ReportAllocs()
	for b.Loop() {
		c.record(&r)
	}
	b.SetBytes(int64(len(sink.line)))
}

// encoder keeps the last event, as JSON.
type encoder struct{ line []byte }

func (s *encoder) Add(e *flow.Event) { s.line = e.AppendJSON(s.line[:0]) }

func (s *encoder) Seal() {}
