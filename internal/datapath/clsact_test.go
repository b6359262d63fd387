package datapath

import (
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"weir/internal/testnet"
)

// clsactLeft counts the qdiscs of that kind.
func clsactLeft(t *testing.T, l *testnet.Link) (n int) {
	t.Helper()
	qdiscs, err := l.Namespace.Netlink.QdiscList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: l.Index}})
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range qdiscs {
		if q.Type() == "clsact" {
			n++
		}
	}
	return n
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

// inside makes a call in a link's namespace that must not fail.
func inside(t *testing.T, l *testnet.Link, fn func() error) {
	t.Helper()
	if err := l.Namespace.Do(fn); err != nil {
		t.Fatal(err)
	}
}

// filter attaches one, and has what the kernel says about it checked.
func (k kernel) filter(t *testing.T, l *testnet.Link, side Side) (held hold) {
	t.Helper()
	prog := map[Side]string{Ingress: kernelProgTcIngress, Egress: kernelProgTcEgress}[side]
	inside(t, l, func() (err error) {
		held, err = k.qdiscs.attach(qdisc{0, l.Index}, side, k.coll.Programs[prog])
		return err
	})
	return held
}

// TestClsact counts both sides through filters, and removes the qdisc only if weir made it.
func TestClsact(t *testing.T) {
	for _, foreign := range []bool{false, true} {
		k := newKernel(t, 1024)
		out, in := veth(t)
		if foreign {
			inside(t, in, func() error { return netlink.QdiscAdd(clsact(in.Index)) })
		}
		holds := []hold{k.filter(t, in, Ingress), k.filter(t, in, Egress)}
		frame := testnet.UDP("10.0.0.1:1", "10.0.0.2:2", 10).Bytes()
		out.Send(t, frame)
		in.Send(t, frame)
		testnet.Eventually(t, "both packets are seen", func() bool {
			l := k.ledger(t)
			return l.Seen["tc_ingress"].Packets == 1 && l.Seen["tc_egress"].Packets == 1
		})
		for _, h := range holds {
			inside(t, in, h.Close)
		}
		if left, want := clsactLeft(t, in), map[bool]int{false: 0, true: 1}[foreign]; left != want {
			t.Errorf("made by somebody else %t: %d clsact qdiscs left, want %d", foreign, left, want)
		}
	}
}

// TestClsactAfterAKill replaces the filter that a killed weir left, and leaves the filters of others alone.
func TestClsactAfterAKill(t *testing.T) {
	k, killed := newKernel(t, 1024), newKernel(t, 1024)
	_, in := veth(t)
	killed.filter(t, in, Ingress)
	foreign := newFilter(in.Index, Ingress, killed.coll.Programs[kernelProgTcIngress])
	foreign.Name, foreign.Handle = "foreign", 1<<20
	inside(t, in, func() error { return netlink.FilterAdd(foreign) })
	held := k.filter(t, in, Ingress)
	if got, want := filterNames(t, in), []string{"foreign", "weir"}; !slices.Equal(got, want) {
		t.Errorf("attached: filters %v, want %v", got, want)
	}
	inside(t, in, held.Close)
	if got, want := filterNames(t, in), []string{"foreign"}; !slices.Equal(got, want) {
		t.Errorf("detached: filters %v, want %v", got, want)
	}
}

// TestClsactTakenAway: weir knows that its filter is gone, and leaves a qdisc alone that somebody else made in the place of
// its own.
func TestClsactTakenAway(t *testing.T) {
	k := newKernel(t, 1024)
	_, in := veth(t)
	for _, theirs := range []bool{false, true} {
		held := k.filter(t, in, Ingress)
		inside(t, in, func() error { return netlink.QdiscDel(clsact(in.Index)) })
		if theirs {
			inside(t, in, func() error { return netlink.QdiscAdd(clsact(in.Index)) })
		}
		inside(t, in, func() error {
			there, err := held.Held()
			if there {
				t.Error("a filter is there that went with its qdisc")
			}
			return err
		})
		inside(t, in, held.Close)
		if left, want := clsactLeft(t, in), map[bool]int{false: 0, true: 1}[theirs]; left != want {
			t.Errorf("made again by somebody else %t: %d clsact qdiscs left, want %d", theirs, left, want)
		}
	}
}
