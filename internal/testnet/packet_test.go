package testnet

import (
	"bytes"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/ip4defrag"
	"github.com/gopacket/gopacket/layers"
)

const (
	src4, dst4 = "10.0.0.1:20000", "10.0.0.2:30000"
	src6, dst6 = "[fd00::1]:20000", "[fd00::2]:30000"
)

// TestPackets reads each frame with another implementation, which must find the layers, and every checksum right.
func TestPackets(t *testing.T) {
	for _, test := range []struct {
		packet Packet
		size   int
		layers string
	}{
		{UDP(src4, dst4, 0), 42, "Ethernet IPv4 UDP"},
		{UDP(src4, dst4, 101), 143, "Ethernet IPv4 UDP Payload"},
		{UDP(src6, dst6, 101), 163, "Ethernet IPv6 UDP Payload"},
		{UDP(src4, dst4, 9).IPOptions(8), 59, "Ethernet IPv4 UDP Payload"},
		{TCP(src4, dst4, SYN, 0), 54, "Ethernet IPv4 TCP"},
		{TCP(src6, dst6, PSH|ACK, 7), 81, "Ethernet IPv6 TCP Payload"},
		{ICMP("10.0.0.1", "10.0.0.2", 8, 0, 32), 70, "Ethernet IPv4 ICMPv4 Payload"},
		{ICMP("fd00::1", "fd00::2", 128, 0, 32), 90, "Ethernet IPv6 ICMPv6 ICMPv6Echo"},
		{IP("10.0.0.1", "10.0.0.2", 47, make([]byte, 4)), 38, "Ethernet IPv4 GRE"},
		{Ethernet(0x0806, make([]byte, 28)), 42, "Ethernet ARP Payload"},
		{TCP(src4, dst4, ACK, 5).VLAN(7), 63, "Ethernet Dot1Q IPv4 TCP Payload"},
		{TCP(src6, dst6, ACK, 5).VLAN(3, 2, 1), 91, "Ethernet Dot1Q Dot1Q Dot1Q IPv6 TCP Payload"},
		{UDP(src6, dst6, 4).Extension(HopByHop, 16), 82, "Ethernet IPv6 IPv6HopByHop UDP Payload"},
		{
			UDP(src6, dst6, 4).Extension(HopByHop, 8).Extension(Routing, 8).Extension(DestinationOptions, 24), 106,
			"Ethernet IPv6 IPv6HopByHop IPv6Routing IPv6Destination UDP Payload",
		},
		{TCP(src6, dst6, ACK, 5).Extension(Authentication, 24), 103, "Ethernet IPv6 IPSecAH TCP Payload"},
	} {
		frame := test.packet.Bytes()
		if got := decode(t, frame); got != test.layers || len(frame) != test.size {
			t.Errorf("%d bytes of %s; want %d of %s", len(frame), got, test.size, test.layers)
		}
	}
}

// decode returns the names of a frame's layers.
func decode(t *testing.T, frame []byte) string {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	if p.ErrorLayer() != nil {
		t.Errorf("%x: %v", frame, p.ErrorLayer().Error())
	}
	truncated := p.Metadata().Truncated
	if ip, ok := p.NetworkLayer().(*layers.IPv6); ok && ip.HopByHop != nil {
		truncated = 14+40+int(ip.Length) != len(frame) // gopacket leaves this header out when it compares lengths
	}
	if truncated {
		t.Errorf("%x: truncated", frame)
	}
	for _, l := range p.Layers() {
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := l.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err, wrong := p.VerifyChecksums(); err != nil || len(wrong) > 0 {
		t.Errorf("%x: wrong checksums: %v, %+v", frame, err, wrong)
	}
	var names []string
	for _, l := range p.Layers() {
		names = append(names, l.LayerType().String())
	}
	return strings.Join(names, " ")
}

func TestPacketFields(t *testing.T) {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 9}
	p := gopacket.NewPacket(TCP(src4, dst4, SYN|ACK, 3).MACs(mac, mac).VLAN(5).Bytes(), layers.LayerTypeEthernet, gopacket.Default)
	eth := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	tag := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q)
	ip := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	tcp := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !bytes.Equal(eth.SrcMAC, mac) || !bytes.Equal(eth.DstMAC, mac) || tag.VLANIdentifier != 5 {
		t.Errorf("Ethernet %v, tag %v", eth, tag)
	}
	if ip.SrcIP.String() != "10.0.0.1" || ip.DstIP.String() != "10.0.0.2" || ip.Length != 43 {
		t.Errorf("IPv4 %v", ip)
	}
	if tcp.SrcPort != 20000 || tcp.DstPort != 30000 || !tcp.SYN || !tcp.ACK || tcp.FIN || tcp.RST {
		t.Errorf("TCP %v", tcp)
	}
}

func TestPacketsAreCopies(t *testing.T) {
	base := UDP(src6, dst6, 4).Extension(HopByHop, 8)
	want := base.Bytes()
	one, two := base.Extension(Routing, 8), base.Extension(DestinationOptions, 8)
	if a, b := decode(t, one.Bytes()), decode(t, two.Bytes()); a == b {
		t.Errorf("two packets made of one are the same: %s", a)
	}
	if _ = base.VLAN(1).Bytes(); !bytes.Equal(base.Bytes(), want) {
		t.Error("a packet changed with what was made of it")
	}
}

func TestFragments(t *testing.T) {
	whole := UDP(src4, dst4, 3000)
	frames := whole.Fragments(1480)
	if len(frames) != 3 {
		t.Fatalf("%d fragments, want 3", len(frames))
	}
	defragmenter := ip4defrag.NewIPv4Defragmenter()
	var ip *layers.IPv4
	for _, frame := range frames {
		if got := decode(t, frame); !strings.HasPrefix(got, "Ethernet IPv4 Fragment") {
			t.Errorf("fragment is %s", got)
		}
		p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		var err error
		if ip, err = defragmenter.DefragIPv4(p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)); err != nil {
			t.Fatal(err)
		}
	}
	if ip == nil || !bytes.Equal(ip.Payload, whole.transport()) {
		t.Error("the fragments do not make the datagram")
	}
}

func TestFragmentsIPv6(t *testing.T) {
	whole := UDP(src6, dst6, 3000).Extension(HopByHop, 8)
	var body []byte
	for i, frame := range whole.Fragments(1440) {
		p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
		f := p.Layer(layers.LayerTypeIPv6Fragment).(*layers.IPv6Fragment)
		if int(f.FragmentOffset)*8 != len(body) || f.MoreFragments != (i < 2) || f.NextHeader != layers.IPProtocolUDP {
			t.Errorf("fragment %d: %+v", i, f)
		}
		body = slices.Concat(body, f.Payload)
	}
	if !bytes.Equal(body, whole.transport()) {
		t.Error("the fragments do not make the datagram")
	}
}
