package datapath

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
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
		name    string
		frame   []byte
		filter  []bpf.Instruction
		samples Samples
	}{
		{"TCP", tcp.Bytes(), nil, 0},
		{"UDP6", testnet.UDP("[fd00::1]:40000", "[fd00::2]:443", 100).Bytes(), nil, 0},
		{"thorough", tcp.VLAN(7, 8).Bytes(), nil, 0},
		{"filter", tcp.Bytes(), compile(b, "tcp port 443"), 0},
		{"samples", tcp.Bytes(), nil, allSamples},
	} {
		for _, hook := range hooks {
			b.Run(protocol.name+"/"+hook, func(b *testing.B) {
				k := newKernelWith(b, Config{MaxFlows: 1024, Sampling: 1, Filter: protocol.filter, Samples: protocol.samples})
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
			b.Run(fmt.Sprint(flows, "/", hook), func(b *testing.B) { benchmarkFlows(b, hook, flows, arrange(testmixArrangementSHUFFLED)) })
		}
	}
}

// BenchmarkZipf does that for flows some of which have far more packets than most.
func BenchmarkZipf(b *testing.B) {
	const flows = 1 << 20
	benchmarkFlows(b, kernelProgTcIngress, flows, func(b *testing.B, m mixture) {
		random := rand.New(rand.NewPCG(1, 2))
		ranks := rand.NewZipf(random, 1.1, 1, flows-1)
		order := make([]uint32, m.order.MaxEntries())
		keys := make([]uint32, len(order))
		for i := range order {
			const odd = 2654435761 // the most frequent flows are not neighbours
			keys[i], order[i] = uint32(i), uint32(ranks.Uint64())*odd%flows
		}
		if _, err := m.order.BatchUpdate(keys, order, nil); err != nil {
			b.Fatal(err)
		}
		arrange(testmixArrangementIN_ORDER)(b, m)
	})
}

func benchmarkFlows(b *testing.B, hook string, flows int, arrange func(*testing.B, mixture)) {
	k := newKernel(b, uint32(2*flows))
	measured := k.coll.Programs[hook]
	mixed := mixFlows(b, flows, measured)
	empty := mixFlows(b, flows, emptyProgram(b, measured.Type()))
	perPacket(b, mixed.program, mixedFrame(), flows) // each in turn makes its entry
	arrange(b, mixed)
	arrange(b, empty)
	aboveEmpty(b, mixed.program, empty.program, mixedFrame())
	if l := k.ledger(b); l.Inserts != uint64(flows) {
		b.Errorf("%d entries made, want %d", l.Inserts, flows)
	}
}

// BenchmarkNewFlows prints what weir adds to an empty program, for packets each of which begins a connection: while the table has
// room, and when each has another one evicted.
func BenchmarkNewFlows(b *testing.B) {
	const flows = 1 << 20
	for name, maxFlows := range map[string]uint32{"room": 2 * flows, "full": flows / 16} {
		b.Run(name, func(b *testing.B) {
			var above []time.Duration
			for range max(b.N, 3) {
				k := newKernel(b, maxFlows)
				program := k.coll.Programs[kernelProgTcIngress]
				with := perPacket(b, mixFlows(b, flows, program).program, mixedFrame(), flows)
				without := perPacket(b, mixFlows(b, flows, emptyProgram(b, program.Type())).program, mixedFrame(), flows)
				above = append(above, with-without)
				if l := k.ledger(b); l.Inserts != flows {
					b.Errorf("%d entries made, want %d", l.Inserts, flows)
				}
			}
			report(b, above, "ns/packet-above-empty")
		})
	}
}

// BenchmarkLimit prints what the same packets cost that do no more than add to a random place of as much memory, one that does
// so after the last has, and one that looks its key up in the kernel's LRU hash and adds to its value.
func BenchmarkLimit(b *testing.B) {
	for _, flows := range []int{1, 1 << 16, 1 << 20} {
		for name, choose := range map[string]func(*testlimitPrograms) *ebpf.Program{
			"access":  func(o *testlimitPrograms) *ebpf.Program { return o.Access },
			"latency": func(o *testlimitPrograms) *ebpf.Program { return o.Latency },
			"lookup":  func(o *testlimitPrograms) *ebpf.Program { return o.Lookup },
		} {
			b.Run(fmt.Sprint(flows, "/", name), func(b *testing.B) { benchmarkLimit(b, flows, choose) })
		}
	}
}

func benchmarkLimit(b *testing.B, flows int, choose func(*testlimitPrograms) *ebpf.Program) {
	testnet.NeedRoot(b)
	spec, err := loadTestlimit()
	if err != nil {
		b.Fatal(err)
	}
	places := max(2*flows, 1024)
	for _, name := range []string{testlimitMapPlaces, testlimitMapHashed} {
		spec.Maps[name].MaxEntries = uint32(places)
	}
	if err := spec.Variables[testlimitVarPlacesMask].Set(uint32(places - 1)); err != nil {
		b.Fatal(err)
	}
	var objects testlimitObjects
	if err := spec.LoadAndAssign(&objects, nil); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { objects.Close() })
	mixed := mixFlows(b, flows, choose(&objects.testlimitPrograms))
	empty := mixFlows(b, flows, emptyProgram(b, ebpf.SchedCLS))
	perPacket(b, mixed.program, mixedFrame(), flows)
	arrange(testmixArrangementSHUFFLED)(b, mixed)
	arrange(testmixArrangementSHUFFLED)(b, empty)
	aboveEmpty(b, mixed.program, empty.program, mixedFrame())
}

