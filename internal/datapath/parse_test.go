package datapath

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"weir/internal/flow"
	"weir/internal/testnet"
)

const (
	tcp    = 6
	udp    = 17
	icmp   = 1
	icmpv6 = 58
)

// shapes are the frames that weir reads. Headers is where the transport header ends: a frame cut before it is truncated.
var shapes = []struct {
	name     string
	frame    []byte
	src, dst string
	protocol uint8
	headers  int
	flags    uint16
}{
	{
		"UDP, lower end first", testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 30).Bytes(),
		"10.0.0.1:1000", "10.0.0.2:53", udp, 14 + 20 + 8, 0,
	},
	{
		"UDP, higher end first", testnet.UDP("10.0.0.2:53", "10.0.0.1:1000", 30).Bytes(),
		"10.0.0.2:53", "10.0.0.1:1000", udp, 14 + 20 + 8, 0,
	},
	{
		"bytes decide, not words", testnet.UDP("1.0.0.2:53", "2.0.0.1:1000", 0).Bytes(),
		"1.0.0.2:53", "2.0.0.1:1000", udp, 14 + 20 + 8, 0,
	},
	{
		"same address, ports decide", testnet.UDP("10.0.0.1:256", "10.0.0.1:255", 0).Bytes(),
		"10.0.0.1:256", "10.0.0.1:255", udp, 14 + 20 + 8, 0,
	},
	{
		"the same endpoint twice", testnet.UDP("10.0.0.1:7", "10.0.0.1:7", 0).Bytes(),
		"10.0.0.1:7", "10.0.0.1:7", udp, 14 + 20 + 8, 0,
	},
	{
		"TCP", testnet.TCP("10.0.0.9:40000", "10.0.0.2:443", testnet.ACK|testnet.PSH|testnet.ECE, 100).Bytes(),
		"10.0.0.9:40000", "10.0.0.2:443", tcp, 14 + 20 + 20, 0x58,
	},
	{
		"IPv4 options", testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 30).IPOptions(12).Bytes(),
		"10.0.0.1:1000", "10.0.0.2:53", udp, 14 + 32 + 8, 0,
	},
	{
		"all IPv4 options", testnet.TCP("10.0.0.1:1000", "10.0.0.2:53", testnet.ACK, 0).IPOptions(40).Bytes(),
		"10.0.0.1:1000", "10.0.0.2:53", tcp, 14 + 60 + 20, 0x10,
	},
	{
		"VLAN", testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 30).VLAN(7).Bytes(),
		"10.0.0.1:1000", "10.0.0.2:53", udp, 18 + 20 + 8, 0,
	},
	{
		"IPv6 UDP", testnet.UDP("[fd00::1]:1000", "[fd00::2]:53", 30).Bytes(),
		"[fd00::1]:1000", "[fd00::2]:53", udp, 14 + 40 + 8, 0,
	},
	{
		"IPv6, low half decides", testnet.UDP("[fd00::100]:1000", "[fd00::2]:53", 30).Bytes(),
		"[fd00::100]:1000", "[fd00::2]:53", udp, 14 + 40 + 8, 0,
	},
	{
		"IPv6, high half decides", testnet.TCP("[fd00:0:1::1]:1000", "[fd00::ffff]:53", testnet.ACK, 3).Bytes(),
		"[fd00:0:1::1]:1000", "[fd00::ffff]:53", tcp, 14 + 40 + 20, 0x10,
	},
	{
		"IPv6 in a VLAN", testnet.UDP("[fd00::1]:1000", "[fd00::2]:53", 30).VLAN(4095).Bytes(),
		"[fd00::1]:1000", "[fd00::2]:53", udp, 18 + 40 + 8, 0,
	},
	{
		"ICMP echo request", testnet.ICMP("10.0.0.1", "10.0.0.2", 8, 0, 56).Bytes(),
		"10.0.0.1:0", "10.0.0.2:2048", icmp, 14 + 20 + 8, 0,
	},
	{
		"ICMP port unreachable", testnet.ICMP("10.0.0.2", "10.0.0.1", 3, 3, 28).Bytes(),
		"10.0.0.2:0", "10.0.0.1:771", icmp, 14 + 20 + 8, 0,
	},
	{
		"ICMPv6 echo reply", testnet.ICMP("fd00::2", "fd00::1", 129, 0, 56).Bytes(),
		"[fd00::2]:0", "[fd00::1]:33024", icmpv6, 14 + 40 + 4, 0,
	},
	{
		"a protocol without ports", testnet.IP("10.0.0.1", "10.0.0.2", 47, make([]byte, 24)).Bytes(),
		"10.0.0.1:0", "10.0.0.2:0", 47, 14 + 20, 0,
	},
	{
		"two VLAN tags", testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 30).VLAN(7, 8).Bytes(),
		"10.0.0.1:1000", "10.0.0.2:53", udp, 22 + 20 + 8, 0,
	},
	{
		"three VLAN tags", testnet.TCP("[fd00::1]:1000", "[fd00::2]:53", testnet.ACK, 30).VLAN(7, 8, 9).Bytes(),
		"[fd00::1]:1000", "[fd00::2]:53", tcp, 26 + 40 + 20, 0x10,
	},
	{
		"PPPoE with IPv4", behind(udp4, 0x8864, pppoe(0x0021)),
		"10.0.0.1:1000", "10.0.0.2:53", udp, 14 + 8 + 20 + 8, 0,
	},
	{
		"PPPoE with IPv6", behind(udp6, 0x8864, pppoe(0x0057)),
		"[fd00::1]:1000", "[fd00::2]:53", udp, 14 + 8 + 40 + 8, 0,
	},
	{
		"one MPLS label", behind(udp4, 0x8847, labels(1)),
		"10.0.0.1:1000", "10.0.0.2:53", udp, 14 + 4 + 20 + 8, 0,
	},
	{
		"four MPLS labels over IPv6", behind(udp6, 0x8848, labels(4)),
		"[fd00::1]:1000", "[fd00::2]:53", udp, 14 + 16 + 40 + 8, 0,
	},
	{
		"IPv6 hop-by-hop options", udp6.Extension(testnet.HopByHop, 16).Bytes(),
		"[fd00::1]:1000", "[fd00::2]:53", udp, 14 + 40 + 16 + 8, 0,
	},
	{
		"IPv6 routing header", udp6.Extension(testnet.Routing, 24).Bytes(),
		"[fd00::1]:1000", "[fd00::2]:53", udp, 14 + 40 + 24 + 8, 0,
	},
	{
		"IPv6 authentication header", udp6.Extension(testnet.Authentication, 24).Bytes(),
		"[fd00::1]:1000", "[fd00::2]:53", udp, 14 + 40 + 24 + 8, 0,
	},
	{
		"a chain of IPv6 extension headers",
		testnet.TCP("[fd00::1]:1000", "[fd00::2]:53", testnet.ACK, 30).Extension(testnet.HopByHop, 8).
			Extension(testnet.DestinationOptions, 16).Extension(testnet.Routing, 24).Extension(testnet.Authentication, 16).
			Extension(testnet.DestinationOptions, 8).Bytes(),
		"[fd00::1]:1000", "[fd00::2]:53", tcp, 14 + 40 + 8 + 16 + 24 + 16 + 8 + 20, 0x10,
	},
	{
		"IPv6 mobility header with something behind it", udp6.Extension(testnet.Mobility, 16).Bytes(),
		"[fd00::1]:1000", "[fd00::2]:53", udp, 14 + 40 + 16 + 8, 0,
	},
	{
		"IPv6 mobility message", testnet.IP("fd00::1", "fd00::2", testnet.Mobility, append([]byte{59}, make([]byte, 15)...)).Bytes(),
		"[fd00::1]:0", "[fd00::2]:0", testnet.Mobility, 14 + 40 + 1, 0,
	},
	{
		"IPv6 fragment that is the whole datagram", atomicFragment(),
		"[fd00::1]:1000", "[fd00::2]:53", udp, 14 + 40 + 8 + 8, 0,
	},
	{
		"SCTP", testnet.IP("10.0.0.1", "10.0.0.2", 132, append([]byte{0x03, 0xe8, 0x00, 0x35}, make([]byte, 20)...)).Bytes(),
		"10.0.0.1:1000", "10.0.0.2:53", 132, 14 + 20 + 12, 0,
	},
	{
		"UDP-Lite", testnet.IP("fd00::1", "fd00::2", 136, append([]byte{0x03, 0xe8, 0x00, 0x35}, make([]byte, 20)...)).Bytes(),
		"[fd00::1]:1000", "[fd00::2]:53", 136, 14 + 40 + 8, 0,
	},
	{
		"DCCP", testnet.IP("10.0.0.1", "10.0.0.2", 33, append([]byte{0x03, 0xe8, 0x00, 0x35}, make([]byte, 20)...)).Bytes(),
		"10.0.0.1:1000", "10.0.0.2:53", 33, 14 + 20 + 12, 0,
	},
	{
		"no next header", testnet.IP("fd00::1", "fd00::2", 59, make([]byte, 24)).Bytes(),
		"[fd00::1]:0", "[fd00::2]:0", 59, 14 + 40, 0,
	},
}

