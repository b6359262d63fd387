package datapath

import (
	"encoding/binary"
	"fmt"
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
	packet   testnet.Packet
	src, dst string
	protocol uint8
	headers  int
	flags    uint16
}{
	{
		"UDP, lower end first", testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 30),
		"10.0.0.1:1000", "10.0.0.2:53", udp, 14 + 20 + 8, 0,
	},
	{
		"UDP, higher end first", testnet.UDP("10.0.0.2:53", "10.0.0.1:1000", 30),
		"10.0.0.2:53", "10.0.0.1:1000", udp, 14 + 20 + 8, 0,
	},
	{
		"bytes decide, not words", testnet.UDP("1.0.0.2:53", "2.0.0.1:1000", 0),
		"1.0.0.2:53", "2.0.0.1:1000", udp, 14 + 20 + 8, 0,
	},
	{
		"same address, ports decide", testnet.UDP("10.0.0.1:256", "10.0.0.1:255", 0),
		"10.0.0.1:256", "10.0.0.1:255", udp, 14 + 20 + 8, 0,
	},
	{
		"the same endpoint twice", testnet.UDP("10.0.0.1:7", "10.0.0.1:7", 0),
		"10.0.0.1:7", "10.0.0.1:7", udp, 14 + 20 + 8, 0,
	},
	{
		"TCP", testnet.TCP("10.0.0.9:40000", "10.0.0.2:443", testnet.ACK|testnet.PSH|testnet.ECE, 100),
		"10.0.0.9:40000", "10.0.0.2:443", tcp, 14 + 20 + 20, 0x58,
	},
	{
		"IPv4 options", testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 30).IPOptions(12),
		"10.0.0.1:1000", "10.0.0.2:53", udp, 14 + 32 + 8, 0,
	},
	{
		"all IPv4 options", testnet.TCP("10.0.0.1:1000", "10.0.0.2:53", testnet.ACK, 0).IPOptions(40),
		"10.0.0.1:1000", "10.0.0.2:53", tcp, 14 + 60 + 20, 0x10,
	},
	{
		"VLAN", testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 30).VLAN(7),
		"10.0.0.1:1000", "10.0.0.2:53", udp, 18 + 20 + 8, 0,
	},
	{
		"IPv6 UDP", testnet.UDP("[fd00::1]:1000", "[fd00::2]:53", 30),
		"[fd00::1]:1000", "[fd00::2]:53", udp, 14 + 40 + 8, 0,
	},
	{
		"IPv6, low half decides", testnet.UDP("[fd00::100]:1000", "[fd00::2]:53", 30),
		"[fd00::100]:1000", "[fd00::2]:53", udp, 14 + 40 + 8, 0,
	},
	{
		"IPv6, high half decides", testnet.TCP("[fd00:0:1::1]:1000", "[fd00::ffff]:53", testnet.ACK, 3),
		"[fd00:0:1::1]:1000", "[fd00::ffff]:53", tcp, 14 + 40 + 20, 0x10,
	},
	{
		"IPv6 in a VLAN", testnet.UDP("[fd00::1]:1000", "[fd00::2]:53", 30).VLAN(4095),
		"[fd00::1]:1000", "[fd00::2]:53", udp, 18 + 40 + 8, 0,
	},
	{
		"ICMP echo request", testnet.ICMP("10.0.0.1", "10.0.0.2", 8, 0, 56),
		"10.0.0.1:0", "10.0.0.2:2048", icmp, 14 + 20 + 8, 0,
	},
	{
		"ICMP port unreachable", testnet.ICMP("10.0.0.2", "10.0.0.1", 3, 3, 28),
		"10.0.0.2:0", "10.0.0.1:771", icmp, 14 + 20 + 8, 0,
	},
	{
		"ICMPv6 echo reply", testnet.ICMP("fd00::2", "fd00::1", 129, 0, 56),
		"[fd00::2]:0", "[fd00::1]:33024", icmpv6, 14 + 40 + 4, 0,
	},
	{
		"a protocol without ports", testnet.IP("10.0.0.1", "10.0.0.2", 47, make([]byte, 24)),
		"10.0.0.1:0", "10.0.0.2:0", 47, 14 + 20, 0,
	},
}

