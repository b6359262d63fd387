package testnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// End describes one end of a veth pair before it is made.
type End struct {
	Namespace *Namespace
	Name      string
	Addrs     []string // with prefix length: "10.0.0.1/24", "fd00::1/64"
	MTU       int      // 0 means 1500
	Queues    int      // of receiving and of sending; 0 means 1
}

// Link is an interface in a namespace.
type Link struct {
	Namespace *Namespace
	Name      string
	Index     int
	MAC       net.HardwareAddr

	peer *Link // the other end of a veth pair
}

// Counters are those that the kernel keeps for an interface, since it exists.
type Counters struct {
	RxPackets, RxBytes, RxDropped uint64
	TxPackets, TxBytes, TxDropped uint64
}

// Veth joins two namespaces, which may be one, by a pair of interfaces, up and with addresses. Each end knows the
// other's addresses as permanent neighbours. Any other neighbour must be made known by AddNeighbour: the interfaces do
// not ask (they are set "arp off", which in IPv6 stops multicast reports as well).
func Veth(t testing.TB, a, b End) (*Link, *Link) {
	t.Helper()
	if err := addVeth(a, b); err != nil {
		t.Fatalf("make veth pair %s, %s: %v", a.Name, b.Name, err)
	}
	linkA, linkB := setUpEnd(t, a), setUpEnd(t, b)
	linkA.peer, linkB.peer = linkB, linkA
	for _, l := range []*Link{linkA, linkB} {
		Eventually(t, l.Name+" is up", func() bool { return l.operational(t) })
	}
	for _, from := range []struct {
		link *Link
		to   End
	}{{linkA, b}, {linkB, a}} {
		for _, addr := range from.to.Addrs {
			from.link.AddNeighbour(t, netip.MustParsePrefix(addr).Addr(), from.link.peer.MAC)
		}
	}
	return linkA, linkB
}

func addVeth(a, b End) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = a.Name, mtu(a)
	attrs.NumTxQueues, attrs.NumRxQueues = queues(a), queues(a)
	return a.Namespace.Netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:       attrs,
		PeerName:        b.Name,
		PeerNamespace:   netlink.NsFd(b.Namespace.handle),
		PeerMTU:         uint32(mtu(b)),
		PeerNumTxQueues: uint32(queues(b)),
		PeerNumRxQueues: uint32(queues(b)),
	})
}

func mtu(e End) int {
	if e.MTU == 0 {
		return 1500
	}
	return e.MTU
}

func queues(e End) int { return max(1, e.Queues) }

func setUpEnd(t testing.TB, e End) *Link {
	t.Helper()
	nl := e.Namespace.Netlink
	link, err := nl.LinkByName(e.Name)
	if err != nil {
		t.Fatalf("find interface %s: %v", e.Name, err)
	}
	if err := nl.LinkSetARPOff(link); err != nil {
		t.Fatalf("set interface %s arp off: %v", e.Name, err)
	}
	if err := nl.LinkSetUp(link); err != nil {
		t.Fatalf("set interface %s up: %v", e.Name, err)
	}
	l := &Link{Namespace: e.Namespace, Name: e.Name, Index: link.Attrs().Index, MAC: link.Attrs().HardwareAddr}
	for _, addr := range e.Addrs {
		l.AddAddr(t, netip.MustParsePrefix(addr))
	}
	return l
}

// AddLink makes an interface of any kind, up, with an address and "arp off". It reports whether the kernel has that kind.
func (n *Namespace) AddLink(t testing.TB, link netlink.Link, addr string) (*Link, bool) {
	t.Helper()
	err := n.Netlink.LinkAdd(link)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, false
	}
	if err != nil {
		t.Fatalf("make interface %s of kind %s: %v", link.Attrs().Name, link.Type(), err)
	}
	return setUpEnd(t, End{Namespace: n, Name: link.Attrs().Name, Addrs: []string{addr}}), true
}

// AddAddr gives the interface an address, usable when it returns. The first IPv6 one switches IPv6 on.
func (l *Link) AddAddr(t testing.TB, addr netip.Prefix) {
	t.Helper()
	flags := 0
	if addr.Addr().Is6() {
		flags = unix.IFA_F_NODAD
		l.Namespace.Sysctl(t, "net/ipv6/conf/"+l.Name+"/disable_ipv6", "0")
	}
	err := l.Namespace.Netlink.AddrAdd(l.dummy(), &netlink.Addr{
		IPNet: &net.IPNet{IP: addr.Addr().AsSlice(), Mask: net.CIDRMask(addr.Bits(), addr.Addr().BitLen())},
		Flags: flags,
	})
	if err != nil {
		t.Fatalf("add address %s to %s: %v", addr, l.Name, err)
	}
	Eventually(t, addr.String()+" is local", func() bool { // of IPv6 only a little later
		routes, err := l.Namespace.Netlink.RouteGet(addr.Addr().AsSlice())
		return err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL
	})
}

// AddNeighbour tells the interface, for good, at which MAC address a neighbour is reached.
func (l *Link) AddNeighbour(t testing.TB, ip netip.Addr, mac net.HardwareAddr) {
	t.Helper()
	err := l.Namespace.Netlink.NeighSet(&netlink.Neigh{
		LinkIndex:    l.Index,
		State:        netlink.NUD_PERMANENT,
		IP:           ip.AsSlice(),
		HardwareAddr: mac,
	})
	if err != nil {
		t.Fatalf("add neighbour %s to %s: %v", ip, l.Name, err)
	}
}

// Counters reads the interface's counters.
func (l *Link) Counters(t testing.TB) Counters {
	t.Helper()
	link, err := l.Namespace.Netlink.LinkByIndex(l.Index)
	if err != nil {
		t.Fatalf("read counters of %s: %v", l.Name, err)
	}
	s := link.Attrs().Statistics
	return Counters{
		RxPackets: s.RxPackets, RxBytes: s.RxBytes, RxDropped: s.RxDropped,
		TxPackets: s.TxPackets, TxBytes: s.TxBytes, TxDropped: s.TxDropped,
	}
}

// operational reports whether the kernel has noticed that the other end is up as well: it does so by itself, a little
// later, and loses what is sent before.
func (l *Link) operational(t testing.TB) bool {
	t.Helper()
	link, err := l.Namespace.Netlink.LinkByIndex(l.Index)
	if err != nil {
		t.Fatalf("read state of %s: %v", l.Name, err)
	}
	return link.Attrs().OperState == netlink.OperUp
}

// Send sends frames out of the interface as they are, in order, through a packet socket.
func (l *Link) Send(t testing.TB, frames ...[]byte) {
	t.Helper()
	err := l.Namespace.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		defer unix.Close(fd)
		for i, frame := range frames {
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: l.Index}); err != nil {
				return fmt.Errorf("frame %d of %d bytes: %w", i, len(frame), err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("send out of %s: %v", l.Name, err)
	}
}

// dummy names the interface to the netlink package.
func (l *Link) dummy() netlink.Link {
	return &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: l.Name, Index: l.Index}}
}