var (
	udp4 = testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 30)
	udp6 = testnet.UDP("[fd00::1]:1000", "[fd00::2]:53", 30)
)

// behind puts a header between a packet's Ethernet header, which it gives another EtherType, and the rest.
func behind(p testnet.Packet, etherType uint16, header []byte) []byte {
	frame := p.Bytes()
	out := binary.BigEndian.AppendUint16(slices.Clone(frame[:12]), etherType)
	return append(append(out, header...), frame[14:]...)
}

// atomicFragment is a packet with a fragment header, of which it is the only fragment (RFC 6946).
func atomicFragment() []byte {
	frame := udp6.Extension(44, 8).Bytes()
	frame[14+40+2], frame[14+40+3] = 0, 0 // offset and more
	return frame
}

// pppoe is a PPPoE session header and the PPP protocol field.
func pppoe(protocol uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{0x11, 0, 0, 1, 0, 60}, protocol)
}

// labels is a stack of MPLS labels.
func labels(n int) (stack []byte) {
	for i := range n {
		bottom := byte(0)
		if i == n-1 {
			bottom = 1
		}
		stack = append(stack, 0, 0x10, bottom, 64)
	}
	return stack
}

var hooks = []string{kernelProgXdpIngress, kernelProgTcIngress, kernelProgTcEgress}

