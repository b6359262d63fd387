package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// allTunnels has the contents of every tunnel counted.
func allTunnels() map[flow.TunnelKind]uint16 {
	all := map[flow.TunnelKind]uint16{}
	for _, kind := range flow.TunnelKinds() {
		all[kind] = kind.DefaultPort()
	}
	return all
}

// vxlan puts a frame into a tunnel with VNI 0x010203 (RFC 7348).
func vxlan(src, dst string, inner testnet.Packet) testnet.Packet {
	return testnet.Datagram(src, dst, append([]byte{8, 0, 0, 0, 1, 2, 3, 0}, inner.Bytes()...))
}

// network is a packet without its Ethernet header.
func network(p testnet.Packet) []byte { return p.Bytes()[14:] }

var (
	innerTCP  = testnet.TCP("192.168.0.9:40000", "192.168.0.2:443", testnet.ACK, 20)
	innerUDP6 = testnet.UDP("[fd00::1]:1000", "[fd00::2]:53", 20)
)

// tunnels are the shapes that weir looks into. Outer is where the headers end that make the outer flow, all is where those of
// the inner transport end.
var tunnels = []struct {
	name               string
	frame              []byte
	outerSrc, outerDst string
	outerProtocol      uint8
	src, dst           string
	protocol           uint8
	flags              uint16
	kind               flow.TunnelKind
	id                 uint32
	outer, all         int
}{
	{
		"VXLAN", vxlan("10.0.0.1:50000", "10.0.0.2:4789", innerTCP).Bytes(),
		"10.0.0.1:50000", "10.0.0.2:4789", udp, "192.168.0.9:40000", "192.168.0.2:443", tcp, 0x10,
		flow.TunnelVXLAN, 0x010203, 14 + 20 + 8, 14 + 20 + 8 + 8 + 14 + 20 + 20,
	},
	{
		"VXLAN over IPv6 in a VLAN, a VLAN in it", vxlan("[fd01::2]:50000", "[fd01::1]:4789", innerUDP6.VLAN(5)).VLAN(7).Bytes(),
		"[fd01::2]:50000", "[fd01::1]:4789", udp, "[fd00::1]:1000", "[fd00::2]:53", udp, 0,
		flow.TunnelVXLAN, 0x010203, 18 + 40 + 8, 18 + 40 + 8 + 8 + 18 + 40 + 8,
	},
	{
		"Geneve with a frame, and options",
		testnet.Datagram("10.0.0.1:50000", "10.0.0.2:6081",
			append([]byte{2, 0, 0x65, 0x58, 0, 0, 9, 0, 1, 1, 1, 1, 2, 2, 2, 2}, innerTCP.Bytes()...)).Bytes(),
		"10.0.0.1:50000", "10.0.0.2:6081", udp, "192.168.0.9:40000", "192.168.0.2:443", tcp, 0x10,
		flow.TunnelGeneve, 9, 14 + 20 + 8, 14 + 20 + 8 + 16 + 14 + 20 + 20,
	},
	{
		"Geneve with IPv6",
		testnet.Datagram("10.0.0.1:50000", "10.0.0.2:6081", append([]byte{0, 0, 0x86, 0xdd, 0, 0, 9, 0}, network(innerUDP6)...)).Bytes(),
		"10.0.0.1:50000", "10.0.0.2:6081", udp, "[fd00::1]:1000", "[fd00::2]:53", udp, 0,
		flow.TunnelGeneve, 9, 14 + 20 + 8, 14 + 20 + 8 + 8 + 40 + 8,
	},
	{
		"GRE", testnet.IP("10.0.0.1", "10.0.0.2", 47, append([]byte{0, 0, 8, 0}, network(innerTCP)...)).Bytes(),
		"10.0.0.1:0", "10.0.0.2:0", 47, "192.168.0.9:40000", "192.168.0.2:443", tcp, 0x10,
		flow.TunnelGRE, 0, 14 + 20, 14 + 20 + 4 + 20 + 20,
	},
	{
		"ERSPAN type I", testnet.IP("10.0.0.1", "10.0.0.2", 47, append([]byte{0, 0, 0x88, 0xbe}, innerTCP.Bytes()...)).Bytes(),
		"10.0.0.1:0", "10.0.0.2:0", 47, "192.168.0.9:40000", "192.168.0.2:443", tcp, 0x10,
		flow.TunnelERSPAN, 0, 14 + 20, 14 + 20 + 4 + 14 + 20 + 20,
	},
	{
		"ERSPAN type II, a VLAN in it",
		testnet.IP("fd01::2", "fd01::1", 47,
			append([]byte{0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 7, 0xfd, 0x14, 0, 0, 0, 9}, innerUDP6.VLAN(5).Bytes()...)).Bytes(),
		"[fd01::2]:0", "[fd01::1]:0", 47, "[fd00::1]:1000", "[fd00::2]:53", udp, 0,
		flow.TunnelERSPAN, 0x114, 14 + 40, 14 + 40 + 8 + 8 + 18 + 40 + 8,
	},
	{
		"ERSPAN type III",
		testnet.IP("10.0.0.1", "10.0.0.2", 47,
			append([]byte{0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 7, 0, 3, 9, 9, 9, 9, 8, 8, 0x83, 0xfe}, innerTCP.Bytes()...)).Bytes(),
		"10.0.0.1:0", "10.0.0.2:0", 47, "192.168.0.9:40000", "192.168.0.2:443", tcp, 0x10,
		flow.TunnelERSPAN, 3, 14 + 20, 14 + 20 + 8 + 12 + 14 + 20 + 20,
	},
	{
		"ERSPAN type III with IP behind a subheader",
		testnet.IP("10.0.0.1", "10.0.0.2", 47, append([]byte{
			0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 7, 0, 3, 9, 9, 9, 9, 8, 8, 0x8b, 0xff, 7, 7, 7, 7, 7, 7, 7, 7,
		}, network(innerUDP6)...)).Bytes(),
		"10.0.0.1:0", "10.0.0.2:0", 47, "[fd00::1]:1000", "[fd00::2]:53", udp, 0,
		flow.TunnelERSPAN, 3, 14 + 20, 14 + 20 + 8 + 20 + 40 + 8,
	},
	{
		"GRE with a frame, and checksum, key and sequence number",
		testnet.IP("fd01::1", "fd01::2", 47,
			append([]byte{0xb0, 0, 0x65, 0x58, 9, 9, 0, 0, 0xca, 0xfe, 0, 1, 0, 0, 0, 3}, innerTCP.Bytes()...)).Bytes(),
		"[fd01::1]:0", "[fd01::2]:0", 47, "192.168.0.9:40000", "192.168.0.2:443", tcp, 0x10,
		flow.TunnelGRE, 0xcafe0001, 14 + 40, 14 + 40 + 16 + 14 + 20 + 20,
	},
	{
		"IPv4 in IPv4", testnet.IP("10.0.0.1", "10.0.0.2", 4, network(innerTCP)).Bytes(),
		"10.0.0.1:0", "10.0.0.2:0", 4, "192.168.0.9:40000", "192.168.0.2:443", tcp, 0x10,
		flow.TunnelIPIP, 0, 14 + 20, 14 + 20 + 20 + 20,
	},
	{
		"IPv6 in IPv4", testnet.IP("10.0.0.1", "10.0.0.2", 41, network(innerUDP6)).Bytes(),
		"10.0.0.1:0", "10.0.0.2:0", 41, "[fd00::1]:1000", "[fd00::2]:53", udp, 0,
		flow.TunnelIPIP, 0, 14 + 20, 14 + 20 + 40 + 8,
	},
	{
		"IPv4 in IPv6, behind options",
		testnet.IP("fd01::1", "fd01::2", 4, network(innerTCP)).Extension(testnet.DestinationOptions, 8).Bytes(),
		"[fd01::1]:0", "[fd01::2]:0", 4, "192.168.0.9:40000", "192.168.0.2:443", tcp, 0x10,
		flow.TunnelIPIP, 0, 14 + 40 + 8, 14 + 40 + 8 + 20 + 20,
	},
	{
		"GTP-U",
		testnet.Datagram("10.0.0.1:2152", "10.0.0.2:2152", append([]byte{0x30, 255, 0, 60, 0, 0, 1, 2}, network(innerTCP)...)).Bytes(),
		"10.0.0.1:2152", "10.0.0.2:2152", udp, "192.168.0.9:40000", "192.168.0.2:443", tcp, 0x10,
		flow.TunnelGTPU, 0x0102, 14 + 20 + 8, 14 + 20 + 8 + 8 + 20 + 20,
	},
	{
		"GTP-U with a sequence number and two extension headers",
		testnet.Datagram("10.0.0.1:2152", "10.0.0.2:2152",
			append([]byte{0x36, 255, 0, 60, 0, 0, 1, 2, 0, 1, 0, 0x85, 1, 0, 9, 0xc0, 2, 0, 0, 0, 0, 0, 0, 0}, network(innerUDP6)...)).Bytes(),
		"10.0.0.1:2152", "10.0.0.2:2152", udp, "[fd00::1]:1000", "[fd00::2]:53", udp, 0,
		flow.TunnelGTPU, 0x0102, 14 + 20 + 8, 14 + 20 + 8 + 24 + 40 + 8,
	},
}

