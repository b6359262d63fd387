package enrich

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

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

// TestInterfaceName: an interface that is gone keeps its name as long as flows may be left of it, and then no more.
func TestInterfaceName(t *testing.T) {
	h := New("")
	resting := true
	rested := func(time.Time) bool { return !resting }
	for i, row := range []struct {
		present map[uint32]string
		resting bool
		want    []string // of the interfaces 0 to 3
	}{
		{map[uint32]string{1: "a", 2: "b"}, false, []string{"", "a", "b", ""}},
		{map[uint32]string{1: "new", 3: "c"}, false, []string{"", "new", "b", "c"}}, // missed just now
		{map[uint32]string{1: "new", 3: "c"}, true, []string{"", "new", "b", "c"}},
		{map[uint32]string{1: "new"}, true, []string{"", "new", "b", "c"}},
		{map[uint32]string{1: "new", 3: "again"}, true, []string{"", "new", "b", "again"}},
		{map[uint32]string{1: "new"}, false, []string{"", "new", "", "again"}},
		{map[uint32]string{1: "new"}, false, []string{"", "new", "", ""}},
	} {
		resting = row.resting
		h.SetInterfaces(row.present, rested)
		var got []string
		for index := range uint32(len(row.want)) {
			got = append(got, h.InterfaceName(index))
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("step %d: called %q, want %q", i, got, row.want)
		}
	}
	if len(h.gone) != 0 {
		t.Errorf("%d interfaces are still missed", len(h.gone))
	}
}

// TestConcurrentUse loses no name, and gives the race detector something to see.
func TestConcurrentUse(t *testing.T) {
	h := New("")
	var all sync.WaitGroup
	for w := range uint32(4) {
		all.Go(func() {
			for range 200 {
				h.SetInterfaces(map[uint32]string{w: "if"}, func(time.Time) bool { return false })
				if got := h.InterfaceName(w); got != "if" {
					t.Errorf("interface %d is %q", w, got)
				}
			}
		})
		all.Go(func() {
			for range 20 {
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
}
