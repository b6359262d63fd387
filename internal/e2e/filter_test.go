package e2e

import (
	"fmt"
	"testing"
	"time"

	"weir/internal/testbrain"
	"weir/internal/testnet"
)

// TestFilter delivers the flows that match and no others, and every other packet is accounted for.
func TestFilter(t *testing.T) {
	const rounds = 50
	near, far := testnet.NewNamespace(t), testnet.NewNamespace(t)
	out, _ := testnet.Veth(t, testnet.End{Namespace: near, Name: "out"}, testnet.End{Namespace: far, Name: "in"})
	matching := [][]byte{
		testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 30).Bytes(),
		testnet.UDP("[fd00::1]:1000", "[fd00::2]:53", 30).VLAN(7).Bytes(),
	}
	others := [][]byte{
		testnet.UDP("10.0.0.1:1000", "10.0.0.2:54", 30).Bytes(),
		testnet.UDP("10.0.0.9:1000", "10.0.0.2:53", 30).Bytes(),
		testnet.Ethernet(0x0806, make([]byte, 28)).Bytes(),
	}
	for _, hook := range []string{"xdp", "tc"} {
		t.Run(hook, func(t *testing.T) {
			brain := brainIn(t, far, testbrain.Options{})
			a := start(t, far, "AGENT_INTERFACE=in", "AGENT_INGRESS_HOOK="+hook, "AGENT_ENDPOINT_URL="+brain.URL(),
				"AGENT_SEND_INTERVAL=0.2", "AGENT_BPF_FILTER=udp port 53 and not host 10.0.0.9 or (vlan 7 and ip6 and udp)")
			for range rounds {
				out.Send(t, matching...)
				out.Send(t, others...)
			}
			(&rig{agent: a}).checkMetrics(t, map[string]uint64{
				fmt.Sprintf(`weir_seen_packets_total{hook="%s_ingress"}`, hook): rounds * 5,
				"weir_counted_packets_total":                                    rounds * 2,
				`weir_uncounted_packets_total{reason="filtered"}`:               rounds * 3,
				`weir_uncounted_packets_total{reason="not_ip"}`:                 0,
			})
			a.terminate(t)
			brain.WaitFor(t, len(matching), 10*time.Second)
			var packets int64
			for _, e := range brain.Events() {
				packets += e.PacketCount
				if e.DstPort != "53" || e.SrcIP == "10.0.0.9" {
					t.Errorf("event of %s", e.FlowID)
				}
			}
			if n := brain.Received(); n != len(matching) || packets != rounds*2 {
				t.Errorf("%d events of %d packets, want %d of %d", n, packets, len(matching), rounds*2)
			}
		})
	}
}

// TestBadFilter ends the start with one line that names the place of the fault.
func TestBadFilter(t *testing.T) {
	a := launch(t, testnet.NewNamespace(t), "AGENT_BPF_FILTER=udp prt 53")
	a.wait(t, 10*time.Second)
	want := "weir: AGENT_BPF_FILTER=\"udp prt 53\": at column 5: \"prt\", where only and, or, or the end can be\n"
	if got := a.stderr.String(); a.exitCode() != 2 || got != want {
		t.Errorf("exit code %d, %q\nwant 2, %q", a.exitCode(), got, want)
	}
}
