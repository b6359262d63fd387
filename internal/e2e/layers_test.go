package e2e

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"weir/internal/testbrain"
	"weir/internal/testnet"
)

// wrapping is a way to carry packets in tags or in a tunnel. Number n takes them from 10.7.n.1 to 10.7.n.2, a tunnel from
// the client to 10.9.0.1n, where nobody answers.
type wrapping struct {
	name string
	// frame carries a packet, byte by byte as the kernel's interface does.
	frame func(inner testnet.Packet, remote string) testnet.Packet
	// link makes an interface that does, if the kernel has it.
	link func(t *testing.T, under *testnet.Link, addr string, remote net.IP) (*testnet.Link, bool)
	// flow is what weir should tell of, as flowOf names it.
	flow string
}

var wrappings = []wrapping{
	{
		"VLAN",
		func(inner testnet.Packet, _ string) testnet.Packet { return inner.VLAN(7) },
		func(t *testing.T, under *testnet.Link, addr string, _ net.IP) (*testnet.Link, bool) {
			return under.Namespace.AddLink(t, vlan(under, 7, netlink.VLAN_PROTOCOL_8021Q), addr)
		},
		"10.7.0.1-10.7.0.2:2000-UDP",
	},
	{
		"QinQ",
		func(inner testnet.Packet, _ string) testnet.Packet { return inner.VLAN(8, 9) },
		func(t *testing.T, under *testnet.Link, addr string, _ net.IP) (*testnet.Link, bool) {
			outer, ok := under.Namespace.AddLink(t, vlan(under, 8, netlink.VLAN_PROTOCOL_8021AD), "10.8.0.1/24")
			if !ok {
				return nil, false
			}
			return under.Namespace.AddLink(t, vlan(outer, 9, netlink.VLAN_PROTOCOL_8021Q), addr)
		},
		"10.7.1.1-10.7.1.2:2000-UDP",
	},
	{
		"VXLAN", // RFC 7348 section 5
		func(inner testnet.Packet, remote string) testnet.Packet {
			return inUDP(remote, 4789, []byte{8, 0, 0, 0, 0, 0, 5, 0}, inner.Bytes())
		},
		func(t *testing.T, under *testnet.Link, addr string, remote net.IP) (*testnet.Link, bool) {
			return under.Namespace.AddLink(t, &netlink.Vxlan{LinkAttrs: named("vxlan"), VxlanId: 5, Group: remote, Port: 4789}, addr)
		},
		"10.9.0.1-10.9.0.12:4789-UDP",
	},
	{
		"Geneve", // RFC 8926 section 3.4
		func(inner testnet.Packet, remote string) testnet.Packet {
			return inUDP(remote, 6081, []byte{0, 0, 0x65, 0x58, 0, 0, 5, 0}, inner.Bytes())
		},
		func(t *testing.T, under *testnet.Link, addr string, remote net.IP) (*testnet.Link, bool) {
			return under.Namespace.AddLink(t, &netlink.Geneve{LinkAttrs: named("geneve"), ID: 5, Remote: remote, Dport: 6081}, addr)
		},
		"10.9.0.1-10.9.0.13:6081-UDP",
	},
	{
		"GRE", // RFC 2784 section 2
		func(inner testnet.Packet, remote string) testnet.Packet {
			return testnet.IP("10.9.0.1", remote, 47, append([]byte{0, 0, 8, 0}, inner.Bytes()[14:]...))
		},
		func(t *testing.T, under *testnet.Link, addr string, remote net.IP) (*testnet.Link, bool) {
			return under.Namespace.AddLink(t, &netlink.Gretun{
				LinkAttrs: named("gre"), Local: net.IPv4(10, 9, 0, 1), Remote: remote,
			}, addr)
		},
		"10.9.0.1-10.9.0.14:0-GRE",
	},
	{
		"IPIP", // RFC 2003
		func(inner testnet.Packet, remote string) testnet.Packet {
			return testnet.IP("10.9.0.1", remote, 4, inner.Bytes()[14:])
		},
		func(t *testing.T, under *testnet.Link, addr string, remote net.IP) (*testnet.Link, bool) {
			return under.Namespace.AddLink(t, &netlink.Iptun{
				LinkAttrs: named("ipip"), Local: net.IPv4(10, 9, 0, 1), Remote: remote,
			}, addr)
		},
		"10.9.0.1-10.9.0.15:0-IPIP",
	},
}

func named(name string) netlink.LinkAttrs {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	return attrs
}

func vlan(under *testnet.Link, id int, protocol netlink.VlanProtocol) netlink.Link {
	attrs := named(fmt.Sprintf("vlan%d", id))
	attrs.ParentIndex = under.Index
	return &netlink.Vlan{LinkAttrs: attrs, VlanId: id, VlanProtocol: protocol}
}