// TestShapes passes each shape through each hook, whole and cut at every byte, and compares all that is known after.
func TestShapes(t *testing.T) {
	k := newKernel(t, 1024)
	for _, shape := range shapes {
		for _, hook := range hooks {
			t.Run(fmt.Sprintf("%s/%s", shape.name, hook), func(t *testing.T) {
				before := k.ledger(t)
				var seen, counted, truncated flow.Counter
				for size := shortest(hook, shape.frame); size <= len(shape.frame); size++ {
					fate := &counted
					if size < shape.headers {
						fate = &truncated
					}
					for _, c := range []*flow.Counter{&seen, fate} {
						c.Packets++
						c.Bytes += uint64(size)
					}
					k.run(t, hook, shape.frame[:size], nil)
				}
				checkLedger(t, since(k.ledger(t), before), hook, seen, map[string]flow.Counter{
					"counted": counted, "truncated": truncated,
				})
				records, resident := k.records(t, k.SweepOut)
				if len(records) != 1 || resident != (flow.Resident{}) {
					t.Fatalf("%d records and %+v left, want 1 and none", len(records), resident)
				}
				checkRecord(t, &records[0], shape.src, shape.dst, shape.protocol, counted, shape.flags)
			})
		}
	}
}

// shortest returns how short a frame the kernel lets a test run a program on: an Ethernet header and, for an skb of IP,
// its fixed header.
func shortest(hook string, frame []byte) int {
	if hook == kernelProgXdpIngress {
		return 14
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		return 14 + 20
	case unix.ETH_P_IPV6:
		return 14 + 40
	default:
		return 14
	}
}

func checkRecord(t *testing.T, r *flow.Record, src, dst string, protocol uint8, sent flow.Counter, flags uint16) {
	t.Helper()
	want, from := key(src, dst, protocol)
	if r.Key != want {
		t.Errorf("key %+v, want %+v", r.Key, want)
	}
	half, other := r.Halves[from], r.Halves[1-from]
	if got := (flow.Counter{Packets: half.Packets, Bytes: half.Bytes}); got != sent || half.TCPFlags != flags {
		t.Errorf("sent %+v with flags %#x, want %+v with %#x", got, half.TCPFlags, sent, flags)
	}
	if other != (flow.Half{}) {
		t.Errorf("the other direction has %+v, want nothing", other)
	}
	if half.FirstNs == 0 || half.FirstNs > half.LastNs || half.LastNs > now() {
		t.Errorf("first at %d, last at %d, now %d", half.FirstNs, half.LastNs, now())
	}
}