// TestTunnels passes each shape through each hook, whole and cut at every byte. What is cut in the tunnel counts in the
// tunnel's flow; without decapsulation everything does.
func TestTunnels(t *testing.T) {
	for _, decap := range []map[flow.TunnelKind]uint16{nil, allTunnels()} {
		k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Decap: decap})
		for _, shape := range tunnels {
			for _, hook := range hooks {
				t.Run(fmt.Sprintf("%s/%s/decap %t", shape.name, hook, decap != nil), func(t *testing.T) {
					before := k.ledger(t)
					var seen, truncated, outer, inner flow.Counter
					for size := shortest(hook, shape.frame); size <= len(shape.frame); size++ {
						fate := &inner
						switch {
						case size < shape.outer:
							fate = &truncated
						case size < shape.all || decap == nil:
							fate = &outer
						}
						for _, c := range []*flow.Counter{&seen, fate} {
							c.Packets++
							c.Bytes += uint64(size)
						}
						k.run(t, hook, shape.frame[:size], nil)
					}
					checkLedger(t, since(k.ledger(t), before), hook, seen, map[string]flow.Counter{
						"counted": {Packets: outer.Packets + inner.Packets, Bytes: outer.Bytes + inner.Bytes}, "truncated": truncated,
					})
					records, _ := k.records(t, k.SweepOut)
					i := slices.IndexFunc(records, func(r flow.Record) bool { return r.Tunnel == nil })
					if i < 0 {
						t.Fatalf("no record of the outer flow in %+v", records)
					}
					checkRecord(t, &records[i], shape.outerSrc, shape.outerDst, shape.outerProtocol, outer, 0)
					records = slices.Delete(records, i, i+1)
					if decap == nil && len(records) == 0 {
						return
					}
					if len(records) != 1 {
						t.Fatalf("records %+v, want one of the inner flow", records)
					}
					r := records[0]
					r.Key.Zone = 0
					checkRecord(t, &r, shape.src, shape.dst, shape.protocol, inner, shape.flags)
					checkTunnel(t, &r, shape.src, flow.Tunnel{Kind: shape.kind, ID: shape.id, Ends: [2]netip.Addr{
						netip.MustParseAddrPort(shape.outerSrc).Addr(), netip.MustParseAddrPort(shape.outerDst).Addr(),
					}})
				})
			}
		}
	}
}

