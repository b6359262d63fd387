package datapath

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// TestNamespacesApart: equal packets of separate network namespaces are separate flows, fragments too, and a namespace that
// is forgotten can be watched again.
func TestNamespacesApart(t *testing.T) {
	k := newKernel(t, 1024)
	whole := [][]byte{testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 100).Bytes()}
	fragments := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 2000).Fragments(1000)
	hooks := []IngressHook{IngressTC, IngressXDP}
	for round, hook := range hooks {
		var outs []*testnet.Link
		for _, netns := range []uint8{0, 1, 255} {
			out, in := veth(t)
			ifi := onLink(in)
			ifi.Netns = netns
			k.attachTo(t, in, ifi, Ingress, hook)
			outs = append(outs, out)
		}
		outs[0].Send(t, whole...)
		outs[1].Send(t, append(whole, fragments...)...)
		outs[2].Send(t, fragments[1:]...) // nobody there knows the ports
		packets := uint64(1 + 1 + len(fragments) + len(fragments) - 1)
		hookName := map[IngressHook]string{IngressTC: "tc_ingress", IngressXDP: "xdp_ingress"}[hook]
		testnet.Eventually(t, "all are seen", func() bool { return k.ledger(t).Seen[hookName].Packets == packets })
		records, _ := k.records(t, k.SweepOut)
		got := map[flow.Key]uint64{}
		for _, r := range records {
			got[r.Key] += r.Halves[0].Packets + r.Halves[1].Packets
		}
		known, _ := key("10.0.0.1:1000", "10.0.0.2:53", udp)
		unknown, _ := key("10.0.0.1:0", "10.0.0.2:0", udp)
		in := func(k flow.Key, netns uint8) flow.Key { k.Netns = netns; return k }
		want := map[flow.Key]uint64{
			known: 1, in(known, 1): uint64(1 + len(fragments)), in(unknown, 255): uint64(len(fragments) - 1),
		}
		for key, n := range want {
			if got[key] != n {
				t.Errorf("round %d: %+v has %d packets, want %d", round, key, got[key], n)
			}
		}
		if len(got) != len(want) {
			t.Errorf("round %d: flows %v, want %v", round, got, want)
		}
		k.Forget(1)
		k.Forget(255)
		if n := len(k.sets.loaded); n != 0 {
			t.Errorf("%d sets of programs are left of namespaces that were forgotten", n)
		}
	}
}

// bareShapes are packets that reach an interface without a link layer, and the flows that they are of.
var bareShapes = []struct {
	packet   testnet.Packet
	src, dst string
	protocol uint8
}{
	{testnet.UDP("10.0.0.9:1000", "10.9.0.1:53", 100), "10.0.0.9:1000", "10.9.0.1:53", udp},
	{testnet.TCP("[fd00::9]:1000", "[fd09::1]:53", testnet.ACK, 7), "[fd00::9]:1000", "[fd09::1]:53", tcp},
	{testnet.UDP("10.0.0.9:1001", "10.9.0.1:53", 9).IPOptions(8), "10.0.0.9:1001", "10.9.0.1:53", udp},
	{testnet.UDP("[fd00::9]:1001", "[fd09::1]:53", 9).Extension(testnet.HopByHop, 8), "[fd00::9]:1001", "[fd09::1]:53", udp},
	{testnet.ICMP("10.0.0.9", "10.9.0.1", 8, 0, 56), "10.0.0.9:0", "10.9.0.1:2048", icmp},
}

