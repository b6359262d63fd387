package datapath

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"weir/internal/testnet"
)

// TestAttachIngress counts packets through every mechanism, and leaves nothing behind.
func TestAttachIngress(t *testing.T) {
	tc := tcMode(t)
	tcWhy := "first choice"
	if tc == ModeClsact {
		tcWhy = "tcx: "
	}
	for _, row := range []struct {
		hook    IngressHook
		mode    Mode
		seen    string
		why     string // how it begins
		refused Refusal
	}{
		{IngressAuto, tc, "tc_ingress", "xdp: not by itself on a virtual interface (veth)", RefusedVirtual},
		{IngressXDP, ModeXDP, "xdp_ingress", "as set", ""},
		{IngressXDPGeneric, ModeXDPGeneric, "xdp_ingress", "as set", ""},
		{IngressTC, tc, "tc_ingress", tcWhy, ""},
	} {
		t.Run(string(row.hook), func(t *testing.T) {
			k := newKernel(t, 1024)
			out, in := veth(t)
			at := k.attach(t, in, row.hook)
			if at.Mode != row.mode || at.Side != Ingress || !strings.HasPrefix(at.Why, row.why) || at.Refused != row.refused {
				t.Errorf("attached as %s on %s because %q (%q), want %s because %q (%q)",
					at.Mode, at.Side, at.Why, at.Refused, row.mode, row.why, row.refused)
			}
			out.Send(t, testnet.UDP("10.0.0.1:1", "10.0.0.2:2", 10).Bytes())
			testnet.Eventually(t, "the packet is counted", func() bool { return k.ledger(t).Seen[row.seen].Packets == 1 })
		})
	}
}

