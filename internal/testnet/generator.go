package testnet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

const (
	portBits  = 15
	firstPort = 1 << portBits

	// Offsets in a frame, as bpf/testgen.bpf.c has them. TCP has its source port where UDP has it.
	ipAt          = 14
	transportAt   = ipAt + 20
	udpChecksumAt = transportAt + 6
	tcpChecksumAt = transportAt + 16

	steadyEvery = 16 // STEADY_EVERY in bpf/testgen.bpf.c

	liveFrames = 1 << 1 // BPF_F_TEST_XDP_LIVE_FRAMES, linux/bpf.h

	// The kernel sends a batch and then lets the receiver, which runs on the same CPU, take it. A batch must fit the ring
	// of a veth, 256 frames, even if the receiver is put off now and then.
	batch = 32

	stallTime = 10 * time.Second
)

// Flows says what a Generator sends: UDP or TCP over IPv4, in frames that differ in source address and source port.
type Flows struct {
	Number int // of flows: a power of two, at most 1<<30; with more flows than frames every frame is a new one

	// Shuffled sends frames of flows in pseudo-random order, each flow as likely as any other at each frame, and the
	// same ones in every run. Otherwise the flows take turns.
	Shuffled bool

	Src     netip.Addr     // of flow 0, IPv4; unset means 10.0.0.1
	Dst     netip.AddrPort // IPv4; unset means 192.0.2.1:9
	Payload int            // bytes; a frame has 42 more, or with TCP 54

	TCPFlags uint8 // control bits of TCP, which every frame has then; 0 means UDP

	// Beside these, TCP connections that go on, with nothing but ACK: a power of two. One frame in 16 is of theirs, in turn.
	Steady int

	CPU int // on which frames are sent and received, counted among those that the process may use
}

// Generator sends an exact number of frames of known flows into one end of a veth pair, to arrive at the other:
// millions a second, as XDP frames, made by the kernel (BPF_PROG_RUN in "live frame" mode, Linux 5.18).
type Generator struct {
	flows Flows
	source
	objects generatorObjects
}

type generatorObjects struct {
	Generate *ebpf.Program `ebpf:"generate"`
	sourceVariables
}

// NewGenerator makes a generator of frames that leave by link, one end of a veth pair. It switches GRO of the other end
// on, without which veth takes no XDP frames. Frames go to a MAC address that is nobody's, so that no network stack
// answers them.
func NewGenerator(t testing.TB, link *Link, flows Flows) *Generator {
	t.Helper()
	NeedRoot(t)
	g := &Generator{flows: flows.withDefaults(), source: source{link: link, cpu: flows.CPU}}
	g.template = g.flows.template()
	if n := uint64(flows.Number); n == 0 || n&(n-1) != 0 || n > 1<<30 {
		t.Fatalf("make generator: number of flows %d is not a power of two", n)
	}
	err := g.load()
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EPERM) {
		Unavailable(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.objects.Generate.Close() })
	g.program, g.variables = g.objects.Generate, g.objects.sourceVariables
	link.peer.SetOffloads(t, GRO, true)
	return g
}

func (f Flows) withDefaults() Flows {
	if !f.Src.IsValid() {
		f.Src = netip.MustParseAddr("10.0.0.1")
	}
	if !f.Dst.IsValid() {
		f.Dst = netip.MustParseAddrPort("192.0.2.1:9")
	}
	return f
}

// template is a frame of flow 0, without a checksum: UDP needs none (RFC 768), and nobody looks at that of TCP.
func (f Flows) template() []byte {
	src := netip.AddrPortFrom(f.Src, firstPort).String()
	packet, checksumAt := UDP(src, f.Dst.String(), f.Payload), udpChecksumAt
	if f.TCPFlags != 0 {
		packet, checksumAt = TCP(src, f.Dst.String(), f.TCPFlags, f.Payload), tcpChecksumAt
	}
	frame := packet.Bytes()
	binary.BigEndian.PutUint16(frame[checksumAt:], 0)
	return frame
}

func (g *Generator) load() error {
	spec, err := loadTestgen()
	if err != nil {
		return err
	}
	header := g.template[ipAt:transportAt]
	headerSum := sum(header[:10]) + sum(header[16:]) // without checksum and source address
	for name, value := range map[string]any{
		testgenVarTarget:      uint32(g.link.Index),
		testgenVarFlowMask:    uint64(g.flows.Number - 1),
		testgenVarShuffled:    g.flows.Shuffled,
		testgenVarSteadyFlows: uint32(g.flows.Steady),
		testgenVarTcpFlags:    g.flows.TCPFlags,
		testgenVarBaseAddress: binary.BigEndian.Uint32(header[12:]),
		testgenVarHeaderSum:   uint32(headerSum),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s of generator: %w", name, err)
		}
	}
	if err := spec.LoadAndAssign(&g.objects, nil); err != nil {
		return fmt.Errorf("load generator: %w", err)
	}
	return nil
}