// sendDatagram has a namespace send one.
func sendDatagram(t *testing.T, from *testnet.Namespace, to string, payload int) {
	t.Helper()
	err := from.Do(func() error {
		conn, err := net.Dial("udp", to)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write(make([]byte, payload))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestBare counts what an interface without a link layer sends and receives: its bytes, as the interface does.
func TestBare(t *testing.T) {
	const ethernet = 14
	k := newKernel(t, 1024)
	tun := testnet.NewTun(t, testnet.NewNamespace(t), "tun", "10.0.0.1/24")
	tun.AddRoute(t, "10.1.0.0/24", "10.0.0.1")
	ifi := Interface{Index: tun.Index, Name: tun.Name, Bare: true}
	k.attachTo(t, tun.Link, ifi, Ingress, IngressAuto)
	k.attachTo(t, tun.Link, ifi, Egress, IngressAuto)

	var received flow.Counter
	for _, row := range bareShapes {
		frame := row.packet.Bytes()[ethernet:]
		tun.Receive(t, frame)
		received.Packets++
		received.Bytes += uint64(len(frame))
		testnet.Eventually(t, "it is seen", func() bool { return k.ledger(t).Seen["tc_ingress"] == received })
		records, _ := k.records(t, k.SweepOut)
		if len(records) != 1 {
			t.Fatalf("%s: %d records, want 1", row.src, len(records))
		}
		flags := uint16(0)
		if row.protocol == tcp {
			flags = 0x10
		}
		checkRecord(t, &records[0], row.src, row.dst, row.protocol, flow.Counter{Packets: 1, Bytes: uint64(len(frame))}, flags)
	}
	tun.Receive(t, []byte{0x45, 0, 0, 21}, []byte{0x60, 0, 0})
	testnet.Eventually(t, "what is cut is seen", func() bool {
		return k.ledger(t).Uncounted["truncated"] == flow.Counter{Packets: 2, Bytes: 7}
	})

	sendDatagram(t, tun.Namespace, "10.1.0.1:53", 100)
	sent := flow.Counter{Packets: 1, Bytes: 20 + 8 + 100}
	testnet.Eventually(t, "what is sent is seen", func() bool { return k.ledger(t).Seen["tc_egress"] == sent })
	if n := len(tun.Sent(t)); uint64(n) != sent.Bytes {
		t.Errorf("a packet of %d bytes was sent, want %d", n, sent.Bytes)
	}
	l, c := k.ledger(t), tun.Counters(t)
	for name, counts := range map[string][2]flow.Counter{
		"sent":     {{Packets: c.TxPackets, Bytes: c.TxBytes}, l.Seen["tc_egress"]},
		"received": {{Packets: c.RxPackets, Bytes: c.RxBytes}, l.Seen["tc_ingress"]},
	} {
		if counts[0] != counts[1] {
			t.Errorf("%s: the interface counts %+v, weir %+v", name, counts[0], counts[1])
		}
	}
	if got := k.ledger(t).Counted; got.Packets != received.Packets+sent.Packets || got.Bytes != received.Bytes+sent.Bytes {
		t.Errorf("counted %+v, want %+v and %+v", got, received, sent)
	}
}

// TestTunnelsOnBare looks into the tunnels that a packet is in without a link layer, whose frames have one; and they are of
// the interface's namespace.
func TestTunnelsOnBare(t *testing.T) {
	const ethernet = 14
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Decap: allTunnels()})
	tun := testnet.NewTun(t, testnet.NewNamespace(t), "tun", "10.0.0.1/24")
	k.attachTo(t, tun.Link, Interface{Index: tun.Index, Name: tun.Name, Bare: true, Netns: 7}, Ingress, IngressAuto)
	for i, outer := range []testnet.Packet{
		vxlan("10.0.0.9:50000", "10.9.0.1:4789", innerTCP),
		testnet.IP("10.0.0.9", "10.9.0.1", 4, network(innerTCP)),
	} {
		packet := outer.Bytes()[ethernet:]
		tun.Receive(t, packet)
		testnet.Eventually(t, "it is seen", func() bool { return k.ledger(t).Seen["tc_ingress"].Packets == uint64(i+1) })
		records, _ := k.records(t, k.SweepOut)
		if len(records) != 1 || records[0].Key.Netns != 7 || records[0].Tunnel == nil {
			t.Fatalf("records %+v, want one of namespace 7, in a tunnel", records)
		}
		records[0].Key.Netns, records[0].Key.Zone = 0, 0
		checkRecord(t, &records[0], "192.168.0.9:40000", "192.168.0.2:443", tcp,
			flow.Counter{Packets: 1, Bytes: uint64(len(packet))}, 0x10)
	}
}

// tunnelInterfaces are kinds of interfaces without a link layer, in which the kernel shows the outer headers again, or not.
var tunnelInterfaces = []struct {
	device        func(netlink.LinkAttrs, net.IP, net.IP) netlink.Link
	local, remote string // of the outer packets
	src, dst      string // of the inner ones
}{
	{func(attrs netlink.LinkAttrs, local, remote net.IP) netlink.Link {
		return &netlink.Iptun{LinkAttrs: attrs, Local: local, Remote: remote}
	}, "10.0.0.1", "10.0.0.2", "10.1.0.1", "10.1.0.2"},
	{func(attrs netlink.LinkAttrs, local, remote net.IP) netlink.Link {
		return &netlink.Gretun{LinkAttrs: attrs, Local: local, Remote: remote}
	}, "10.0.0.1", "10.0.0.2", "10.1.0.1", "10.1.0.2"},
	{func(attrs netlink.LinkAttrs, local, remote net.IP) netlink.Link {
		return &netlink.Gretun{LinkAttrs: attrs, Local: local, Remote: remote, IKey: 7, OKey: 7, IFlags: 0x20, OFlags: 0x20}
	}, "10.0.0.1", "10.0.0.2", "fd01::1", "fd01::2"},
	{func(attrs netlink.LinkAttrs, local, remote net.IP) netlink.Link {
		return &netlink.Sittun{LinkAttrs: attrs, Local: local, Remote: remote, Proto: unix.IPPROTO_IPV6}
	}, "10.0.0.1", "10.0.0.2", "fd01::1", "fd01::2"},
	{func(attrs netlink.LinkAttrs, local, remote net.IP) netlink.Link {
		return &netlink.Ip6tnl{LinkAttrs: attrs, Local: local, Remote: remote}
	}, "fd00::1", "fd00::2", "10.1.0.1", "10.1.0.2"},
	{func(attrs netlink.LinkAttrs, local, remote net.IP) netlink.Link {
		return &netlink.Gretun{LinkAttrs: attrs, Local: local, Remote: remote}
	}, "fd00::1", "fd00::2", "fd01::1", "fd01::2"},
}

// newTunnel makes an end of one, up and with an address. It ends the test where the kernel has none of its kind.
func newTunnel(t *testing.T, namespace *testnet.Namespace, device netlink.Link, addr string) *testnet.Link {
	t.Helper()
	if err := namespace.Netlink.LinkAdd(device); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) && os.Getenv("WEIR_TUNNELS") == "" {
			t.Skipf("this kernel has no %s, as those that make test-kernels boots do", device.Type())
		}
		t.Fatal(err)
	}
	made, err := namespace.Netlink.LinkByName("tunnel")
	if err == nil {
		err = namespace.Netlink.LinkSetUp(made)
	}
	if err != nil {
		t.Fatal(err)
	}
	l := &testnet.Link{Namespace: namespace, Name: "tunnel", Index: made.Attrs().Index}
	l.AddAddr(t, netip.PrefixFrom(netip.MustParseAddr(addr), map[bool]int{true: 24, false: 64}[!strings.Contains(addr, ":")]))
	return l
}

