package datapath

import (
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"

	"weir/internal/testnet"
)

// BenchmarkHotFlow prints what weir adds to an empty program of the same type, for packets of one flow. Both run in
// turns; the figures are medians.
func BenchmarkHotFlow(b *testing.B) {
	tcp := testnet.TCP("10.0.0.1:40000", "10.0.0.2:443", testnet.ACK, 100)
	for _, protocol := range []struct {
		name   string
		frame  []byte
		filter []bpf.Instruction
	}{
		{"TCP", tcp.Bytes(), nil},
		{"UDP6", testnet.UDP("[fd00::1]:40000", "[fd00::2]:443", 100).Bytes(), nil},
		{"thorough", tcp.VLAN(7, 8).Bytes(), nil},
		{"filter", tcp.Bytes(), compile(b, "tcp port 443")},
	} {
		for _, hook := range hooks {
			b.Run(protocol.name+"/"+hook, func(b *testing.B) {
				k := newKernelWith(b, Config{MaxFlows: 1024, Sampling: 1, Filter: protocol.filter})
				measured := k.coll.Programs[hook]
				aboveEmpty(b, measured, emptyProgram(b, measured.Type()), protocol.frame)
			})
		}
	}
}

// emptyProgram passes every packet on.
func emptyProgram(b *testing.B, kind ebpf.ProgramType) *ebpf.Program {
	b.Helper()
	verdict := int32(-1)
	if kind == ebpf.XDP {
		verdict = xdpPass
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: kind, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { program.Close() })
	return program
}

// aboveEmpty runs both programs on the frame in rounds, b.N rounds and at least 5.
func aboveEmpty(b *testing.B, measured, empty *ebpf.Program, frame []byte) {
	b.Helper()
	const packets = 1_000_000
	var above, base []time.Duration
	for range max(b.N, 5) {
		with, without := perPacket(b, measured, frame, packets), perPacket(b, empty, frame, packets)
		above, base = append(above, with-without), append(base, without)
	}
	b.ReportMetric(median(above), "ns/packet-above-empty")
	b.ReportMetric(median(base), "ns/packet-empty")
	b.ReportMetric(0, "ns/op") // a round says nothing
}

// perPacket returns what the kernel measured for one run of the program, in whole nanoseconds. Measured from outside, the
// kernel's own work around a test run would be in it.
func perPacket(b *testing.B, program *ebpf.Program, frame []byte, packets int) time.Duration {
	b.Helper()
	_, took, err := program.Benchmark(frame, packets, nil)
	if err != nil {
		b.Fatal(err)
	}
	return took
}

func median(of []time.Duration) float64 {
	slices.Sort(of)
	return float64(of[len(of)/2])
}
