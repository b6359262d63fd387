package datapath

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// FuzzParse holds what the kernel makes of frames against what the oracle does: why a frame is not counted, or under which
// key, in which direction and with which flags it is. The frames are those of a recipe, and one that is fuzzed as it is.
func FuzzParse(f *testing.F) {
	for _, shape := range shapes {
		f.Add([]byte(nil), shape.frame)
		f.Add([]byte(nil), shape.frame[:shape.headers-1])
	}
	for _, payload := range [][]byte{record(22, 1, 512), record(22, 2, 122), []byte("GET / HTTP/1.1\r\n\r\n"), banner} {
		f.Add([]byte(nil), says(false, 0, payload).frame(client, server))
	}
	f.Add([]byte(nil), testnet.Datagram(client, server, initial(0xc3, 1, 1250)).Bytes())
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		f.Add(randomBytes(random, 8+random.IntN(32)), []byte(nil))
	}
	referee := newReferee(f)
	f.Fuzz(func(t *testing.T, steps, raw []byte) {
		r := recipe(steps)
		defer referee.forget(t)
		begin := time.Now()
		for _, frame := range append(r.cook(), raw) {
			if len(frame) < 14 || len(frame) < shortest(kernelProgTcIngress, frame) || len(frame) > 1514 {
				continue // the kernel runs no program on it
			}
			referee.check(t, frame)
			if time.Since(begin) > fragmentTimeout/2 {
				return // a first fragment may soon be forgotten
			}
		}
	})
}

// TestParsersAgree has the quick parser take nothing that the thorough one reads in another way.
func TestParsersAgree(t *testing.T) {
	const frames = 100_000
	referee := newReferee(t)
	random := rand.New(rand.NewPCG(3, 4))
	seen := map[testparseComparison]int{}
	for range frames {
		frame := slices.Clone(shapes[random.IntN(len(shapes))].frame)
		for range random.IntN(4) {
			frame[random.IntN(min(len(frame), 80))] ^= 1 << random.IntN(8)
		}
		if least := shortest(kernelProgTcIngress, frame); random.IntN(4) == 0 && least < len(frame) {
			frame = frame[:least+random.IntN(len(frame)-least)]
		}
		seen[referee.compareParsers(t, frame)]++
	}
	equal, left := seen[testparseComparisonCOMPARISON_EQUAL], seen[testparseComparisonCOMPARISON_LEFT]
	if equal < frames/10 || left < frames/10 {
		t.Errorf("of %d frames the quick parser took %d and left %d: these are too few to compare", frames, equal, left)
	}
}

func randomBytes(random *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

// fragmentTimeout is FRAGMENT_TIMEOUT_NS of bpf/fragments.h.
const fragmentTimeout = time.Second

// referee passes frames through the kernel, each on its own but for what fragments teach, and compares.
type referee struct {
	kernel kernel
	pair   *ebpf.Program // both parsers
	last   flow.Ledger   // as of the last frame
	oracle oracle
}

func newReferee(t testing.TB) *referee {
	t.Helper()
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: allSamples | SampleCertificates})
	spec, err := loadTestparse()
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Variables[kernelVarConfig].Set(&kernelSettings{Sampling: 1, Samples: uint32(allSamples)}); err != nil {
		t.Fatal(err)
	}
	var programs testparsePrograms
	if err := spec.LoadAndAssign(&programs, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { programs.Close() })
	return &referee{k, programs.Compare, k.ledger(t), oracle{map[datagram]transport{}}}
}

// check fails the test unless the ledger, the map of flows and both parsers say of a frame what the oracle does.
func (r *referee) check(t *testing.T, frame []byte) {
	t.Helper()
	want, err := r.oracle.judge(frame)
	fate, inserts := "counted", uint64(1)
	if reason := uncounted(""); errors.As(err, &reason) {
		fate, inserts = string(reason), 0
	}
	r.kernel.run(t, kernelProgTcIngress, frame, nil)
	now := r.kernel.ledger(t)
	gained := since(now, r.last)
	r.last = now
	seen := flow.Counter{Packets: 1, Bytes: uint64(len(frame))}
	checkLedger(t, gained, kernelProgTcIngress, seen, map[string]flow.Counter{fate: seen})
	if gained.Inserts != inserts {
		t.Errorf("%d entries made, want %d", gained.Inserts, inserts)
	}
	if err == nil {
		r.checkEntry(t, frame, want)
	}
	samples, _ := r.kernel.samples(t)
	for _, s := range samples {
		if err != nil || !bytes.Contains(frame, s.Data) {
			t.Errorf("a sample of %x", s.Data)
		}
	}
	if r.compareParsers(t, frame); t.Failed() {
		t.Logf("the frame was %x", frame)
	}
}

// checkEntry takes the entry that the frame should have made.
func (r *referee) checkEntry(t *testing.T, frame []byte, want counted) {
	t.Helper()
	records, _ := r.kernel.records(t, r.kernel.SweepOut)
	if len(records) != 1 || records[0].Key != want.key {
		t.Fatalf("handed over %+v, want one of %+v", records, want.key)
	}
	half, other := records[0].Halves[want.from], records[0].Halves[1-want.from]
	if half.Packets != 1 || half.Bytes != uint64(len(frame)) || half.TCPFlags != want.flags || other != (flow.Half{}) {
		t.Errorf("end %d sent %+v, the other %+v, want %d bytes of one packet, flags %#x, and nothing",
			want.from, half, other, len(frame), want.flags)
	}
}

// compareParsers fails the test if the quick parser takes a frame and the thorough one reads it in another way.
func (r *referee) compareParsers(t *testing.T, frame []byte) testparseComparison {
	t.Helper()
	verdict, err := r.pair.Run(&ebpf.RunOptions{Data: frame})
	if err != nil {
		t.Fatalf("run both parsers: %v", err)
	}
	comparison := testparseComparison(verdict)
	if comparison != testparseComparisonCOMPARISON_EQUAL && comparison != testparseComparisonCOMPARISON_LEFT {
		t.Errorf("%x: the comparison of the parsers is %d", frame, comparison)
	}
	return comparison
}

// forget empties the memory of first fragments, which has to be the same in the kernel and in the oracle.
func (r *referee) forget(t *testing.T) {
	t.Helper()
	fragments := r.kernel.coll.Maps[kernelMapFragments]
	for d, want := range r.oracle.datagrams {
		key := kernelDatagram{Addr: [2][16]byte{d.src.As16(), d.dst.As16()}, Id: d.id, Protocol: d.protocol}
		var known kernelDatagramFlow
		if err := fragments.LookupAndDelete(&key, &known); err != nil {
			t.Errorf("take datagram %+v: %v", d, err)
		}
		if got := (transport{known.Protocol, swapPort(known.Port[0]), swapPort(known.Port[1])}); got != want {
			t.Errorf("fragments of %+v belong to %+v, want %+v", d, got, want)
		}
	}
	clear(r.oracle.datagrams)
	var stray kernelDatagram
	for fragments.NextKey(nil, &stray) == nil {
		t.Errorf("the kernel remembers %+v", stray)
		if err := fragments.Delete(&stray); err != nil {
			t.Fatal(err)
		}
	}
}