// Send sends so many frames more and returns when all have arrived at the other end of the pair and its XDP program, if
// it has one, has seen them; a network stack behind may have some still to take. The test fails if one was lost on the
// way, or if other packets left by the link meanwhile. A Generator sends for one caller at a time.
func (g *Generator) Send(t testing.TB, frames uint64) {
	t.Helper()
	g.deliver(t, frames, frames*uint64(len(g.template)))
}

// Sent returns the number of frames sent so far, and their bytes.
func (g *Generator) Sent() (frames, bytes uint64) {
	return g.sent, g.sent * uint64(len(g.template))
}

// PerFlow returns the number of frames sent so far of each flow, without those that are steady.
func (g *Generator) PerFlow() []uint64 {
	frames := make([]uint64, g.flows.Number)
	for i := range g.sent {
		if f := g.flows.of(i); f < uint64(len(frames)) {
			frames[f]++
		}
	}
	return frames
}

// PerSteady returns the number of frames sent so far of each steady flow, whose numbers follow those of the others.
func (g *Generator) PerSteady() []uint64 {
	n := uint64(g.flows.Steady)
	frames := make([]uint64, n)
	for f := range frames { // how many of their frames i have i % n == f
		frames[f] = ((g.sent+steadyEvery-1)/steadyEvery + n - 1 - uint64(f)) / n
	}
	return frames
}

// of returns the flow that frame i is of. The same is in bpf/testgen.bpf.c.
func (f *Flows) of(i uint64) uint64 {
	if f.Steady > 0 && i%steadyEvery == 0 {
		return uint64(f.Number) + i/steadyEvery%uint64(f.Steady)
	}
	if f.Shuffled {
		i = mix(i)
	}
	return i % uint64(f.Number)
}

// Flow returns the source of a flow; Flows.Dst is the destination of all.
func (g *Generator) Flow(i int) netip.AddrPort {
	address := binary.BigEndian.Uint32(g.flows.Src.AsSlice()) + uint32(i>>portBits)
	b := [4]byte(binary.BigEndian.AppendUint32(nil, address))
	return netip.AddrPortFrom(netip.AddrFrom4(b), uint16(firstPort|i&(firstPort-1)))
}

// mix spreads i over 64 bits: the finalizer of MurmurHash3. The same is in bpf/testgen.bpf.c.
func mix(i uint64) uint64 {
	i ^= i >> 33
	i *= 0xff51afd7ed558ccd
	i ^= i >> 33
	i *= 0xc4ceb9fe1a85ec53
	return i ^ i>>33
}

// alone runs fn on the nth of the CPUs that its thread may use, without the signals of Go's scheduler and profiler:
// each would end the system call that sends, which then takes tens of milliseconds to begin again. A thread that cannot
// be set free again ends with its goroutine.
func alone(nth int, fn func() error) (err error) {
	runtime.LockOSThread()
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return fmt.Errorf("read CPU affinity: %w", err)
	}
	one, err := nthOf(&allowed, nth)
	if err != nil {
		return err
	}
	var unmasked unix.Sigset_t
	err = errors.Join(
		unix.SchedSetaffinity(0, one),
		unix.PthreadSigmask(unix.SIG_BLOCK, sigset(unix.SIGURG, unix.SIGPROF), &unmasked))
	defer func() {
		failed := errors.Join(
			unix.PthreadSigmask(unix.SIG_SETMASK, &unmasked, nil),
			unix.SchedSetaffinity(0, &allowed))
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("set thread free: %w", failed))
			return
		}
		runtime.UnlockOSThread()
	}()
	if err != nil {
		return fmt.Errorf("set thread apart: %w", err)
	}
	return fn()
}

func nthOf(set *unix.CPUSet, nth int) (*unix.CPUSet, error) {
	if nth >= set.Count() {
		return nil, fmt.Errorf("CPU %d of %d does not exist", nth, set.Count())
	}
	cpu := 0
	for ; nth > 0 || !set.IsSet(cpu); cpu++ {
		if set.IsSet(cpu) {
			nth--
		}
	}
	one := new(unix.CPUSet)
	one.Set(cpu)
	return one, nil
}

func sigset(signals ...unix.Signal) *unix.Sigset_t {
	set := new(unix.Sigset_t)
	for _, s := range signals {
		set.Val[0] |= 1 << (s - 1)
	}
	return set
}
