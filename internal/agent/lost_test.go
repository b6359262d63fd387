package agent

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"weir/internal/config"
	"weir/internal/datapath"
	"weir/internal/testnet"
)

// TestRecreated: an interface that goes away and comes back under its name is attached again.
func TestRecreated(t *testing.T) {
	s := newStand(t)
	s.do(t, func() error { return s.attachAll(t.Context(), s.interfaces) })
	for range 2 {
		if err := s.namespace.Netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "a"}}); err != nil {
			t.Fatal(err)
		}
		l, _ := testnet.Veth(t, testnet.End{Namespace: s.namespace, Name: "a"}, testnet.End{Namespace: testnet.NewNamespace(t), Name: "a"})
		s.do(t, s.relist)
		s.do(t, s.relist)
		if n := programs(t, s.namespace, l.Index); n != 2 {
			t.Errorf("%d programs on the new interface, want 2", n)
		}
	}
	s.check(t, "recreated", map[string]float64{
		"weir_attached_interfaces ingress tcx": 2, "weir_attached_interfaces egress tcx": 2, "weir_interfaces_lost_total": 2,
	}, ready("tcx", "b", "a"))
}

// moveAway puts an interface into another namespace, which it returns.
func (s *stand) moveAway(t *testing.T, l netlink.Link) *testnet.Namespace {
	t.Helper()
	elsewhere := testnet.NewNamespace(t)
	err := elsewhere.Do(func() error {
		handle, err := netns.Get()
		if err != nil {
			return err
		}
		defer handle.Close()
		return s.namespace.Netlink.LinkSetNsFd(l, int(handle))
	})
	if err != nil {
		t.Fatal(err)
	}
	return elsewhere
}

// TestLoss: an interface that goes away is forgotten and counted, once, and the other one stays.
func TestLoss(t *testing.T) {
	for _, hook := range []config.IngressHook{config.IngressXDP, config.IngressTC} {
		for _, moved := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, moved %t", hook, moved), func(t *testing.T) {
				s := newStand(t)
				s.hook = hook
				s.do(t, func() error { return s.attachAll(t.Context(), s.interfaces) })
				left, kept := s.interfaces[0], s.interfaces[1]
				l, err := s.namespace.Netlink.LinkByIndex(left.Index)
				if err != nil {
					t.Fatal(err)
				}
				elsewhere := s.namespace
				if moved {
					elsewhere = s.moveAway(t, l)
				} else if err := s.namespace.Netlink.LinkDel(l); err != nil {
					t.Fatal(err)
				}
				s.do(t, s.relist)
				s.do(t, s.relist)
				mode := map[config.IngressHook]string{config.IngressXDP: "xdp", config.IngressTC: "tcx"}[hook]
				s.check(t, "one lost", map[string]float64{
					"weir_attached_interfaces ingress " + mode: 1, "weir_attached_interfaces egress tcx": 1, "weir_interfaces_lost_total": 1,
				}, append(ready(mode, "b"), missing("a")))
				if moved {
					if n := programs(t, elsewhere, left.Index); n != 0 {
						t.Errorf("%d programs stay on the interface that was moved", n)
					}
				}
				if n := programs(t, s.namespace, kept.Index); n != 2 {
					t.Errorf("%d programs on the other interface, want 2", n)
				}
				warnings := s.logs.FilterMessageSnippet("went away").All()
				if len(warnings) != 1 || warnings[0].ContextMap()["interface"] != left.Name {
					t.Errorf("logged %v, want that %s went away", warnings, left.Name)
				}
				s.do(t, s.detachAll)
				s.check(t, "detached", map[string]float64{"weir_interfaces_lost_total": 1}, []string{missing("a")})
			})
		}
	}
}

