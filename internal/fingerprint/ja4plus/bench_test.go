package ja4plus

import (
	"testing"

	"weir/internal/flow"
)

func BenchmarkJA4T(b *testing.B) {
	syn := flow.Opening{TimeNs: 1, Window: 64240, Options: []byte("\x02\x04\x05\xb4\x01\x03\x03\x08\x01\x01\x04\x02")}
	b.ReportAllocs()
	for b.Loop() {
		JA4T(syn)
	}
}

func BenchmarkJA4H(b *testing.B) {
	head := []byte(post)
	b.ReportAllocs()
	for b.Loop() {
		JA4H(head)
	}
}

func BenchmarkJA4X(b *testing.B) {
	certificate := []byte(described())
	b.ReportAllocs()
	for b.Loop() {
		JA4X(certificate)
	}
}

func BenchmarkJA4SSH(b *testing.B) {
	lengths := flow.Lengths{Payloads: [2][]uint16{some(100, 36), some(50, 100, some(50, 36)...)}}
	b.ReportAllocs()
	for b.Loop() {
		JA4SSH(lengths, 0)
	}
}