// TestTunnelInterfaces counts what is inside, on both ends, in bytes as the interfaces do.
func TestTunnelInterfaces(t *testing.T) {
	const payload = 100
	for _, row := range tunnelInterfaces {
		near, far := testnet.NewNamespace(t), testnet.NewNamespace(t)
		testnet.Veth(t, testnet.End{Namespace: near, Name: "near", Addrs: []string{"10.0.0.1/24", "fd00::1/64"}},
			testnet.End{Namespace: far, Name: "far", Addrs: []string{"10.0.0.2/24", "fd00::2/64"}})
		attrs := netlink.LinkAttrs{Name: "tunnel"}
		local, remote := net.ParseIP(row.local), net.ParseIP(row.remote)
		out := newTunnel(t, near, row.device(attrs, local, remote), row.src)
		in := newTunnel(t, far, row.device(attrs, remote, local), row.dst)
		name := row.device(attrs, local, remote).Type() + " to " + row.dst
		for side, l := range map[Side]*testnet.Link{Ingress: in, Egress: out} {
			k := newKernel(t, 1024)
			k.attachTo(t, l, Interface{Index: l.Index, Name: l.Name, Bare: true}, side, IngressAuto)
			before := l.Counters(t)
			src, dst := net.JoinHostPort(row.src, "1000"), net.JoinHostPort(row.dst, "9")
			err := near.Do(func() error {
				conn, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(src)), net.UDPAddrFromAddrPort(netip.MustParseAddrPort(dst)))
				if err != nil {
					return err
				}
				defer conn.Close()
				_, err = conn.Write(make([]byte, payload))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			hook := "tc_" + string(side)
			testnet.Eventually(t, name+" is seen", func() bool { return k.ledger(t).Seen[hook].Packets > 0 })
			after := l.Counters(t)
			counted := flow.Counter{Packets: after.RxPackets - before.RxPackets, Bytes: after.RxBytes - before.RxBytes}
			if side == Egress {
				// What tunnels of IPv4 count as sent has the outer headers in it.
				counted = flow.Counter{Packets: 1, Bytes: ipLen(row.dst) + 8 + payload}
			}
			checkLedger(t, k.ledger(t), hook, counted, map[string]flow.Counter{"counted": counted})
			records, _ := k.records(t, k.SweepOut)
			if len(records) != 1 {
				t.Fatalf("%s, %s: %d records, want 1", name, side, len(records))
			}
			checkRecord(t, &records[0], src, dst, udp, counted, 0)
		}
	}
}

func ipLen(addr string) uint64 {
	if strings.Contains(addr, ":") {
		return 40
	}
	return 20
}