// TestLostWhileLookedAfter: an interface that is deleted while the attachments are looked after went away: nobody removed its
// programs.
func TestLostWhileLookedAfter(t *testing.T) {
	const rounds = 20
	s := newStand(t)
	s.do(t, func() error { return s.attachAll(t.Context(), s.interfaces) })
	for range rounds {
		gone := make(chan error)
		go func() { gone <- s.namespace.Netlink.LinkDel(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "a"}}) }()
		for deleted := false; !deleted; {
			s.checked = time.Time{}
			s.do(t, s.relist)
			select {
			case err := <-gone:
				if err != nil {
					t.Fatal(err)
				}
				deleted = true
			default:
			}
		}
		s.do(t, s.relist)
		testnet.Veth(t, testnet.End{Namespace: s.namespace, Name: "a"}, testnet.End{Namespace: testnet.NewNamespace(t), Name: "a"})
		s.do(t, s.relist)
	}
	s.check(t, "after all", map[string]float64{
		"weir_attached_interfaces ingress tcx": 2, "weir_attached_interfaces egress tcx": 2, "weir_interfaces_lost_total": rounds,
	}, ready("tcx", "b", "a"))
}

// removeFrom takes TCX programs off an interface, as `bpftool link detach` does.
func removeFrom(t *testing.T, namespace *testnet.Namespace, ifindex int, side ebpf.AttachType) {
	t.Helper()
	err := namespace.Do(func() error {
		result, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: side})
		if err != nil {
			return err
		}
		for _, p := range result.Programs {
			id, ok := p.LinkID()
			if !ok {
				return fmt.Errorf("program %d has no link", p.ID)
			}
			l, err := link.NewFromID(id)
			if err != nil {
				return err
			}
			if err := errors.Join(l.Detach(), l.Close()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRemoved: a program that somebody else removes is attached again, and the other side's stays; not before it is time to
// look after them again, lest two that remove each other's keep a node busy.
func TestRemoved(t *testing.T) {
	s := newStand(t)
	s.do(t, func() error { return s.attachAll(t.Context(), s.interfaces) })
	s.do(t, s.relist)
	index := s.interfaces[0].Index
	egress := s.current[index][0]
	removeFrom(t, s.namespace, index, ebpf.AttachTCXIngress)
	s.do(t, s.relist)
	if n := programs(t, s.namespace, index); n != 1 {
		t.Errorf("%d programs at once after a removal, want 1", n)
	}
	s.checked = time.Time{}
	s.do(t, s.relist)
	if n := programs(t, s.namespace, index); n != 2 || s.current[index][0] != egress {
		t.Errorf("%d programs after a while, and the other side's is now %+v; want 2 and %+v", n, s.current[index][0], egress)
	}
	s.check(t, "attached again", map[string]float64{
		"weir_attached_interfaces ingress tcx": 2, "weir_attached_interfaces egress tcx": 2, "weir_attachments_removed_total": 1,
	}, ready("tcx", "a", "b"))
	if n := s.logs.FilterMessage("somebody removed weir's program").Len(); n != 1 {
		t.Errorf("%d removals were logged, want 1", n)
	}
}

// TestNotRegained: readiness says so of an interface that lost its program and cannot have it again, until it can.
func TestNotRegained(t *testing.T) {
	s := newStand(t)
	lo := datapath.Interface{Index: 1, Name: "lo"}
	s.want = named("lo")
	s.do(t, func() error { return s.attachAll(t.Context(), []datapath.Interface{lo}) })
	removeFrom(t, s.namespace, lo.Index, ebpf.AttachTCXIngress)
	s.hook = config.IngressXDP // which loopback has none of
	s.do(t, s.relist)
	metrics := map[string]float64{"weir_attachments_removed_total": 1, "weir_attach_failures_total": 1}
	s.check(t, "lost", metrics, []string{noXDP("lo")})
	s.hook = config.IngressTC
	s.do(t, s.relist)
	s.check(t, "not tried yet", metrics, []string{noXDP("lo")})
	r := s.refused[lo.Index]
	r.at = r.at.Add(-2 * retryAfter)
	s.refused[lo.Index] = r
	s.do(t, s.relist)
	metrics["weir_attached_interfaces ingress tcx"], metrics["weir_attached_interfaces egress tcx"] = 1, 1
	s.check(t, "regained", metrics, ready("tcx", "lo"))
}