// BenchmarkInstructions prints how large the programs are: of each what the verifier went through until it was satisfied, and
// the bytes of machine code. These do not depend on the machine's speed.
func BenchmarkInstructions(b *testing.B) {
	k := newKernel(b, 1024)
	for _, name := range slices.Sorted(maps.Keys(k.coll.Programs)) {
		b.Run(name, func(b *testing.B) {
			info, err := k.coll.Programs[name].Info()
			if err != nil {
				b.Fatal(err)
			}
			verified, _ := info.VerifiedInstructions()
			size, err := info.JitedSize()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(verified), "verified-instructions")
			b.ReportMetric(float64(size), "code-bytes")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkSweep prints what a walk of the table costs for an entry that is not due, and for how long a run of the program keeps
// a CPU at the most, if nothing else wants it: the longest of the runs of a walk, each at its quickest.
func BenchmarkSweep(b *testing.B) {
	const flows = 1 << 20
	k := newKernel(b, flows)
	perPacket(b, mixFlows(b, flows, k.coll.Programs[kernelProgTcIngress]).program, mixedFrame(), flows)
	var entry, quickest []time.Duration
	for range max(b.N, 5) {
		runs := k.timeSweep(b)
		var walk time.Duration
		for i, took := range runs {
			walk += took
			if i == len(quickest) {
				quickest = append(quickest, took)
			}
			quickest[i] = min(quickest[i], took)
		}
		entry = append(entry, walk/flows)
	}
	report(b, entry, "ns/entry")
	b.ReportMetric(float64(slices.Max(quickest).Microseconds()), "µs/longest-run")
}

// timeSweep returns how long each run takes of those that a walk is made of.
func (k kernel) timeSweep(b *testing.B) (runs []time.Duration) {
	b.Helper()
	const never = math.MaxInt64
	piece := k.coll.Maps[kernelMapSteps].MaxEntries()
	args := kernelSweepArgs{TcpIdleNs: never, OtherIdleNs: never, ActiveNs: never, LingerNs: never}
	for ; args.First < 2*k.coll.Maps[kernelMapTags].MaxEntries(); args.First += piece {
		args.NowNs = now()
		began := time.Now()
		if err := runSyscall(k.coll.Programs[kernelProgSweep], &args); err != nil {
			b.Fatal(err)
		}
		runs = append(runs, time.Since(began))
	}
	if want := k.ledger(b).Inserts; args.ResidentFlows != want {
		b.Errorf("a walk met %d entries, want %d", args.ResidentFlows, want)
	}
	return runs
}

// mixture is a program that makes the frame one of another flow and goes on to the one that is measured.
type mixture struct {
	program  *ebpf.Program
	arranged *ebpf.Variable
	order    *ebpf.Map
}

// arrange says in what order flows come from then on. They begin in turn.
func arrange(arrangement testmixArrangement) func(*testing.B, mixture) {
	return func(b *testing.B, m mixture) {
		if err := m.arranged.Set(arrangement); err != nil {
			b.Fatal(err)
		}
	}
}

// mixedFrame is what a mixture makes flows of.
func mixedFrame() []byte { return testnet.UDP("10.0.0.1:40000", "192.0.2.1:9", 22).Bytes() }

func mixFlows(b testing.TB, flows int, measured *ebpf.Program) mixture {
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
	return mixture{coll.Programs[name], coll.Variables[testmixVarArranged], coll.Maps[testmixMapOrder]}
}

// BenchmarkHotFlowOnTwoCPUs prints what a packet of one flow costs whose packets come on two CPUs at a time, above an empty
// program there, and how many times that is what it costs on one.
func BenchmarkHotFlowOnTwoCPUs(b *testing.B) {
	frame := testnet.TCP("10.0.0.1:40000", "10.0.0.2:443", testnet.ACK, 100).Bytes()
	program := newKernel(b, 1024).coll.Programs[kernelProgTcIngress]
	empty := emptyProgram(b, program.Type())
	onTwo := func(program *ebpf.Program) time.Duration {
		var each [2]time.Duration
		var running sync.WaitGroup
		for i := range each {
			running.Go(func() { each[i] = perPacket(b, program, frame, 5_000_000) })
		}
		running.Wait()
		return max(each[0], each[1])
	}
	var one, two []time.Duration
	for range max(b.N, 5) {
		one = append(one, perPacket(b, program, frame, 1_000_000)-perPacket(b, empty, frame, 1_000_000))
		two = append(two, onTwo(program)-onTwo(empty))
	}
	report(b, two, "ns/packet-above-empty")
	slices.Sort(one)
	b.ReportMetric(float64(two[len(two)/2])/float64(one[len(one)/2]), "times-one-CPU")
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
func perPacket(b testing.TB, program *ebpf.Program, frame []byte, packets int) time.Duration {
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