// inUDP is a datagram from the client that carries a header and a frame.
func inUDP(remote string, port uint16, header, frame []byte) testnet.Packet {
	size := 8 + len(header) + len(frame)
	udp := []byte{0xc0, 0, byte(port >> 8), byte(port), byte(size >> 8), byte(size), 0, 0} // from port 49152
	return testnet.IP("10.9.0.1", remote, 17, slices.Concat(udp, header, frame))
}

// flowOf names an event's flow, whatever the source port is: tunnels make one up.
func flowOf(e *testbrain.Event) string {
	return fmt.Sprintf("%s-%s:%s-%s", e.SrcIP, e.DstIP, e.DstPort, e.Protocol)
}

// TestWrapped counts what is tagged or tunnelled on the interface below: tags in the frame and beside it, and of a tunnel
// the outer flow, or what is in it if told so. The frames come from the kernel's own interfaces where it has them, and byte
// by byte elsewhere. Tags for XDP are always in the frame: it is not told of others.
func TestWrapped(t *testing.T) {
	const each, payload = 20, 100
	for _, row := range []struct {
		name     string
		hook     string // of weir's metrics
		settings []string
		atClient bool
		byHand   bool
		inside   bool
	}{
		{name: "XDP", hook: "xdp_ingress", settings: []string{"AGENT_INGRESS_HOOK=xdp"}, byHand: true},
		{name: "tc ingress", hook: "tc_ingress", settings: []string{"AGENT_INGRESS_HOOK=tc"}},
		{name: "tc egress", hook: "tc_egress", atClient: true},
		{
			name: "tc ingress, looking into tunnels", hook: "tc_ingress", inside: true,
			settings: []string{"AGENT_INGRESS_HOOK=tc", "AGENT_DECAP=vxlan,geneve,gre,ipip"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPair(t)
			link := p.serverLink
			if row.atClient {
				link = p.clientLink
			}
			brain := brainIn(t, link.Namespace, testbrain.Options{})
			a := start(t, link.Namespace, append(row.settings, "AGENT_INTERFACE="+link.Name, "AGENT_ENDPOINT_URL="+brain.URL())...)
			want := map[string]sum{}
			for n, w := range wrappings {
				frame := w.send(t, p, n, each, payload, !row.byHand)
				flow := w.flow
				if row.inside {
					flow = fmt.Sprintf("10.7.%[1]d.1-10.7.%[1]d.2:2000-UDP", n)
				}
				want[flow] = sum{each, uint64(each * len(frame))}
			}
			testnet.Eventually(t, "weir has seen every frame", func() bool {
				return a.metric(t, fmt.Sprintf("weir_seen_packets_total{hook=%q}", row.hook)) >= float64(each*len(wrappings))
			})
			a.terminate(t)
			if got := sumFlows(brain.Events()); !maps.Equal(got, want) {
				t.Errorf("the Brain has %v, want %v", got, want)
			}
		})
	}
}

// sumFlows sums events by flow, as flowOf names it.
func sumFlows(events []testbrain.Event) map[string]sum {
	flows := map[string]sum{}
	for _, e := range events {
		s := flows[flowOf(&e)]
		flows[flowOf(&e)] = sum{s.packets + uint64(e.PacketCount), s.bytes + uint64(e.ByteCount)}
	}
	return flows
}

// send sends so many datagrams from the client and returns the frame that each should be.
func (w wrapping) send(t *testing.T, p pair, n, count, payload int, byLink bool) []byte {
	t.Helper()
	src, dst := fmt.Sprintf("10.7.%d.1:1000", n), fmt.Sprintf("10.7.%d.2:2000", n)
	remote := netip.AddrFrom4([4]byte{10, 9, 0, byte(10 + n)})
	p.clientLink.AddNeighbour(t, remote, p.serverLink.MAC)
	frame := w.frame(testnet.UDP(src, dst, payload), remote.String()).Bytes()
	if byLink {
		if link, ok := w.link(t, p.clientLink, fmt.Sprintf("10.7.%d.1/24", n), remote.AsSlice()); ok {
			if len(link.MAC) == 6 {
				link.AddNeighbour(t, netip.MustParseAddrPort(dst).Addr(), p.serverLink.MAC)
			}
			sendDatagrams(t, p.client, src, dst, count, payload)
			return frame
		}
		t.Logf("this kernel has no %s: frames are sent byte by byte", w.name)
	}
	for range count {
		p.clientLink.Send(t, frame)
	}
	return frame
}

// sendDatagrams sends UDP datagrams through a socket of a namespace.
func sendDatagrams(t *testing.T, from *testnet.Namespace, src, dst string, count, payload int) {
	t.Helper()
	err := from.Do(func() error {
		conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(src)),
			net.UDPAddrFromAddrPort(netip.MustParseAddrPort(dst)))
		if err != nil {
			return err
		}
		defer conn.Close()
		for range count {
			if _, err := conn.Write(make([]byte, payload)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("send datagrams from %s to %s: %v", src, dst, err)
	}
}
