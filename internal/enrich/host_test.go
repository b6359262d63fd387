package enrich

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"

	"weir/internal/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newHost returns a Host that knows nothing yet, and an interface in a namespace.
func newHost(t *testing.T) (*Host, *testnet.Link) {
	t.Helper()
	n := testnet.NewNamespace(t)
	link, _ := testnet.Veth(t, testnet.End{Namespace: n, Name: "a"}, testnet.End{Namespace: n, Name: "b"})
	return New(""), link
}

func withIndex(l *testnet.Link) netlink.Link {
	return &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: l.Name, Index: l.Index}}
}

func TestLocal(t *testing.T) {
	h, link := newHost(t)
	link.AddAddr(t, netip.MustParsePrefix("10.1.0.1/24"))
	link.AddAddr(t, netip.MustParsePrefix("fd00::1/64"))
	pointToPoint := &netlink.Addr{
		IPNet: &net.IPNet{IP: net.IPv4(10, 2, 0, 1), Mask: net.CIDRMask(32, 32)},
		Peer:  &net.IPNet{IP: net.IPv4(10, 2, 0, 2), Mask: net.CIDRMask(32, 32)},
	}
	if err := link.Namespace.Netlink.AddrAdd(withIndex(link), pointToPoint); err != nil {
		t.Fatal(err)
	}
	if h.Local(netip.MustParseAddr("10.1.0.1")) {
		t.Error("an address is local before any was listed")
	}
	if err := link.Namespace.Do(h.Refresh); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"10.1.0.1":         true,
		"::ffff:10.1.0.1":  true,
		"fd00::1":          true,
		"10.2.0.1":         true,
		"127.0.0.1":        true,
		"127.9.8.7":        true,
		"::ffff:127.0.0.1": true,
		"::1":              true,

		"10.1.0.2":        false, // its neighbour
		"10.1.0.0":        false, // its network
		"10.1.0.255":      false, // the broadcast address
		"10.2.0.2":        false, // the other end
		"::ffff:10.1.0.2": false,
		"fd00::2":         false,
		"fd00::":          false,
		"::10.1.0.1":      false, // IPv4-compatible, not v4-mapped
		"224.0.0.1":       false,
		"0.0.0.0":         false,
		"::":              false,
	} {
		if got := h.Local(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s: local %t, want %t", text, got, want)
		}
	}
	if h.Local(netip.Addr{}) {
		t.Error("no address is local")
	}
}

func TestInterfaceName(t *testing.T) {
	h, link := newHost(t)
	h.Name(uint32(link.Index), link.Name)
	h.Name(1<<31, "old")
	h.Name(1<<31, "new")
	if err := link.Namespace.Netlink.LinkDel(withIndex(link)); err != nil {
		t.Fatal(err)
	}
	if err := link.Namespace.Do(h.Refresh); err != nil {
		t.Fatal(err)
	}
	for index, want := range map[uint32]string{uint32(link.Index): link.Name, 1 << 31: "new", 0: "", 4711: ""} {
		if got := h.InterfaceName(index); got != want {
			t.Errorf("interface %d is %q, want %q", index, got, want)
		}
	}
}

// TestConcurrentUse loses no name, and gives the race detector something to see.
func TestConcurrentUse(t *testing.T) {
	const writers, each = 4, 200
	h := New("")
	var all sync.WaitGroup
	for w := range uint32(writers) {
		all.Go(func() {
			for i := range uint32(each) {
				index := w*each + i
				h.Name(index, fmt.Sprint("if", index))
				if got := h.InterfaceName(index); got != fmt.Sprint("if", index) {
					t.Errorf("interface %d is %q", index, got)
				}
			}
		})
		all.Go(func() {
			for range each / 10 {
				if err := h.Refresh(); err != nil {
					t.Error(err)
				}
				if !h.Local(netip.IPv6Loopback()) {
					t.Error("::1 is not local")
				}
			}
		})
	}
	all.Wait()
	for index := range uint32(writers * each) {
		if got := h.InterfaceName(index); got != fmt.Sprint("if", index) {
			t.Errorf("interface %d is %q in the end", index, got)
		}
	}
}