// foreignXDP attaches somebody else's XDP program, as `ip link set xdp` does, and returns its id.
func foreignXDP(t *testing.T, l *testnet.Link) uint32 {
	t.Helper()
	program := newProgram(t, ebpf.XDP, asm.Mov.Imm(asm.R0, xdpPass), asm.Return())
	named, err := l.Namespace.Netlink.LinkByIndex(l.Index)
	if err == nil {
		err = l.Namespace.Do(func() error { return netlink.LinkSetXdpFd(named, program.FD()) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return xdpOn(t, l)
}

func xdpOn(t *testing.T, l *testnet.Link) uint32 {
	t.Helper()
	named, err := l.Namespace.Netlink.LinkByIndex(l.Index)
	if err != nil || named.Attrs().Xdp == nil {
		t.Fatalf("no XDP program on %s: %v", l.Name, err)
	}
	return named.Attrs().Xdp.ProgId
}

func newProgram(t testing.TB, kind ebpf.ProgramType, instructions ...asm.Instruction) *ebpf.Program {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: kind, License: "GPL", Instructions: instructions})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return program
}

// withoutXDP are interfaces where native XDP cannot be, by the kind of the reason and by its text.
var withoutXDP = []struct {
	name string
	make func(*testing.T) (*testnet.Link, Interface)
	kind Refusal
	text string
}{
	{"foreign program", func(t *testing.T) (*testnet.Link, Interface) {
		_, in := veth(t)
		id := foreignXDP(t, in)
		t.Cleanup(func() {
			if now := xdpOn(t, in); now != id {
				t.Errorf("the foreign program %d has become %d", id, now)
			}
		})
		return in, onLink(in)
	}, RefusedForeign, "another XDP program is attached, and stays: "},
	{"fewer queues than the peer", func(t *testing.T) (*testnet.Link, Interface) {
		_, in := testnet.Veth(t,
			testnet.End{Namespace: testnet.NewNamespace(t), Name: "out", Queues: 2},
			testnet.End{Namespace: testnet.NewNamespace(t), Name: "in"})
		return in, onLink(in)
	}, RefusedSettings, "the driver refuses its MTU, queues or offloads: "},
	{"no native XDP", func(t *testing.T) (*testnet.Link, Interface) {
		n := testnet.NewNamespace(t)
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br"}}
		if err := n.Netlink.LinkAdd(br); err != nil {
			t.Fatal(err)
		}
		l := &testnet.Link{Namespace: n, Name: "br", Index: br.Index}
		return l, onLink(l)
	}, RefusedDriver, "not in this driver, or not with its present settings: "},
	{"no link layer", func(t *testing.T) (*testnet.Link, Interface) {
		tun := testnet.NewTun(t, testnet.NewNamespace(t), "tun", "10.0.0.1/24")
		return tun.Link, Interface{Index: tun.Index, Name: tun.Name, Bare: true}
	}, RefusedBare, "not on an interface without Ethernet headers"},
}

// TestXDPRefused: where XDP cannot be, an attachment that insists on it fails, and one that does not goes to tc. Both say
// why.
func TestXDPRefused(t *testing.T) {
	k := newKernel(t, 1024)
	for _, row := range withoutXDP {
		t.Run(row.name, func(t *testing.T) {
			l, ifi := row.make(t)
			err := l.Namespace.Do(func() error {
				_, err := k.Attach(ifi, Ingress, IngressXDP)
				return err
			})
			want := `attach to "` + l.Name + `" ingress: xdp: ` + row.text
			if err == nil || !strings.HasPrefix(err.Error(), want) || refusalOf(err) != row.kind {
				t.Errorf("error %v of kind %s, want one like %q of kind %s", err, refusalOf(err), want, row.kind)
			}
			progs, err := k.setAt(ifi.place())
			if err != nil {
				t.Fatal(err)
			}
			// What auto does on hardware, which there is none of here.
			var at *Attachment
			err = l.Namespace.Do(func() (err error) {
				xdp := way{ModeXDP, func() (hold, error) { return k.attachXDP(ifi, progs.xdp, ModeXDP) }}
				at, err = attachFirst(ifi, Ingress, append([]way{xdp}, k.tcWays(ifi, Ingress, progs.tcIngress)...))
				return errors.Join(err, at.Close())
			})
			if err != nil || at.Mode != tcMode(t) || at.Refused != row.kind || !strings.HasPrefix(at.Why, "xdp: "+row.text) {
				t.Errorf("attached %+v, %v, want %s because of %s", at, err, tcMode(t), row.kind)
			}
		})
	}
}

// TestExplainXDP sorts what drivers answer to an MTU, which no driver here minds, and the rest.
func TestExplainXDP(t *testing.T) {
	for errno, want := range map[unix.Errno]Refusal{
		unix.EBUSY: RefusedForeign, unix.EEXIST: RefusedForeign, unix.EOPNOTSUPP: RefusedDriver,
		unix.EINVAL: RefusedSettings, unix.ERANGE: RefusedSettings, unix.EMSGSIZE: RefusedSettings,
		unix.ENOSPC: RefusedSettings, unix.ENOMEM: RefusedOther, unix.EPERM: RefusedOther,
	} {
		if err := explainXDP(errno); refusalOf(err) != want || !errors.Is(err, errno) {
			t.Errorf("%v: %v of kind %s, want %s", errno, err, refusalOf(err), want)
		}
	}
}

// TestAttachFirst takes the first way that works, and says why not the ones before it.
func TestAttachFirst(t *testing.T) {
	refuse := func(mode Mode, why string) way {
		return way{mode, func() (hold, error) { return nil, errors.New(why) }}
	}
	held := &fakeHold{}
	accept := func(mode Mode) way { return way{mode, func() (hold, error) { return held, nil }} }
	ifi := Interface{Name: "eth0"}
	at, err := attachFirst(ifi, Ingress, []way{refuse(ModeXDP, "busy"), accept(ModeTCX), accept(ModeClsact)})
	if err != nil || at.Mode != ModeTCX || at.Why != "xdp: busy" {
		t.Errorf("attached %+v, %v, want tcx because xdp is busy", at, err)
	}
	if err := at.Close(); err != nil || !held.closed {
		t.Errorf("detached %t, %v", held.closed, err)
	}
	_, err = attachFirst(ifi, Egress, []way{refuse(ModeTCX, "too old"), refuse(ModeClsact, "no such device")})
	if want := `attach to "eth0" egress: tcx: too old` + "\nclsact: no such device"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

type fakeHold struct{ closed bool }

func (f *fakeHold) Held() (bool, error) { return !f.closed, nil }
func (f *fakeHold) Adopted() bool       { return false }
func (f *fakeHold) Leave() error        { return nil }

func (f *fakeHold) Close() error { f.closed = true; return nil }

// TestHeld: an attachment says when somebody else has removed it, and can be made again.
func TestHeld(t *testing.T) {
	k := newKernel(t, 1024)
	for _, row := range []struct {
		hook IngressHook
		mode Mode
	}{{IngressXDP, ModeXDP}, {IngressTC, tcMode(t)}} {
		_, in := veth(t)
		for range 2 {
			at := k.attach(t, in, row.hook)
			check := func(want bool) {
				t.Helper()
				err := in.Namespace.Do(func() error {
					held, err := at.Held()
					if held != want {
						t.Errorf("%s: held %t, want %t", at.Mode, held, want)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
			check(true)
			in.Namespace.Do(func() error { remove(t, at); return nil })
			check(false)
		}
	}
}

// remove takes an attachment away as others would: `bpftool link detach`, `tc qdisc del`.
func remove(t *testing.T, at *Attachment) {
	t.Helper()
	var err error
	switch held := at.hold.(type) {
	case linkHold:
		err = held.Detach()
	case filterHold:
		err = netlink.QdiscDel(clsact(held.on.ifindex))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestBeforeARedirect: weir counts every packet that a program behind it redirects, whichever was there first.
func TestBeforeARedirect(t *testing.T) {
	if tcMode(t) != ModeTCX {
		t.Log("this kernel has no order of programs to test")
		return
	}
	const packets = 10
	for _, weirFirst := range []bool{true, false} {
		k := newKernel(t, 1024)
		out, in := veth(t)
		// return bpf_redirect(ifindex, BPF_F_INGRESS), into nowhere: the interface is itself.
		redirect := newProgram(t, ebpf.SchedCLS,
			asm.Mov.Imm(asm.R1, int32(in.Index)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return())
		steps := []func(){
			func() { k.attach(t, in, IngressTC) },
			func() {
				err := in.Namespace.Do(func() error {
					l, err := link.AttachTCX(link.TCXOptions{Program: redirect, Interface: in.Index, Attach: ebpf.AttachTCXIngress})
					if err == nil {
						t.Cleanup(func() { l.Close() })
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			},
		}
		if !weirFirst {
			steps[0], steps[1] = steps[1], steps[0]
		}
		for _, step := range steps {
			step()
		}
		for range packets {
			out.Send(t, testnet.UDP("10.0.0.1:1", "10.0.0.2:2", 10).Bytes())
		}
		testnet.Eventually(t, "all come back redirected", func() bool { return out.Counters(t).RxPackets == packets })
		if seen := k.ledger(t).Seen["tc_ingress"].Packets; seen != packets {
			t.Errorf("weir first %t: %d packets seen of %d that were redirected", weirFirst, seen, packets)
		}
	}
}

// TestDetachFromLostInterface is no error.
func TestDetachFromLostInterface(t *testing.T) {
	k := newKernel(t, 1024)
	_, in := veth(t)
	k.attach(t, in, IngressAuto)
	k.attachTo(t, in, onLink(in), Egress, IngressAuto)
	named, err := in.Namespace.Netlink.LinkByIndex(in.Index)
	if err == nil {
		err = in.Namespace.Netlink.LinkDel(named)
	}
	if err != nil {
		t.Fatal(err)
	}
}