// checkTunnel compares a record's tunnel with one that is told from the side of src, as a mirrored one is in any case.
func checkTunnel(t *testing.T, r *flow.Record, src string, want flow.Tunnel) {
	t.Helper()
	if r.Key.Ends[0] != netip.MustParseAddrPort(src) && want.Kind != flow.TunnelERSPAN {
		want.Ends[0], want.Ends[1] = want.Ends[1], want.Ends[0]
	}
	if r.Tunnel == nil || *r.Tunnel != want {
		t.Errorf("tunnel %+v, want %+v", r.Tunnel, want)
	}
}

// TestNoTunnels has frames that look like tunnels and count as what they are.
func TestNoTunnels(t *testing.T) {
	gre := func(header ...byte) testnet.Packet {
		return testnet.IP("10.0.0.1", "10.0.0.2", 47, append(header, network(innerTCP)...))
	}
	over := func(port int, header ...byte) testnet.Packet {
		return testnet.Datagram("10.0.0.1:1", fmt.Sprint("10.0.0.2:", port), append(header, network(innerTCP)...))
	}
	arp := testnet.Ethernet(0x0806, make([]byte, 28))
	for name, packet := range map[string]testnet.Packet{
		"VXLAN from its port":                vxlan("10.0.0.1:4789", "10.0.0.2:4790", innerTCP),
		"VXLAN without a VNI":                testnet.Datagram("10.0.0.1:1", "10.0.0.2:4789", append(make([]byte, 8), innerTCP.Bytes()...)),
		"VXLAN with ARP":                     vxlan("10.0.0.1:1", "10.0.0.2:4789", arp),
		"VXLAN with a malformed packet":      vxlan("10.0.0.1:1", "10.0.0.2:4789", testnet.Ethernet(0x0800, make([]byte, 40))),
		"Geneve of another version":          over(6081, 0x40, 0, 8, 0, 0, 0, 9, 0),
		"Geneve that controls":               over(6081, 0, 0x80, 8, 0, 0, 0, 9, 0),
		"Geneve with neither IP":             over(6081, 0, 0, 0x88, 0x47, 0, 0, 9, 0),
		"GRE version 1":                      gre(0, 1, 8, 0),
		"GRE with a source route":            gre(0x40, 0, 8, 0, 0, 0, 0, 0),
		"GRE with neither IP":                gre(0, 0, 0x88, 0x47),
		"ERSPAN type II of another version":  gre(0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x20, 0, 0, 0, 0, 0, 0, 0),
		"ERSPAN type III of another version": gre(0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"ERSPAN type III with another frame": gre(0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0),
		"GTP-U of another version":           over(2152, 0x50, 255, 0, 60, 0, 0, 1, 2),
		"GTP'":                               over(2152, 0x20, 255, 0, 60, 0, 0, 1, 2),
		"GTP-U echo request":                 over(2152, 0x30, 1, 0, 60, 0, 0, 1, 2),
		"GTP-U with an empty extension":      over(2152, 0x34, 255, 0, 60, 0, 0, 1, 2, 0, 0, 0, 0x85, 0),
		"GTP-U with too many extensions":     over(2152, append([]byte{0x34, 255, 0, 60, 0, 0, 1, 2, 0, 0, 0}, chain(5)...)...),
		"GTP-U with neither IP":              testnet.Datagram("10.0.0.1:1", "10.0.0.2:2152", append([]byte{0x30, 255, 0, 60, 0, 0, 1, 2}, make([]byte, 40)...)),
		"IPv6 that says it is IPv4":          testnet.IP("10.0.0.1", "10.0.0.2", 4, network(innerUDP6)),
		"an outer fragment":                  testnet.IP("fd00::3", "fd00::4", 4, network(innerTCP)).Extension(44, 8),
	} {
		t.Run(name, func(t *testing.T) {
			k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Decap: allTunnels()})
			k.run(t, kernelProgTcIngress, packet.Bytes(), nil)
			records, _ := k.records(t, k.SweepOut)
			if len(records) != 1 || records[0].Tunnel != nil || records[0].Key.Protocol == tcp {
				t.Errorf("records %+v, want one of the outer flow", records)
			}
		})
	}
}

