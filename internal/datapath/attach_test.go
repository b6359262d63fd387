package datapath

import (
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
		{IngressAuto, ModeXDP, "xdp_ingress", "first choice"},
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

// TestAttachFallsBack says what the better mechanism answered.
func TestAttachFallsBack(t *testing.T) {
	k := newKernel(t, 1024)
	_, in := veth(t)
	other := newKernel(t, 1024)
	other.attach(t, in, IngressXDP) // somebody's XDP program
	at := k.attach(t, in, IngressAuto)
	if at.Mode != ModeTCX || !strings.Contains(at.Why, "xdp: ") || !strings.Contains(at.Why, "busy") {
		t.Errorf("attached as %s because %q, want tcx because XDP is busy", at.Mode, at.Why)
	}
	err := in.Namespace.Do(func() error {
		_, err := k.AttachIngress(netInterface(in), IngressXDP)
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "in ingress: xdp:") {
		t.Errorf("error %v, want one that names the interface and the mechanism", err)
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
