package e2e

import (
	"fmt"
	"testing"

	"weir/internal/testbrain"
	"weir/internal/testnet"
)

// tally sums what a Brain received, by flow.
type tally struct {
	packets, bytes int64
	byFlow         map[string]int64 // packets
	events         map[string]int   // by end_reason
	repeated       int              // events of a flow that had one already
}

func (s *tally) add(e *testbrain.Event) {
	s.packets += e.PacketCount
	s.bytes += e.ByteCount
	if _, ok := s.byFlow[e.FlowID]; ok {
		s.repeated++
	}
	s.byFlow[e.FlowID] += e.PacketCount
	s.events[e.EndReason]++
}

// rig is a generator on one side of a veth pair and weir with its Brain on the other.
type rig struct {
	generator *testnet.Generator
	agent     *agent
	brain     *testbrain.Brain
	tally     *tally
}

func newRig(t *testing.T, flows testnet.Flows, settings ...string) *rig {
	t.Helper()
	near, far := testnet.NewNamespace(t), testnet.NewNamespace(t)
	out, _ := testnet.Veth(t, testnet.End{Namespace: near, Name: "out"}, testnet.End{Namespace: far, Name: "in"})
	r := &rig{tally: &tally{byFlow: map[string]int64{}, events: map[string]int{}}}
	r.generator = testnet.NewGenerator(t, out, flows)
	r.brain = brainIn(t, far, testbrain.Options{OnEvent: r.tally.add})
	r.agent = start(t, far, append([]string{
		"AGENT_INTERFACE=in", "AGENT_ENDPOINT_URL=" + r.brain.URL(), "AGENT_SEND_INTERVAL=0.5",
		"AGENT_STOP_TIMEOUT=10m", // all is to be delivered, however busy the machine
	}, settings...)...)
	return r
}

// checkMetrics waits for series to be what they should, and says which are not.
func (r *rig) checkMetrics(t *testing.T, want map[string]uint64) {
	t.Helper()
	for series, value := range want {
		testnet.Eventually(t, fmt.Sprintf("%s is %d", series, value), func() bool {
			return r.agent.metric(t, series) == float64(value)
		})
	}
}

