package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// life is one process's on a folder of pins: it attaches both sides, and what Close of an agent does not.
type life struct {
	kernel
	ends []*Attachment
}

// begin loads and attaches, as an agent does at its start.
func begin(t *testing.T, cfg Config, l *testnet.Link, modes ...Mode) life {
	t.Helper()
	d, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := life{kernel: kernel{d}}
	err = l.Namespace.Do(func() error {
		ifi := onLink(l)
		progs, err := d.setAt(ifi.place())
		if err != nil {
			return err
		}
		for i, side := range []Side{Ingress, Egress} {
			ways := append(d.tcWays(ifi, Ingress, progs.tcIngress), way{ModeXDP, func() (hold, error) { return d.attachXDP(ifi, progs.xdp, ModeXDP) }})
			if side == Egress {
				ways = d.tcWays(ifi, Egress, progs.tcEgress)
			}
			for _, w := range ways {
				if w.mode != modes[i] {
					continue
				}
				at, err := attachFirst(ifi, side, []way{w})
				if err != nil {
					return err
				}
				n.ends = append(n.ends, at)
			}
		}
		_, err = d.Settle()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// end lets everything stay.
func (n life) end(t *testing.T) {
	t.Helper()
	var errs []error
	for _, at := range n.ends {
		errs = append(errs, at.Leave())
	}
	if err := errors.Join(append(errs, n.Close())...); err != nil {
		t.Fatal(err)
	}
}

// TestLinksOutliveTheProcess counts between two processes, whichever way the programs are attached, and has each program once.
func TestLinksOutliveTheProcess(t *testing.T) {
	for _, modes := range [][]Mode{{tcMode(t), tcMode(t)}, {ModeXDP, tcMode(t)}, {ModeClsact, ModeClsact}} {
		t.Run(fmt.Sprint(modes), func(t *testing.T) {
			cfg := Config{MaxFlows: 1024, Sampling: 1, PinDir: filepath.Join(testnet.BPFFS(t), "weir")}
			out, in := veth(t)
			before := attached(t, in)
			g := testnet.NewGenerator(t, out, testnet.Flows{Number: 4})
			sent := uint64(0)
			send := func() { g.Send(t, 1000); sent += 1000 }
			for i := range 3 {
				n := begin(t, cfg, in, modes...)
				if i == 2 {
					n.checkCounted(t, sent)
				}
				send()
				n.end(t)
				send()
			}
			// Elsewhere now: what the last process left there is detached.
			_, other := testnet.Veth(t, testnet.End{Namespace: out.Namespace, Name: "out2"}, testnet.End{Namespace: in.Namespace, Name: "in2"})
			n := begin(t, cfg, other, modes...)
			send()
			if sent -= 1000; n.ledger(t).Counted.Packets > sent {
				t.Errorf("%d packets counted, want %d", n.ledger(t).Counted.Packets, sent)
			}
			n.end(t)
			if err := other.Namespace.Do(func() error { return Unpin(cfg.PinDir) }); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(cfg.PinDir); err == nil {
				t.Error("the folder of pins is still there")
			}
			if after := attached(t, in); after != before {
				t.Errorf("attached is %s, and was %s at first", after, before)
			}
		})
	}
}

// attached says how many programs the kernel has on an interface.
func attached(t *testing.T, l *testnet.Link) string {
	t.Helper()
	info, err := l.Namespace.Netlink.LinkByIndex(l.Index)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprint("XDP ", info.Attrs().Xdp != nil && info.Attrs().Xdp.Attached)
	err = l.Namespace.Do(func() error {
		for _, side := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			result, err := link.QueryPrograms(link.QueryOptions{Target: l.Index, Attach: side})
			if err == nil {
				text += fmt.Sprintf(", %d %s", len(result.Programs), side)
			}
		}
		for _, side := range []Side{Ingress, Egress} {
			filters, err := listFilters(l.Index, side)
			if err != nil && !gone(err) {
				return err
			}
			text += fmt.Sprintf(", %d filters", len(filters))
		}
		qdiscs, err := netlink.QdiscList(info)
		text += fmt.Sprintf(", %d qdiscs", len(qdiscs))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (n life) checkCounted(t *testing.T, sent uint64) {
	t.Helper()
	testnet.Eventually(t, "everything is counted", func() bool { return n.ledger(t).Counted.Packets == sent })
	records, _ := n.records(t, n.SweepOut)
	total := uint64(0)
	for _, r := range records {
		total += r.Halves[0].Packets + r.Halves[1].Packets
	}
	if len(records) != 4 || total != sent {
		t.Errorf("%d packets in %d records, want %d in 4", total, len(records), sent)
	}
	n.Release(flow.EventID{Instance: n.instance, Sequence: records[len(records)-1].ID.Sequence | 1})
}
