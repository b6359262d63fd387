package datapath

import (
	"path/filepath"
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

// TestClsactAfterAKill replaces the filters that killed weirs left, and leaves the filters of others alone.
func TestClsactAfterAKill(t *testing.T) {
	k, killed, another := newKernel(t, 1024), newKernel(t, 1024), newKernel(t, 1024)
	_, in := veth(t)
	dead := []hold{killed.filter(t, in, Ingress), another.filter(t, in, Ingress)}
	for _, h := range dead {
		if err := h.(filterHold).life.Close(); err != nil { // as the kernel does
			t.Fatal(err)
		}
	}
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

// checkHeld compares what weir knows of its filter.
func checkHeld(t *testing.T, l *testnet.Link, h hold, when string, want bool) {
	t.Helper()
	inside(t, l, func() error {
		held, err := h.Held()
		if held != want {
			t.Errorf("%s: held %t, want %t", when, held, want)
		}
		return err
	})
}

// pinnedKernel is one with a folder of pins of its own, or that of the one before.
func pinnedKernel(t *testing.T, dir string) kernel {
	t.Helper()
	return newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, PinDir: dir})
}

// TestClsactBesideAnother: the filters of two that live stay beside each other, and so does that of one that has let its own
// stay: each removes its own alone.
func TestClsactBesideAnother(t *testing.T) {
	plain := func(t *testing.T) kernel { return newKernel(t, 1024) }
	pinned := func(t *testing.T) kernel { return pinnedKernel(t, filepath.Join(testnet.BPFFS(t), "weir")) }
	for name, make := range map[string][2]func(*testing.T) kernel{
		"without pins": {plain, plain}, "with pins": {pinned, pinned}, "beside pins": {pinned, plain}, "pins beside": {plain, pinned},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := make[0](t), make[1](t)
			_, in := veth(t)
			first, second := a.filter(t, in, Ingress), b.filter(t, in, Ingress)
			checkHeld(t, in, first, "the first, beside another", true)
			inside(t, in, first.Close)
			checkHeld(t, in, first, "the first, closed", false)
			checkHeld(t, in, second, "the second, after the first", true)
			inside(t, in, second.Close)
			if names := filterNames(t, in); len(names) != 0 {
				t.Errorf("filters %v are left", names)
			}
		})
	}
}

// TestClsactTakenAway: weir knows that its filter is gone, and leaves a qdisc alone that somebody else made in the place of
// its own, also when it attaches again.
func TestClsactTakenAway(t *testing.T) {
	for _, pins := range []bool{false, true} {
		k := newKernel(t, 1024)
		if pins {
			k = pinnedKernel(t, filepath.Join(testnet.BPFFS(t), "weir"))
		}
		_, in := veth(t)
		for _, theirs := range []bool{false, true} {
			held := k.filter(t, in, Ingress)
			inside(t, in, func() error { return netlink.QdiscDel(clsact(in.Index)) })
			if theirs {
				inside(t, in, func() error { return netlink.QdiscAdd(clsact(in.Index)) })
			}
			checkHeld(t, in, held, "the qdisc gone", false)
			want := map[bool]int{false: 0, true: 1}[theirs]
			for range 2 {
				inside(t, in, held.Close)
				if left := clsactLeft(t, in); left != want {
					t.Errorf("pins %t, made again by somebody else %t: %d clsact qdiscs left, want %d", pins, theirs, left, want)
				}
				held = k.filter(t, in, Ingress)
			}
			inside(t, in, held.Close)
		}
	}
}

// TestClsactTakenAwayMeanwhile: while no process has the folder, somebody made another qdisc in the place of weir's.
func TestClsactTakenAwayMeanwhile(t *testing.T) {
	dir := filepath.Join(testnet.BPFFS(t), "weir")
	_, in := veth(t)
	for round := range 2 {
		begin(t, Config{MaxFlows: 1024, Sampling: 1, PinDir: dir}, in, ModeClsact, ModeClsact).end(t)
		if round == 0 {
			inside(t, in, func() error { return netlink.QdiscDel(clsact(in.Index)) })
			inside(t, in, func() error { return netlink.QdiscAdd(clsact(in.Index)) })
		}
	}
	inside(t, in, func() error { return Unpin(dir) })
	if left, names := clsactLeft(t, in), filterNames(t, in); left != 1 || len(names) != 0 {
		t.Errorf("%d clsact qdiscs and filters %v left, want theirs alone", left, names)
	}
}

// TestClsactOneTakenAway: with weir's other filter on it, the qdisc is still weir's.
func TestClsactOneTakenAway(t *testing.T) {
	k := newKernel(t, 1024)
	_, in := veth(t)
	ingress, egress := k.filter(t, in, Ingress).(filterHold), k.filter(t, in, Egress)
	inside(t, in, func() error {
		_, err := removeFilters(in.Index, Ingress, ingress.program)
		return err
	})
	inside(t, in, ingress.Close)
	again := k.filter(t, in, Ingress)
	inside(t, in, again.Close)
	inside(t, in, egress.Close)
	if left := clsactLeft(t, in); left != 0 {
		t.Errorf("%d clsact qdiscs left of weir's own", left)
	}
}

// TestPinnedFilterElsewhere: what stays in another namespace is told of, and is taken over by who comes there.
func TestPinnedFilterElsewhere(t *testing.T) {
	cfg := Config{MaxFlows: 1024, Sampling: 1, PinDir: filepath.Join(testnet.BPFFS(t), "weir")}
	_, in := veth(t)
	begin(t, cfg, in, ModeClsact, ModeClsact).end(t)
	d, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if outOfReach, err := d.Settle(); err != nil || outOfReach != 2 {
		t.Errorf("%d filters are out of reach (%v), want 2", outOfReach, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Unpin(cfg.PinDir); err == nil {
		t.Error("unpinned with filters out of reach, want an error")
	}
	begin(t, cfg, in, ModeClsact, ModeClsact).end(t)
	if names := filterNames(t, in); len(names) != 1 {
		t.Errorf("filters %v, want one", names)
	}
	inside(t, in, func() error { return Unpin(cfg.PinDir) })
}