// checkFlows compares the events that the Brain received with the frames that were sent, flow by flow.
func (r *rig) checkFlows(t *testing.T, flows int, reason string) {
	t.Helper()
	packets, bytes := r.generator.Sent()
	s := r.tally
	if s.packets != int64(packets) || s.bytes != int64(bytes) {
		t.Errorf("events sum to %d packets and %d bytes, want %d and %d", s.packets, s.bytes, packets, bytes)
	}
	if s.repeated != 0 || len(s.byFlow) != flows || s.events[reason] != flows {
		t.Errorf("%d flows, %d events for one again, reasons %v, want %d flows with one event each, all %s",
			len(s.byFlow), s.repeated, s.events, flows, reason)
	}
	wrong := 0
	for i, want := range r.generator.PerFlow() {
		src := r.generator.Flow(i)
		id := fmt.Sprintf("%s-192.0.2.1:9-UDP", src)
		if s.byFlow[id] != int64(want) {
			wrong++
			if wrong < 5 {
				t.Errorf("flow %s has %d packets, want %d", id, s.byFlow[id], want)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d flows are wrong", wrong)
	}
	if d := len(r.brain.Duplicates()); d != 0 {
		t.Errorf("%d events came twice", d)
	}
}

// TestXDPExact: every packet of ten million reaches the Brain in its flow, once the flows are idle.
func TestXDPExact(t *testing.T) {
	const flows, packets = 1 << 16, 10_000_000
	r := newRig(t, testnet.Flows{Number: flows, Payload: 18}, "AGENT_UDP_IDLE_TIMEOUT=5s", "AGENT_INGRESS_HOOK=xdp")
	r.generator.Send(t, packets)
	testnet.Eventually(t, "the Brain has an event of each flow", func() bool { return r.brain.Received() >= flows })
	testnet.Eventually(t, "the map is empty", func() bool { return r.agent.metric(t, "weir_resident_flows") == 0 })
	_, bytes := r.generator.Sent()
	r.checkMetrics(t, map[string]uint64{
		`weir_seen_packets_total{hook="xdp_ingress"}`: packets,
		`weir_seen_bytes_total{hook="xdp_ingress"}`:   bytes,
		"weir_counted_packets_total":                  packets,
		"weir_exported_packets_total":                 packets,
		"weir_exported_bytes_total":                   bytes,
		"weir_flow_inserts_total":                     flows,
		"weir_flow_evictions_total":                   0,
		"weir_unaccounted_packets":                    0,
		"weir_unaccounted_bytes":                      0,
		"weir_delivered_events_total":                 flows,
		`weir_flow_events_total{reason="idle"}`:       flows,
	})
	r.agent.terminate(t)
	r.checkFlows(t, flows, "idle")
}

// TestTCExact: the same through tc, and what is in the map when weir is told to stop is delivered before it ends.
func TestTCExact(t *testing.T) {
	const flows, packets = 1 << 14, 1_000_000
	r := newRig(t, testnet.Flows{Number: flows, Payload: 18}, "AGENT_INGRESS_HOOK=tc", "AGENT_COMPRESSION=gzip",
		"AGENT_UDP_IDLE_TIMEOUT=1h", "AGENT_ACTIVE_TIMEOUT=1h") // what ends them is the stop
	r.generator.Send(t, packets)
	testnet.Eventually(t, "the network stack has taken all packets", func() bool {
		return r.agent.metric(t, `weir_seen_packets_total{hook="tc_ingress"}`) >= packets
	})
	testnet.Eventually(t, "a sweep has counted the flows", func() bool {
		return r.agent.metric(t, "weir_resident_flows") == flows
	})
	r.checkMetrics(t, map[string]uint64{
		`weir_seen_packets_total{hook="tc_ingress"}`: packets,
		"weir_counted_packets_total":                 packets,
		"weir_flow_evictions_total":                  0,
		"weir_unaccounted_packets":                   0,
	})
	r.agent.terminate(t)
	r.checkFlows(t, flows, "shutdown")
}

// TestStopWithAFullMap delivers many times more than the queue holds, at the Brain's pace, before weir ends.
func TestStopWithAFullMap(t *testing.T) {
	const flows = 1 << 14
	r := newRig(t, testnet.Flows{Number: flows}, "AGENT_QUEUE_MAX_BYTES=1MiB", "AGENT_INGRESS_HOOK=xdp",
		"AGENT_UDP_IDLE_TIMEOUT=1h", "AGENT_ACTIVE_TIMEOUT=1h")
	r.generator.Send(t, flows)
	r.agent.terminate(t)
	r.checkFlows(t, flows, "shutdown")
}

// TestBurst: a whole map that goes idle at once does not overflow the queue of a weir whose Brain accepts.
func TestBurst(t *testing.T) {
	const flows = 1 << 16
	r := newRig(t, testnet.Flows{Number: flows}, "AGENT_QUEUE_MAX_BYTES=1MiB", "AGENT_INGRESS_HOOK=xdp",
		"AGENT_UDP_IDLE_TIMEOUT=1s")
	r.generator.Send(t, flows)
	testnet.Eventually(t, "the Brain has an event of each flow", func() bool { return r.brain.Received() >= flows })
	r.checkMetrics(t, map[string]uint64{`weir_dropped_events_total{reason="queue_full"}`: 0, "weir_delivered_events_total": flows})
	r.agent.terminate(t)
	r.checkFlows(t, flows, "idle")
}

// TestSmallMap: what a full map evicts is counted on its own, and makes up the rest of what was sent.
func TestSmallMap(t *testing.T) {
	const flows = 1 << 16
	r := newRig(t, testnet.Flows{Number: flows}, "AGENT_MAX_FLOWS=4096", "AGENT_INGRESS_HOOK=xdp",
		"AGENT_UDP_IDLE_TIMEOUT=1s")
	r.generator.Send(t, flows)
	var exported, evicted float64
	testnet.Eventually(t, "each flow is exported or evicted", func() bool {
		exported = r.agent.metric(t, "weir_exported_packets_total")
		evicted = r.agent.metric(t, "weir_flow_evictions_total")
		return exported+evicted == flows && r.agent.metric(t, "weir_resident_flows") == 0
	})
	if exported < 4096 || exported > 4096*5/4 {
		t.Errorf("%.0f flows of one packet exported from a map of 4096", exported)
	}
	if packets := r.agent.metric(t, "weir_evicted_packets_total"); packets != evicted {
		t.Errorf("%.0f flows of one packet evicted, and %.0f packets", evicted, packets)
	}
	r.checkMetrics(t, map[string]uint64{"weir_unaccounted_packets": 0, "weir_counted_packets_total": flows})
	r.agent.terminate(t)
	if r.tally.packets != int64(exported) {
		t.Errorf("events sum to %d packets, want the %.0f exported", r.tally.packets, exported)
	}
}