// chain is so many extension headers of GTP-U, each of four octets, that begin with the kind of the first.
func chain(n int) (headers []byte) {
	headers = []byte{0x85}
	for i := range n {
		next := byte(0x85)
		if i == n-1 {
			next = 0
		}
		headers = append(headers, 1, 0, 0, next)
	}
	return headers
}

// TestTunnelsApart counts both directions of a connection in one tunnel together, and equal ones in separate tunnels apart.
func TestTunnelsApart(t *testing.T) {
	there := testnet.UDP("192.168.0.1:1000", "192.168.0.2:53", 10)
	back := testnet.UDP("192.168.0.2:53", "192.168.0.1:1000", 10)
	otherVNI := vxlan("10.0.0.1:1", "10.0.0.2:4789", there).Bytes()
	otherVNI[14+20+8+6]++
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, VLANZones: true, Decap: map[flow.TunnelKind]uint16{flow.TunnelVXLAN: 4789}})
	for _, frame := range [][]byte{
		there.Bytes(), vxlan("10.0.0.1:1", "10.0.0.2:4789", there).Bytes(), vxlan("10.0.0.2:2", "10.0.0.1:4789", back).Bytes(),
		otherVNI, vxlan("10.0.0.3:1", "10.0.0.2:4789", there).Bytes(), vxlan("10.0.0.1:1", "10.0.0.2:4789", there.VLAN(7)).Bytes(),
	} {
		k.run(t, kernelProgTcIngress, frame, nil)
	}
	records, _ := k.records(t, k.SweepOut)
	got := map[string]uint64{}
	for _, r := range records {
		name := "none"
		if r.Tunnel != nil {
			name = fmt.Sprintf("%s %#x %v vlan %d", r.Tunnel.Kind, r.Tunnel.ID, r.Tunnel.Ends, r.VLAN)
		}
		got[name] = r.Halves[0].Packets<<8 | r.Halves[1].Packets
	}
	want := map[string]uint64{
		"none": 0x100,
		"vxlan 0x10203 [10.0.0.1 10.0.0.2] vlan 0": 0x101,
		"vxlan 0x10204 [10.0.0.1 10.0.0.2] vlan 0": 0x100,
		"vxlan 0x10203 [10.0.0.3 10.0.0.2] vlan 0": 0x100,
		"vxlan 0x10203 [10.0.0.1 10.0.0.2] vlan 7": 0x100,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("packets by tunnel %#x, want %#x", got, want)
	}
}

