package datapath

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

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

// BenchmarkFlows prints what weir adds to an empty program, for packets of so many flows in random order, all of which are in
// the map. What takes the frames from flow to flow runs before both and is in neither figure.
func BenchmarkFlows(b *testing.B) {
	for _, flows := range []int{1 << 16, 1 << 20} {
		for _, hook := range []string{kernelProgXdpIngress, kernelProgTcIngress} {
			b.Run(fmt.Sprint(flows, "/", hook), func(b *testing.B) {
				k := newKernel(b, uint32(2*flows))
				measured := k.coll.Programs[hook]
				mixed := mixFlows(b, flows, measured)
				empty := mixFlows(b, flows, emptyProgram(b, measured.Type()))
				frame := testnet.UDP("10.0.0.1:40000", "192.0.2.1:9", 22).Bytes()
				perPacket(b, mixed.program, frame, flows) // each in turn makes its entry
				for _, m := range []mixture{mixed, empty} {
					if err := m.shuffled.Set(true); err != nil {
						b.Fatal(err)
					}
				}
				aboveEmpty(b, mixed.program, empty.program, frame)
				if l := k.ledger(b); l.Inserts != uint64(flows) {
					b.Errorf("%d entries made, want %d", l.Inserts, flows)
				}
			})
		}
	}
}

// mixture is a program that makes the frame one of another flow and goes on to the one that is measured.
type mixture struct {
	program  *ebpf.Program
	shuffled *ebpf.Variable
}

func mixFlows(b *testing.B, flows int, measured *ebpf.Program) mixture {
	b.Helper()
	spec, err := loadTestmix()
	if err != nil {
		b.Fatal(err)
	}
	name, other := testmixProgMixXdp, testmixProgMixTc
	if measured.Type() != ebpf.XDP {
		name, other = other, name
	}
	delete(spec.Programs, other) // a map of programs holds one type
	if err := spec.Variables[testmixVarFlowMask].Set(uint64(flows - 1)); err != nil {
		b.Fatal(err)
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(coll.Close)
	if err := coll.Maps[testmixMapMeasured].Update(uint32(0), measured, ebpf.UpdateAny); err != nil {
		b.Fatal(err)
	}
	return mixture{coll.Programs[name], coll.Variables[testmixVarShuffled]}
}

// BenchmarkHotFlowOnTwoCPUs prints what BenchmarkHotFlow does, for one flow whose packets come on two CPUs at a time.
func BenchmarkHotFlowOnTwoCPUs(b *testing.B) {
	frame := testnet.TCP("10.0.0.1:40000", "10.0.0.2:443", testnet.ACK, 100).Bytes()
	k := newKernel(b, 1024)
	program := k.coll.Programs[kernelProgTcIngress]
	const packets = 5_000_000
	var took []time.Duration
	for range max(b.N, 5) {
		var each [2]time.Duration
		var running sync.WaitGroup
		for i := range each {
			running.Go(func() { each[i] = perPacket(b, program, frame, packets) })
		}
		running.Wait()
		took = append(took, max(each[0], each[1]))
	}
	report(b, took, "ns/packet")
}

// emptyProgram passes every packet on.
func emptyProgram(b *testing.B, kind ebpf.ProgramType) *ebpf.Program {
	b.Helper()
	spec := ebpf.ProgramSpec{Type: kind, License: "GPL"}
	verdict := int32(-1)
	if kind == ebpf.XDP { // as weir's: others cannot stand in the same place
		verdict = xdpPass
		spec.AttachType, spec.Flags = ebpf.AttachXDP, unix.BPF_F_XDP_HAS_FRAGS
	}
	spec.Instructions = asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}
	program, err := ebpf.NewProgram(&spec)
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
	report(b, above, "ns/packet-above-empty")
	report(b, base, "ns/packet-empty")
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

// report prints the median and, of a machine that is not left alone, the least.
func report(b *testing.B, of []time.Duration, unit string) {
	b.Helper()
	slices.Sort(of)
	b.ReportMetric(float64(of[len(of)/2]), unit)
	b.ReportMetric(float64(of[0]), "least-"+unit)
	b.ReportMetric(0, "ns/op") // a round says nothing
}
