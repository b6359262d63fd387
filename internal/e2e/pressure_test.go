package e2e

import (
	"fmt"
	"testing"
	"time"

	"weir/internal/testnet"
)

// sources is how many a flood has: some come twice, but hardly within the same minute.
const sources = 1 << 30

// flood is what a weir with a map of 65,536 connections sees: segments from sources that are hardly ever the same and, one packet
// in 16, those of 1,024 connections that go on.
type flood struct {
	generator *testnet.Generator
	agent     *agent
	brain     *counter
}

func newFlood(t *testing.T, flags uint8, settings ...string) *flood {
	t.Helper()
	near, far := testnet.NewNamespace(t), testnet.NewNamespace(t)
	out, _ := testnet.Veth(t, testnet.End{Namespace: near, Name: "out"}, testnet.End{Namespace: far, Name: "in"})
	f := &flood{brain: newCounter(t, far)}
	f.generator = testnet.NewGenerator(t, out, testnet.Flows{Number: sources, Shuffled: true, TCPFlags: flags, Steady: 1024})
	for i := range f.generator.PerSteady() {
		f.brain.watched[f.steadyFlow(i)] = 0
	}
	f.agent = start(t, far, append([]string{
		"AGENT_INTERFACE=in", "AGENT_ENDPOINT_URL=" + f.brain.url, "AGENT_SEND_INTERVAL=0.5", "AGENT_MAX_FLOWS=65536",
		"AGENT_INGRESS_HOOK=xdp", "AGENT_TCP_IDLE_TIMEOUT=10s",
	}, settings...)...)
	return f
}

func (f *flood) steadyFlow(i int) string {
	return fmt.Sprintf("%s-192.0.2.1:9-TCP", f.generator.Flow(sources+i))
}

// TestFlood has a million segments a second, or as many as the machine can send, make a map overflow. What established
// connections send meanwhile is in their events, but for a ten-thousandth at the most; everything else is in an event or evicted,
// and counted; and the agent stays small.
func TestFlood(t *testing.T) {
	for name, flags := range map[string]uint8{"SYN": testnet.SYN, "FIN": testnet.FIN | testnet.ACK, "RST": testnet.RST} {
		t.Run(name, func(t *testing.T) { testFlood(t, flags) })
	}
}

func testFlood(t *testing.T, flags uint8) {
	f := newFlood(t, flags)
	before, began := f.agent.processorTime(t), time.Now()
	sendAt(t, f.generator, 1_000_000, after(soakOr(time.Minute, 3*time.Second)))
	took, cpu := time.Since(began), f.agent.processorTime(t)-before
	level, sweeps := f.agent.metric(t, "weir_pressure_level"), f.agent.metric(t, "weir_pressure_sweeps_total")
	exportedPackets, exportedBytes := f.checkBooks(t)
	packets, _ := f.generator.Sent()
	peak := f.agent.peakMemory(t)
	t.Logf("%.0f packets a second; %.1f %% of a core, %.0f MB; level %.0f, %.0f sweeps sooner; %.0f connections evicted",
		float64(packets)/took.Seconds(), 100*cpu.Seconds()/took.Seconds(), peak,
		level, sweeps, f.agent.metric(t, "weir_flow_evictions_total"))
	if sweeps == 0 || cpu > took || peak > 150 {
		t.Errorf("%.0f sweeps sooner, %s of CPU in %s, %.0f MB, want some, a core and 150 MB at the most",
			sweeps, cpu, took, peak)
	}
	f.agent.terminate(t)
	f.brain.check(t, exportedPackets, exportedBytes)
	f.checkSteady(t)
}

// TestScan has more connections come than the map has room for, but not at once: those that stay at a single packet make room in
// time, and everything is in an event.
func TestScan(t *testing.T) {
	f := newFlood(t, testnet.SYN, "AGENT_HIGH_WATER=50")
	sendAt(t, f.generator, 20_000, func() bool {
		packets, _ := f.generator.Sent()
		return packets > 75_000
	})
	if n := f.agent.metric(t, "weir_flow_inserts_total"); n <= 65536 {
		t.Errorf("%.0f connections fit into the map: the test shows nothing", n)
	}
	f.agent.terminate(t)
	packets, bytes := f.generator.Sent()
	f.brain.check(t, packets, bytes)
}

// checkBooks waits until the map is empty, wants the books to balance with what was sent, and returns what was exported.
func (f *flood) checkBooks(t *testing.T) (packets, bytes uint64) {
	t.Helper()
	testnet.Eventually(t, "the map is empty", func() bool { return f.agent.metric(t, "weir_resident_flows") == 0 })
	balance := func(unit string, sent uint64) (exported uint64) {
		read := func(what string) uint64 { return uint64(f.agent.metric(t, "weir_"+what+"_"+unit+"_total")) }
		counted, uncounted, evicted := read("counted"), f.agent.uncounted(t, unit), read("evicted")
		exported = read("exported")
		if counted+uncounted != sent || exported+evicted != counted {
			t.Errorf("%d %s sent, %d counted and %d not, %d exported and %d evicted",
				sent, unit, counted, uncounted, exported, evicted)
		}
		if n := f.agent.metric(t, "weir_unaccounted_"+unit); n != 0 {
			t.Errorf("%.0f %s unaccounted", n, unit)
		}
		return exported
	}
	packets, bytes = f.generator.Sent()
	return balance("packets", packets), balance("bytes", bytes)
}

// checkSteady compares the events of the established connections with what these sent.
func (f *flood) checkSteady(t *testing.T) {
	t.Helper()
	var sent, missing uint64
	for i, want := range f.generator.PerSteady() {
		got := uint64(f.brain.watched[f.steadyFlow(i)])
		if got > want {
			t.Errorf("connection %d has %d packets, want %d", i, got, want)
		}
		sent, missing = sent+want, missing+want-min(got, want)
	}
	t.Logf("of established connections %d packets were sent, and %d are missing", sent, missing)
	if missing*10_000 > sent {
		t.Error("want one in 10,000 at the most")
	}
}
