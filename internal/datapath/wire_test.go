package datapath

import (
	"testing"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// TestWire sends frames through the network stack, which hands them to the programs in shapes that a test run cannot
// make: in fragments, with the headers outside the linear part, with the VLAN tag beside the frame.
func TestWire(t *testing.T) {
	plain := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 100)
	// The kernel builds a frame of more than a page from user space with nothing but its Ethernet header linear.
	jumbo := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 8000)
	for _, row := range []struct {
		name   string
		packet testnet.Packet
		hook   string
		attach func(kernel, *testing.T, *testnet.Link, *testnet.Link)
	}{
		{"jumbo, XDP", jumbo, "xdp_ingress", onIngress(IngressXDP)},
		{"jumbo, generic XDP", jumbo, "xdp_ingress", onIngress(IngressXDPGeneric)},
		{"jumbo, tc ingress", jumbo, "tc_ingress", onIngress(IngressTC)},
		{"jumbo, tc egress", jumbo, "tc_egress", onEgress},
		{"jumbo in a VLAN, tc egress", jumbo.VLAN(7), "tc_egress", onEgress},
		{"VLAN, XDP", plain.VLAN(7), "xdp_ingress", onIngress(IngressXDP)},
		{"VLAN, tc ingress: the tag is taken out", plain.VLAN(7), "tc_ingress", onIngress(IngressTC)},
		{"VLAN, tc egress", plain.VLAN(7), "tc_egress", onEgress},
	} {
		t.Run(row.name, func(t *testing.T) {
			k := newKernel(t, 1024)
			out, in := testnet.Veth(t,
				testnet.End{Namespace: testnet.NewNamespace(t), Name: "out", MTU: 9000},
				testnet.End{Namespace: testnet.NewNamespace(t), Name: "in", MTU: 9000})
			row.attach(k, t, out, in)
			frame := row.packet.Bytes()
			out.Send(t, frame)
			testnet.Eventually(t, "the frame is seen", func() bool { return k.ledger(t).Seen[row.hook].Packets == 1 })
			counted := flow.Counter{Packets: 1, Bytes: uint64(len(frame))}
			checkLedger(t, k.ledger(t), row.hook, counted, map[string]flow.Counter{"counted": counted})
			records, _ := k.records(t, k.SweepOut)
			if len(records) != 1 {
				t.Fatalf("%d records, want 1", len(records))
			}
			checkRecord(t, &records[0], "10.0.0.1:1000", "10.0.0.2:53", udp, counted, 0)
		})
	}
}

func onIngress(hook IngressHook) func(kernel, *testing.T, *testnet.Link, *testnet.Link) {
	return func(k kernel, t *testing.T, _, in *testnet.Link) { k.attach(t, in, hook) }
}

func onEgress(k kernel, t *testing.T, out, _ *testnet.Link) {
	k.attachTo(t, out, onLink(out), Egress, IngressAuto)
}