// TestUncounted has the frames that no flow counts.
func TestUncounted(t *testing.T) {
	k := newKernel(t, 1024)
	change := func(p testnet.Packet, at int, value byte) []byte {
		frame := p.Bytes()
		frame[at] = value
		return frame
	}
	tcp4 := testnet.TCP("10.0.0.1:1000", "10.0.0.2:53", testnet.ACK, 30)
	for _, row := range []struct {
		name   string
		frame  []byte
		reason string
	}{
		{"ARP", testnet.Ethernet(0x0806, make([]byte, 28)).Bytes(), "not_ip"},
		{"LLDP", testnet.Ethernet(0x88cc, make([]byte, 40)).Bytes(), "not_ip"},
		{"IEEE 802.3 length", testnet.Ethernet(46, make([]byte, 46)).Bytes(), "not_ip"},
		{"no payload", testnet.Ethernet(0x0806, nil).Bytes(), "not_ip"},
		{"a fourth VLAN tag", udp4.VLAN(1, 2, 3, 4).Bytes(), "unsupported"},
		{"ARP in a VLAN", behind(testnet.Ethernet(0x0806, make([]byte, 28)), 0x8100, []byte{0, 7, 8, 6}), "not_ip"},
		{"PPPoE link control", behind(udp4, 0x8864, pppoe(0xc021)), "not_ip"},
		{"PPPoE of another version", behind(udp4, 0x8864, []byte{0x21, 0, 0, 1, 0, 60, 0, 0x21}), "malformed"},
		{"PPPoE that is no session data", behind(udp4, 0x8864, []byte{0x11, 9, 0, 1, 0, 60, 0, 0x21}), "malformed"},
		{"a fifth MPLS label", behind(udp4, 0x8847, labels(5)), "unsupported"},
		{"MPLS with neither IP below", behind(testnet.Ethernet(0, make([]byte, 40)), 0x8847, labels(2)), "not_ip"},
		{"IPv4 says version 6", change(udp4, 14, 0x65), "malformed"},
		{"IPv4 says version 0", change(udp4, 14, 0x05), "malformed"},
		{"IPv4 header of 16 bytes", change(udp4, 14, 0x44), "malformed"},
		{"IPv4 header of 0 bytes", change(udp4, 14, 0x40), "malformed"},
		{"IPv4 header longer than the frame", change(testnet.UDP("10.0.0.1:1", "10.0.0.2:2", 0), 14, 0x4f), "malformed"},
		{"IPv4 total length less than its header", change(udp4, 17, 19), "malformed"},
		{"IPv4 total length ends in the UDP header", change(udp4, 17, 27), "malformed"},
		{"IPv4 total length ends at its header, behind it is padding", change(udp4, 17, 20), "malformed"},
		{"IPv4 total length ends in the UDP header, and so does the frame", change(udp4, 17, 27)[:14+20+2], "malformed"},
		{"TCP header longer than the payload", change(testnet.TCP("10.0.0.1:1", "10.0.0.2:2", testnet.ACK, 0), 14+20+12, 0xf0), "malformed"},
		{"IPv6 says version 4", change(udp6, 14, 0x40), "malformed"},
		{"IPv6 payload ends in the UDP header", change(udp6, 19, 7), "malformed"},
		{"TCP header of 16 bytes", change(tcp4, 14+20+12, 0x40), "malformed"},
		{"TCP header of 0 bytes", change(tcp4, 14+20+12, 0x00), "malformed"},
		{"a ninth IPv6 extension header", extended(9, 8), "unsupported"},
		{"IPv6 extension headers that go on for more than weir reads", extended(3, 80), "unsupported"},
		{"IPv6 extension header longer than the payload", change(udp6.Extension(testnet.HopByHop, 8), 14+40+1, 200), "truncated"},
		{"IPv6 extension header ends behind the payload", change(udp6.Extension(testnet.HopByHop, 8), 19, 4), "malformed"},
	} {
		for _, hook := range hooks {
			t.Run(fmt.Sprintf("%s/%s", row.name, hook), func(t *testing.T) {
				before := k.ledger(t)
				k.run(t, hook, row.frame, nil)
				seen := flow.Counter{Packets: 1, Bytes: uint64(len(row.frame))}
				checkLedger(t, since(k.ledger(t), before), hook, seen, map[string]flow.Counter{row.reason: seen})
				if records, _ := k.records(t, k.SweepOut); len(records) != 0 {
					t.Errorf("records %+v, want none", records)
				}
			})
		}
	}
}

