package datapath

import (
	"fmt"
	"slices"
	"testing"

	"weir/internal/testnet"
)

// TestMirrored counts both directions of a mirrored connection together, which come the same way, and what is in a mirrored tunnel
// in that one: apart from equal ones in another session, but no deeper than that.
func TestMirrored(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Decap: allTunnels()})
	mirrored := func(session byte, p testnet.Packet) []byte {
		return testnet.IP("10.0.0.8", "10.0.0.9", 47,
			append([]byte{0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 0, 0, session, 0, 0, 0, 0}, p.Bytes()...)).Bytes()
	}
	there := testnet.UDP("192.168.0.1:1000", "192.168.0.2:53", 10)
	back := testnet.UDP("192.168.0.2:53", "192.168.0.1:1000", 10)
	inGRE := testnet.IP("172.16.0.1", "172.16.0.2", 47, append([]byte{0, 0, 8, 0}, network(there)...))
	for _, frame := range [][]byte{
		mirrored(1, there), mirrored(1, back), mirrored(2, there),
		mirrored(1, vxlan("10.0.0.1:1", "10.0.0.2:4789", there)), mirrored(1, vxlan("10.0.0.2:1", "10.0.0.1:4789", back)),
		mirrored(2, vxlan("10.0.0.1:1", "10.0.0.2:4789", there)), vxlan("10.0.0.1:1", "10.0.0.2:4789", there).Bytes(),
		mirrored(3, vxlan("10.0.0.1:1", "10.0.0.2:4789", inGRE)),
	} {
		k.run(t, kernelProgTcIngress, frame, nil)
	}
	records, _ := k.records(t, k.SweepOut)
	var got []string
	for _, r := range records {
		if r.Tunnel == nil {
			t.Fatalf("%v is in no tunnel", r.Key)
		}
		got = append(got, fmt.Sprintf("%s %d %v protocol %d: %d, %d",
			r.Tunnel.Kind, r.Tunnel.ID, r.Tunnel.Ends, r.Key.Protocol, r.Halves[0].Packets, r.Halves[1].Packets))
	}
	slices.Sort(got)
	want := []string{
		"erspan 1 [10.0.0.8 10.0.0.9] protocol 17: 1, 1",
		"erspan 2 [10.0.0.8 10.0.0.9] protocol 17: 1, 0",
		"vxlan 66051 [10.0.0.1 10.0.0.2] protocol 17: 1, 0", // in no other,
		"vxlan 66051 [10.0.0.1 10.0.0.2] protocol 17: 1, 0", // in session 2
		"vxlan 66051 [10.0.0.1 10.0.0.2] protocol 17: 1, 1", // and in session 1
		"vxlan 66051 [10.0.0.1 10.0.0.2] protocol 47: 1, 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("records %q, want %q", got, want)
	}
}

// TestMirroredVLAN: a mirrored frame is in the VLAN of its tag or, if the mirror took that out, of the header of ERSPAN.
func TestMirroredVLAN(t *testing.T) {
	typeII := func(vlan, trunk byte) []byte {
		return []byte{0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, vlan, trunk << 3, 1, 0, 0, 0, 0}
	}
	typeIII := []byte{0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 7, 0x18, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	rows := []struct {
		name   string
		header []byte
		frame  testnet.Packet
		want   uint16
	}{
		{"never had a tag", typeII(6, 0), innerTCP, 6},
		{"the tag taken out", typeII(7, 2), innerTCP, 7},
		{"tags are kept", typeII(7, 3), innerTCP, 0},
		{"with its tag", typeII(7, 3), innerTCP.VLAN(5), 5},
		{"with an inner tag", typeII(7, 2), innerTCP.VLAN(5), 5},
		{"type III", typeIII, innerTCP, 7},
	}
	for _, apart := range []bool{true, false} {
		k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, VLANZones: apart, Decap: allTunnels()})
		for _, row := range rows {
			k.run(t, kernelProgTcIngress, testnet.IP("10.0.0.8", "10.0.0.9", 47, append(row.header, row.frame.Bytes()...)).Bytes(), nil)
			records, _ := k.records(t, k.SweepOut)
			want := row.want
			if !apart {
				want = 0
			}
			if len(records) != 1 || records[0].Tunnel == nil || records[0].VLAN != want {
				t.Errorf("%s, kept apart %t: records %+v, want one in VLAN %d", row.name, apart, records, want)
			}
		}
	}
}