// TestTunnelsInVLANs: where VLANs are kept apart, so are tunnels that are equal but for the VLAN around them.
func TestTunnelsInVLANs(t *testing.T) {
	frame := vxlan("10.0.0.1:1", "10.0.0.2:4789", innerTCP)
	for _, row := range []struct {
		apart bool
		want  []uint64 // packets of each record
	}{{false, []uint64{4}}, {true, []uint64{1, 1, 2}}} {
		k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, VLANZones: row.apart, Decap: allTunnels()})
		for _, p := range []testnet.Packet{frame, frame.VLAN(8), frame.VLAN(9), frame.VLAN(9)} {
			k.run(t, kernelProgTcIngress, p.Bytes(), nil)
		}
		records, _ := k.records(t, k.SweepOut)
		var got []uint64
		for _, r := range records {
			got = append(got, r.Halves[0].Packets+r.Halves[1].Packets)
		}
		slices.Sort(got)
		if !slices.Equal(got, row.want) {
			t.Errorf("kept apart %t: packets of the records %d, want %d", row.apart, got, row.want)
		}
	}
}

// TestFragmentsInTunnel relates fragments to their first within a tunnel, and not across two.
func TestFragmentsInTunnel(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Decap: allTunnels()})
	parts := testnet.UDP("192.168.0.1:1000", "192.168.0.2:53", 2000).Fragments(1480)
	inTunnel := func(src string, part []byte) []byte {
		return testnet.Datagram(src, "10.0.0.9:4789", append([]byte{8, 0, 0, 0, 0, 0, 1, 0}, part...)).Bytes()
	}
	for _, frame := range [][]byte{inTunnel("10.0.0.1:1", parts[0]), inTunnel("10.0.0.1:1", parts[1]), inTunnel("10.0.0.2:1", parts[1])} {
		k.run(t, kernelProgTcIngress, frame, nil)
	}
	records, _ := k.records(t, k.SweepOut)
	got := map[string]uint64{}
	for _, r := range records {
		got[fmt.Sprintf("%s behind %s", r.Key.Ends[0], r.Tunnel.Ends[0])] = r.Halves[0].Packets
	}
	want := map[string]uint64{"192.168.0.1:1000 behind 10.0.0.1": 2, "192.168.0.1:0 behind 10.0.0.2": 1}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("packets by source %v, want %v", got, want)
	}
}

// TestTunnelledSuperPackets weighs a super-packet in a tunnel with all of its headers, whether the tunnel is looked into or not.
func TestTunnelledSuperPackets(t *testing.T) {
	const segment = 500
	inner := testnet.TCP("192.168.0.9:40000", "192.168.0.2:443", testnet.ACK, 3*segment+100)
	for name, packet := range map[string]testnet.Packet{
		"VXLAN": vxlan("10.0.0.1:1", "10.0.0.2:4789", inner),
		"Linux": vxlan("10.0.0.1:1", "10.0.0.2:8472", inner),
		"GRE":   testnet.IP("10.0.0.1", "10.0.0.2", 47, append([]byte{0, 0, 8, 0}, network(inner)...)),
		"IPIP":  testnet.IP("10.0.0.1", "10.0.0.2", 4, network(inner)),
	} {
		for _, decap := range []map[flow.TunnelKind]uint16{nil, allTunnels()} {
			t.Run(fmt.Sprintf("%s, decap %t", name, decap != nil), func(t *testing.T) {
				k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Decap: decap})
				frame := packet.Bytes()
				headers := len(frame) - (3*segment + 100)
				wire := flow.Counter{Packets: 4, Bytes: uint64(len(frame) + 3*headers)}
				k.run(t, kernelProgTcIngress, frame, &skb{GSOSegs: 4, GSOSize: segment})
				checkLedger(t, k.ledger(t), kernelProgTcIngress, wire, map[string]flow.Counter{"counted": wire})
				records, _ := k.records(t, k.SweepOut)
				opened := decap != nil && name != "Linux"
				if len(records) != 1 || (records[0].Tunnel != nil) != opened {
					t.Errorf("records %+v", records)
				}
			})
		}
	}
}