// extended is a packet with so many IPv6 extension headers of so many bytes.
func extended(n, size int) []byte {
	p := udp6
	for range n {
		p = p.Extension(testnet.DestinationOptions, size)
	}
	return p.Bytes()
}

// TestFragments counts a datagram's fragments in its flow, if the first comes first, else in the flow without ports.
func TestFragments(t *testing.T) {
	for _, packet := range []testnet.Packet{
		testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 3000),
		testnet.UDP("[fd00::1]:1000", "[fd00::2]:53", 3000),
		testnet.UDP("10.0.0.2:1000", "10.0.0.1:53", 3000).VLAN(7),
		testnet.ICMP("10.0.0.1", "10.0.0.2", 8, 0, 3000),
	} {
		k := newKernel(t, 1024)
		parts := packet.Fragments(1480)
		k.run(t, kernelProgXdpIngress, parts[2], nil)
		for _, part := range parts {
			k.run(t, kernelProgXdpIngress, part, nil)
		}
		records, _ := k.records(t, k.SweepOut)
		if len(parts) != 3 || len(records) != 2 {
			t.Fatalf("%d fragments, %d records, want 3 and 2", len(parts), len(records))
		}
		sum := map[bool]flow.Counter{} // by whether it is the flow without ports
		for _, r := range records {
			c := flow.Counter{Packets: r.Halves[0].Packets + r.Halves[1].Packets, Bytes: r.Halves[0].Bytes + r.Halves[1].Bytes}
			sum[r.Key.Ends[0].Port()+r.Key.Ends[1].Port() == 0] = c
		}
		whole := flow.Counter{Packets: 3, Bytes: uint64(len(parts[0]) + len(parts[1]) + len(parts[2]))}
		early := flow.Counter{Packets: 1, Bytes: uint64(len(parts[2]))}
		if sum[false] != whole || sum[true] != early {
			t.Errorf("with ports %+v, without %+v, want %+v and %+v", sum[false], sum[true], whole, early)
		}
	}
}

// TestZones keeps equal connections of separate VLANs apart only if told to.
func TestZones(t *testing.T) {
	frames := [][]byte{udp4.Bytes(), udp4.VLAN(7).Bytes(), udp4.VLAN(8).Bytes(), udp4.VLAN(7, 8).Bytes()}
	for _, row := range []struct {
		zones bool
		want  map[uint16]uint64 // packets by zone
	}{
		{false, map[uint16]uint64{0: 4}},
		{true, map[uint16]uint64{0: 1, 7: 2, 8: 1}},
	} {
		k := newKernelWith(t, Config{MaxFlows: 1024, VLANZones: row.zones, Sampling: 1})
		for _, frame := range frames {
			k.run(t, kernelProgXdpIngress, frame, nil)
		}
		records, _ := k.records(t, k.SweepOut)
		got := map[uint16]uint64{}
		for _, r := range records {
			got[r.Key.Zone] += r.Halves[0].Packets
		}
		if !maps.Equal(got, row.want) {
			t.Errorf("zones %t: packets by zone %v, want %v", row.zones, got, row.want)
		}
	}
}

// TestSampling counts about one packet in so many, and says what became of the others.
func TestSampling(t *testing.T) {
	const packets, rate = 20_000, 10
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: rate})
	frame := udp4.Bytes()
	for range packets {
		k.run(t, kernelProgXdpIngress, frame, nil)
	}
	l := k.ledger(t)
	if got := l.Counted.Packets + l.Uncounted["not_sampled"].Packets; got != packets {
		t.Errorf("%d counted or not sampled, want %d", got, packets)
	}
	// Binomial: mean 2000, standard deviation 42. Twelve of them are never off.
	if n := l.Counted.Packets; n < 1500 || n > 2500 {
		t.Errorf("%d of %d packets counted at a rate of %d", n, packets, rate)
	}
}