var hooks = []string{kernelProgXdpIngress, kernelProgTcIngress, kernelProgTcEgress}

// TestShapes passes each shape through each hook, whole and cut at every byte, and compares all that is known after.
func TestShapes(t *testing.T) {
	for _, shape := range shapes {
		for _, hook := range hooks {
			t.Run(fmt.Sprintf("%s/%s", shape.name, hook), func(t *testing.T) {
				k := newKernel(t, 1024)
				frame := shape.packet.Bytes()
				var seen, counted, truncated flow.Counter
				for size := shortest(hook, frame); size <= len(frame); size++ {
					fate := &counted
					if size < shape.headers {
						fate = &truncated
					}
					for _, c := range []*flow.Counter{&seen, fate} {
						c.Packets++
						c.Bytes += uint64(size)
					}
					k.run(t, hook, frame[:size], nil)
				}
				checkLedger(t, k.ledger(t), hook, seen, map[string]flow.Counter{
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
	change := func(p testnet.Packet, at int, value byte) []byte {
		frame := p.Bytes()
		frame[at] = value
		return frame
	}
	udp4 := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 30)
	udp6 := testnet.UDP("[fd00::1]:1000", "[fd00::2]:53", 30)
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
		{"a second VLAN tag", udp4.VLAN(1, 2).Bytes(), "not_ip"},
		{"IPv4 says version 6", change(udp4, 14, 0x65), "malformed"},
		{"IPv4 says version 0", change(udp4, 14, 0x05), "malformed"},
		{"IPv4 header of 16 bytes", change(udp4, 14, 0x44), "malformed"},
		{"IPv4 header of 0 bytes", change(udp4, 14, 0x40), "malformed"},
		{"IPv4 header longer than the frame", change(testnet.UDP("10.0.0.1:1", "10.0.0.2:2", 0), 14, 0x4f), "malformed"},
		{"IPv4 total length less than its header", change(udp4, 17, 19), "malformed"},
		{"IPv4 total length ends in the UDP header", change(udp4, 17, 27), "malformed"},
		{"IPv4 total length ends at its header, behind it is padding", change(udp4, 17, 20), "malformed"},
		{"TCP header longer than the payload", change(testnet.TCP("10.0.0.1:1", "10.0.0.2:2", testnet.ACK, 0), 14+20+12, 0xf0), "malformed"},
		{"IPv6 says version 4", change(udp6, 14, 0x40), "malformed"},
		{"IPv6 payload ends in the UDP header", change(udp6, 19, 7), "malformed"},
		{"TCP header of 16 bytes", change(tcp4, 14+20+12, 0x40), "malformed"},
		{"TCP header of 0 bytes", change(tcp4, 14+20+12, 0x00), "malformed"},
		{"IPv6 hop-by-hop options", udp6.Extension(testnet.HopByHop, 8).Bytes(), "unsupported"},
		{"IPv6 routing header", udp6.Extension(testnet.Routing, 24).Bytes(), "unsupported"},
	} {
		for _, hook := range hooks {
			t.Run(fmt.Sprintf("%s/%s", row.name, hook), func(t *testing.T) {
				k := newKernel(t, 1024)
				k.run(t, hook, row.frame, nil)
				seen := flow.Counter{Packets: 1, Bytes: uint64(len(row.frame))}
				checkLedger(t, k.ledger(t), hook, seen, map[string]flow.Counter{row.reason: seen})
				if records, _ := k.records(t, k.SweepOut); len(records) != 0 {
					t.Errorf("records %+v, want none", records)
				}
			})
		}
	}
}

// TestLaterFragment counts what has no transport header in the flow without ports.
func TestLaterFragment(t *testing.T) {
	k := newKernel(t, 1024)
	parts := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 3000).Fragments(1480)
	for _, part := range parts {
		k.run(t, kernelProgXdpIngress, part, nil)
	}
	records, _ := k.records(t, k.SweepOut)
	byPort := map[uint16]uint64{}
	for _, r := range records {
		byPort[r.Key.Ends[0].Port()] += r.Halves[0].Packets
	}
	if len(records) != 2 || byPort[1000] != 1 || byPort[0] != uint64(len(parts)-1) {
		t.Errorf("packets by source port: %v, want 1000: 1, 0: %d", byPort, len(parts)-1)
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