// TestSuperPacketsOfTunnels has a super-packet of which the segments are packets of a tunnel, each with another flow in it, as
// UDP segmentation sends them: it counts in the tunnel's flow, with the tunnel's headers.
func TestSuperPacketsOfTunnels(t *testing.T) {
	const segments = 3
	var payload []byte
	for i := range segments {
		inner := network(testnet.UDP(fmt.Sprint("192.168.0.1:", 1000+i), "192.168.0.2:53", 100))
		payload = slices.Concat(payload, []byte{0x30, 255, 0, byte(len(inner)), 0, 0, 0, byte(i)}, inner)
	}
	frame := testnet.Datagram("10.0.0.1:2152", "10.0.0.2:2152", payload).Bytes()
	const headers = 14 + 20 + 8
	wire := flow.Counter{Packets: segments, Bytes: uint64(len(frame) + (segments-1)*headers)}
	for _, decap := range []map[flow.TunnelKind]uint16{nil, allTunnels()} {
		k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Decap: decap})
		k.run(t, kernelProgTcIngress, frame, &skb{GSOSegs: segments, GSOSize: uint32(len(payload) / segments)})
		l := k.ledger(t)
		checkLedger(t, l, kernelProgTcIngress, wire, map[string]flow.Counter{"counted": wire})
		want := uint64(0)
		if decap != nil {
			want = segments
		}
		if l.Unopened != want {
			t.Errorf("%d packets stayed in their tunnel, want %d", l.Unopened, want)
		}
		records, _ := k.records(t, k.SweepOut)
		if len(records) != 1 || records[0].Tunnel != nil {
			t.Fatalf("records %+v, want one of the tunnel's flow", records)
		}
		checkRecord(t, &records[0], "10.0.0.1:2152", "10.0.0.2:2152", udp, wire, 0)
	}
}

// TestZonesRunOut counts what is in a tunnel in the tunnel's flow when every zone is taken, until one is free again.
func TestZonesRunOut(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Decap: allTunnels()})
	for range endTunnelZone - firstTunnelZone - 1 {
		var zone uint32
		if err := k.zones.free.LookupAndDelete(nil, &zone); err != nil {
			t.Fatal(err)
		}
	}
	frame := func(vni uint16) []byte {
		f := vxlan("10.0.0.1:1", "10.0.0.2:4789", innerTCP).Bytes()
		binary.BigEndian.PutUint16(f[14+20+8+5:], vni)
		return f
	}
	names := func(sweep func() (flow.Resident, bool, error)) (all []string) {
		records, _ := k.records(t, sweep)
		for _, r := range records {
			name := "outer"
			if r.Tunnel != nil {
				name = fmt.Sprint("VNI ", r.Tunnel.ID&0xffff)
			}
			all = append(all, fmt.Sprintf("%s: %d", name, r.Halves[0].Packets+r.Halves[1].Packets))
		}
		slices.Sort(all)
		return all
	}
	for _, vni := range []uint16{1, 1, 2} {
		k.run(t, kernelProgTcIngress, frame(vni), nil)
	}
	if got := k.ledger(t).Unopened; got != 1 {
		t.Errorf("%d packets stayed in their tunnel, want 1", got)
	}
	if got := names(k.SweepOut); fmt.Sprint(got) != "[VNI 1: 2 outer: 1]" {
		t.Errorf("records %q", got)
	}
	k.run(t, kernelProgTcIngress, frame(1), nil)
	sweep := func() (flow.Resident, bool, error) { return k.Sweep(now(), flow.Limits{Active: time.Hour}) }
	var all []string
	testnet.Eventually(t, "the zone is free again", func() bool {
		all = append(all, names(sweep)...)
		k.run(t, kernelProgTcIngress, frame(3), nil)
		all = append(all, names(sweep)...)
		return slices.Contains(all, "VNI 3: 1")
	})
	if !slices.Contains(all, "VNI 1: 1") {
		t.Errorf("records %q, want what was in the tunnel that is gone", all)
	}
}
