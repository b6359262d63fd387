package datapath

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// TestSamplesOff: without the setting there are no samples, no room for them, and no code.
func TestSamplesOff(t *testing.T) {
	with, without := newKernelWith(t, Config{MaxFlows: 4096, Sampling: 1, Samples: allSamples}), newKernel(t, 4096)
	for _, s := range opened(says(false, 0, record(22, 1, 512))) {
		without.run(t, kernelProgTcIngress, s.frame(client, server), nil)
	}
	got, lengths := without.samples(t)
	records, _ := without.records(t, without.SweepOut)
	if len(got)+len(lengths) != 0 || len(records) != 1 || records[0].Handshake != nil {
		t.Errorf("%d samples, records %+v", len(got)+len(lengths), records)
	}
	for _, name := range []string{kernelMapStreams, kernelMapHandshakes, kernelMapSsh} {
		if n := without.coll.Maps[name].MaxEntries(); n != 1 {
			t.Errorf("%s has room for %d, want 1", name, n)
		}
	}
	for _, hook := range hooks {
		on, off := instructions(t, with, hook), instructions(t, without, hook)
		const sampling = 1500 // instructions at the least, of some 2,000
		if on-off < sampling {
			t.Errorf("%s has %d instructions with samples and %d without", hook, on, off)
		}
	}
}

// instructions returns how many a program has as it was loaded.
func instructions(t *testing.T, k kernel, program string) int {
	t.Helper()
	info, err := k.coll.Programs[program].Info()
	if err != nil {
		t.Fatal(err)
	}
	list, err := info.Instructions()
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// TestFullSampleRing leaves samples out and counts them, and no packet is uncounted for it.
func TestFullSampleRing(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: SampleTLS})
	hello := record(22, 1, 3000)
	const connections = 200 // of 3 KB each, in 256 KiB
	send := func() {
		for i := range connections {
			k.run(t, kernelProgTcIngress, says(false, 0, hello).frame(fmt.Sprint("10.0.0.1:", 1000+i), server), nil)
		}
	}
	send()
	l := k.ledger(t)
	if l.SamplesFull == 0 || l.Samples+l.SamplesFull != connections || l.Counted.Packets != connections {
		t.Errorf("%d samples and %d left out, %d packets counted", l.Samples, l.SamplesFull, l.Counted.Packets)
	}
	if got, _ := k.samples(t); uint64(len(got)) != l.Samples {
		t.Errorf("%d samples read, want %d", len(got), l.Samples)
	}
	k.records(t, k.SweepOut)
	send()
	if again := k.ledger(t); again.Samples != 2*l.Samples {
		t.Errorf("%d samples after the ring was read, want %d", again.Samples, 2*l.Samples)
	}
}

// onOneCPU keeps the test on one: each has a rate of its own. Its thread ends with it.
func onOneCPU(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	var allowed, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !allowed.IsSet(cpu) {
		cpu++
	}
	one.Set(cpu)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
}

// TestSampleRate copies a second's worth at once, and then no more than the rate. What is longer than a packet counts as two.
func TestSampleRate(t *testing.T) {
	onOneCPU(t)
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Replay: true, Samples: SampleTLS, SampleRate: 10})
	port := 1000
	send := func(connections, size int, at time.Duration) {
		for range connections {
			port++
			frame := says(false, 0, record(22, 1, size)).frame(fmt.Sprint("10.0.0.1:", port), server)
			if err := k.Replay(&Frame{frame, uint32(len(frame)), uint64(at), 1}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, row := range []struct {
		connections      int
		size             int
		at               time.Duration
		samples, limited uint64 // in all
	}{
		{20, 512, 100 * time.Second, 11, 9},
		{1, 512, 100*time.Second + 90*time.Millisecond, 11, 10},
		{3, 512, 100*time.Second + 250*time.Millisecond, 13, 11},
		{20, 512, time.Hour, 24, 20},
		{20, 2000, 2 * time.Hour, 30, 34},
	} {
		send(row.connections, row.size, row.at)
		l := k.ledger(t)
		if l.Samples != row.samples || l.SamplesLimited != row.limited {
			t.Errorf("row %d: %d samples and %d left out, want %d and %d", i, l.Samples, l.SamplesLimited, row.samples, row.limited)
		}
	}
}

// TestReplaySamples copies as much of a cut frame as there is, by the clock of the capture.
func TestReplaySamples(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Replay: true, Samples: SampleTLS | SampleSSH})
	hello := record(22, 1, 512)
	frame := says(false, 0, hello).frame(client, server)
	if err := k.Replay(&Frame{frame[:200], uint32(len(frame)), 77, 1}); err != nil {
		t.Fatal(err)
	}
	got, _ := k.samples(t)
	checkSamples(t, got, []sampled{{false, 0, hello[:200-54]}}, client, server, flow.SampleStream)
	if len(got) == 1 && got[0].TimeNs != 77 {
		t.Errorf("copied at %d, want 77", got[0].TimeNs)
	}
}

// TestSamplesAcrossProcesses: another process goes on with the flows, whatever it wants copied.
func TestSamplesAcrossProcesses(t *testing.T) {
	cfg := Config{MaxFlows: 1024, Sampling: 1, PinDir: testnet.BPFFS(t) + "/weir", Samples: allSamples}
	first, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	k := kernel{first}
	for _, s := range opened() {
		k.run(t, kernelProgTcIngress, s.frame(client, server), nil)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Samples = SampleTLS
	k = newKernelWith(t, cfg)
	if !k.Resumed() {
		t.Error("it did not go on with the maps")
	}
	hello := record(22, 1, 512)
	k.run(t, kernelProgTcIngress, says(false, 0, hello).frame(client, server), nil)
	got, _ := k.samples(t)
	checkSamples(t, got, []sampled{{false, 0, hello}}, client, server, flow.SampleStream)
	records, _ := k.records(t, k.SweepOut)
	if len(records) != 1 || records[0].Halves[0].Packets != 3 {
		t.Errorf("records %+v, want one of 3 packets by the client", records)
	}
}

// TestExactWithSamples counts every packet of a flood of new flows that are looked at.
func TestExactWithSamples(t *testing.T) {
	const packets = 1 << 17
	k := newKernelWith(t, Config{MaxFlows: 2 * packets, Sampling: 1, Samples: allSamples})
	out, in := veth(t)
	k.attach(t, in, IngressXDP)
	generator := testnet.NewGenerator(t, out, testnet.Flows{Number: packets})
	generator.Send(t, packets)
	records, _ := k.records(t, k.SweepOut)
	sent, bytes := generator.Sent()
	l := k.ledger(t)
	want := flow.Counter{Packets: sent, Bytes: bytes}
	if len(records) != packets || l.Seen["xdp_ingress"] != want || l.Counted != want || l.Exported != want {
		t.Errorf("%d records, seen %+v, counted %+v, exported %+v, want %d and %+v",
			len(records), l.Seen["xdp_ingress"], l.Counted, l.Exported, packets, want)
	}
}