// TestSamplingAtTwoHooks counts at one of two places only, although many packets pass between two samples.
func TestSamplingAtTwoHooks(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 50})
	frame := udp4.Bytes()
	for range 5000 {
		k.run(t, kernelProgXdpIngress, frame, nil)
		k.run(t, kernelProgTcIngress, frame, nil)
	}
	l := k.ledger(t)
	// Each hook samples about 100 of its 5000, and one of the two counts.
	if n := l.Counted.Packets; n < 50 || n > 150 || l.Uncounted["duplicate"].Packets < 50 {
		t.Errorf("%d counted, %d seen again, want about 100 each", n, l.Uncounted["duplicate"].Packets)
	}
	records, _ := k.records(t, k.SweepOut)
	if len(records) != 1 || records[0].Initiator != flow.InitiatorUnknown {
		t.Errorf("records %+v, want one whose opener is not known", records)
	}
}

// TestSuperPackets compares what a GSO or GRO skb counts for with what its segments take on the wire.
func TestSuperPackets(t *testing.T) {
	const headers, segment = 14 + 20 + 20, 500 // the kernel runs a program on a page at the most
	frame := testnet.TCP("10.0.0.1:1000", "10.0.0.2:53", testnet.ACK, 3*segment+100).Bytes()
	wire := flow.Counter{Packets: 4, Bytes: uint64(len(frame) + 3*headers)}
	for _, row := range []struct {
		name string
		hook string
		skb  skb
	}{
		{"GRO", kernelProgTcIngress, skb{GSOSegs: 4, GSOSize: segment}},
		{"GSO", kernelProgTcEgress, skb{GSOSegs: 4, GSOSize: segment, WireLen: uint32(wire.Bytes)}},
		{"received, without a count of segments", kernelProgTcIngress, skb{GSOSize: segment}},
		{"sent, without a count of segments", kernelProgTcEgress, skb{GSOSize: segment, WireLen: uint32(wire.Bytes)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			k := newKernel(t, 1024)
			k.run(t, row.hook, frame, &row.skb)
			checkLedger(t, k.ledger(t), row.hook, wire, map[string]flow.Counter{"counted": wire})
			records, _ := k.records(t, k.SweepOut)
			if len(records) != 1 {
				t.Fatalf("%d records, want 1", len(records))
			}
			checkRecord(t, &records[0], "10.0.0.1:1000", "10.0.0.2:53", tcp, wire, 0x10)
		})
	}
}

// TestSuperPacketsOfGuests weighs what a guest, a tun device or a packet socket says is a super-packet, of which the headers say
// something else: at least one packet, and no more than the frame has room for.
func TestSuperPacketsOfGuests(t *testing.T) {
	segment := func(headerWords byte, payload int) []byte {
		frame := testnet.TCP("10.0.0.1:1000", "10.0.0.2:53", testnet.ACK, payload).Bytes()
		frame[14+20+12] = headerWords << 4
		return frame
	}
	beyond := segment(15, 3) // its IP header promises all of a TCP header of 60 bytes, which the frame has not
	beyond[14+2], beyond[14+3] = 0, 83
	for _, row := range []struct {
		name  string
		frame []byte
		size  uint32
		want  uint64
	}{
		{"a header that ends behind the frame", beyond, 1, 1},
		{"options and no payload", segment(15, 40), 39, 1},
		{"a segment of one byte", segment(5, 10), 1, 10},
		{"a segment of more than there is", segment(5, 10), 60000, 1},
	} {
		for _, hook := range []string{kernelProgTcIngress, kernelProgTcEgress} {
			t.Run(row.name+"/"+hook, func(t *testing.T) {
				k := newKernel(t, 1024)
				k.run(t, hook, row.frame, &skb{GSOSize: row.size, WireLen: uint32(len(row.frame))})
				l := k.ledger(t)
				if got := l.Seen[hook]; got.Packets != row.want || got.Bytes < uint64(len(row.frame)) || got.Bytes > 1000 {
					t.Errorf("seen %+v, want %d packets", got, row.want)
				}
				if l.Counted != l.Seen[hook] {
					t.Errorf("counted %+v, seen %+v", l.Counted, l.Seen[hook])
				}
			})
		}
	}
}
