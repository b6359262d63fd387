package datapath

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"weir/internal/testnet"
)

// TestAttachIngress counts packets through every mechanism, and leaves nothing behind.
func TestAttachIngress(t *testing.T) {
	for _, row := range []struct {
		hook IngressHook
		mode Mode
		seen string
		why  string
	}{
		{IngressAuto, ModeTCX, "tc_ingress", "xdp: not by itself on a virtual interface (veth)"},
		{IngressXDP, ModeXDP, "xdp_ingress", "as set"},
		{IngressXDPGeneric, ModeXDPGeneric, "xdp_ingress", "as set"},
		{IngressTC, ModeTCX, "tc_ingress", "first choice"},
	} {
		t.Run(string(row.hook), func(t *testing.T) {
			k := newKernel(t, 1024)
			out, in := veth(t)
			at := k.attach(t, in, row.hook)
			if at.Mode != row.mode || at.Side != Ingress || at.Why != row.why {
				t.Errorf("attached as %s on %s because %q, want %s because %q", at.Mode, at.Side, at.Why, row.mode, row.why)
			}
			out.Send(t, testnet.UDP("10.0.0.1:1", "10.0.0.2:2", 10).Bytes())
			testnet.Eventually(t, "the packet is counted", func() bool { return k.ledger(t).Seen[row.seen].Packets == 1 })
		})
	}
}

// TestAttachRefused names the interface and what the mechanism answered.
func TestAttachRefused(t *testing.T) {
	k := newKernel(t, 1024)
	_, in := veth(t)
	other := newKernel(t, 1024)
	other.attach(t, in, IngressXDP) // somebody's XDP program
	err := in.Namespace.Do(func() error {
		_, err := k.AttachIngress(netInterface(in), IngressXDP)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), `"in" ingress: xdp:`) || !strings.Contains(err.Error(), "busy") {
		t.Errorf("error %v, want one that names the interface, the mechanism and the cause", err)
	}
}

// TestAttachFirst takes the first way that works, and says why not the ones before it.
func TestAttachFirst(t *testing.T) {
	detached := false
	refuse := func(mode Mode, why string) way {
		return way{mode, func() (func() error, error) { return nil, errors.New(why) }}
	}
	accept := func(mode Mode) way {
		return way{mode, func() (func() error, error) { return func() error { detached = true; return nil }, nil }}
	}
	ifi := net.Interface{Name: "eth0"}
	at, err := attachFirst(ifi, Ingress, []way{refuse(ModeXDP, "busy"), accept(ModeTCX), accept(ModeClsact)})
	if err != nil || at.Mode != ModeTCX || at.Why != "xdp: busy" {
		t.Errorf("attached %+v, %v, want tcx because xdp is busy", at, err)
	}
	if err := at.Close(); err != nil || !detached {
		t.Errorf("detached %t, %v", detached, err)
	}
	_, err = attachFirst(ifi, Egress, []way{refuse(ModeTCX, "too old"), refuse(ModeClsact, "no such device")})
	if want := `attach to "eth0" egress: tcx: too old` + "\nclsact: no such device"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// TestClsact counts both sides through filters, and removes the qdisc only if weir made it.
func TestClsact(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		k := newKernel(t, 1024)
		out, in := veth(t)
		inside := func(fn func() error) {
			t.Helper()
			if err := in.Namespace.Do(fn); err != nil {
				t.Fatal(err)
			}
		}
		if foreign {
			inside(func() error { return netlink.QdiscAdd(clsact(in.Index)) })
		}
		var detach []func() error
		for side, prog := range map[Side]string{Ingress: kernelProgTcIngress, Egress: kernelProgTcEgress} {
			inside(func() error {
				d, err := k.qdiscs.attach(in.Index, side, k.coll.Programs[prog])
				detach = append(detach, d)
				return err
			})
		}
		frame := testnet.UDP("10.0.0.1:1", "10.0.0.2:2", 10).Bytes()
		out.Send(t, frame)
		in.Send(t, frame)
		testnet.Eventually(t, "both packets are seen", func() bool {
			l := k.ledger(t)
			return l.Seen["tc_ingress"].Packets == 1 && l.Seen["tc_egress"].Packets == 1
		})
		for _, d := range detach {
			inside(d)
		}
		inside(func() error {
			link, err := netlink.LinkByIndex(in.Index)
			if err != nil {
				return err
			}
			qdiscs, err := netlink.QdiscList(link)
			left := 0
			for _, q := range qdiscs {
				if q.Type() == "clsact" {
					left++
				}
			}
			if want := map[bool]int{false: 0, true: 1}[foreign]; left != want {
				t.Errorf("made by somebody else %t: %d clsact qdiscs left, want %d", foreign, left, want)
			}
			return err
		})
	}
}

// TestClsactAfterAKill replaces the filter that a killed weir left, and leaves the filters of others alone.
func TestClsactAfterAKill(t *testing.T) {
	k, killed := newKernel(t, 1024), newKernel(t, 1024)
	_, in := veth(t)
	err := in.Namespace.Do(func() error {
		if _, err := killed.qdiscs.attach(in.Index, Ingress, killed.coll.Programs[kernelProgTcIngress]); err != nil {
			return err
		}
		foreign := newFilter(in.Index, Ingress, killed.coll.Programs[kernelProgTcIngress])
		foreign.Name, foreign.Handle = "foreign", 1<<20
		if err := netlink.FilterAdd(foreign); err != nil {
			return err
		}
		detach, err := k.qdiscs.attach(in.Index, Ingress, k.coll.Programs[kernelProgTcIngress])
		if err != nil {
			return err
		}
		for _, want := range [][]string{{"foreign", "weir"}, {"foreign"}} {
			if got := filterNames(t, in); !slices.Equal(got, want) {
				t.Errorf("filters %v, want %v", got, want)
			}
			if err := detach(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func filterNames(t *testing.T, l *testnet.Link) (names []string) {
	t.Helper()
	filters, err := l.Namespace.Netlink.FilterList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: l.Index}}, parent(Ingress))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range filters {
		names = append(names, f.(*netlink.BpfFilter).Name)
	}
	slices.Sort(names)
	return names
}

// TestDetachFromLostInterface is no error.
func TestDetachFromLostInterface(t *testing.T) {
	k := newKernel(t, 1024)
	_, in := veth(t)
	k.attach(t, in, IngressAuto)
	k.attach(t, in, IngressTC) // a second program, as on egress
	err := in.Namespace.Do(func() error {
		link, err := netlink.LinkByIndex(in.Index)
		if err != nil {
			return err
		}
		return netlink.LinkDel(link)
	})
	if err != nil {
		t.Fatal(err)
	}
}
