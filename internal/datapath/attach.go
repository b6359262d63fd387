package datapath

import (
	"errors"
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// IngressHook is the setting that says where ingress is counted.
type IngressHook string

// The values of IngressHook. Auto is native XDP on hardware, else TCX, else clsact. On virtual interfaces XDP costs more
// than it saves: veth gives up its offloads for it, and a tap hands it super-packets whole, which then count as one. Generic
// XDP copies packets and sees super-packets too. Both are only used if they are asked for.
const (
	IngressAuto       IngressHook = "auto"
	IngressXDP        IngressHook = "xdp"
	IngressXDPGeneric IngressHook = "xdp-generic"
	IngressTC         IngressHook = "tc"
)

// Side says which way the packets go that an attachment counts.
type Side string

// The values of Side.
const (
	Ingress Side = "ingress"
	Egress  Side = "egress"
)

// Mode is the kernel mechanism that an attachment uses.
type Mode string

// The values of Mode.
const (
	ModeXDP        Mode = "xdp"
	ModeXDPGeneric Mode = "xdp-generic"
	ModeTCX        Mode = "tcx"
	ModeClsact     Mode = "clsact"
)

// Modes returns every Mode.
func Modes() []Mode { return []Mode{ModeXDP, ModeXDPGeneric, ModeTCX, ModeClsact} }

// Attachment is one program on one side of an interface.
type Attachment struct {
	Interface net.Interface
	Side      Side
	Mode      Mode
	Why       string // why this mode: what was asked for, or what the better ones answered

	detach func() error
}

// Close detaches the program. An interface that is gone took its programs with it: that is no error.
func (a *Attachment) Close() error {
	if err := a.detach(); err != nil {
		return fmt.Errorf("detach %s from %q %s: %w", a.Mode, a.Interface.Name, a.Side, err)
	}
	return nil
}

// way is one mechanism to try.
type way struct {
	mode   Mode
	attach func() (detach func() error, err error)
}

// AttachIngress has the packets counted that the interface receives. The error says what each mechanism answered.
func (d *Datapath) AttachIngress(ifi net.Interface, hook IngressHook) (*Attachment, error) {
	xdp := way{ModeXDP, func() (func() error, error) { return d.attachXDP(ifi, link.XDPDriverMode) }}
	generic := way{ModeXDPGeneric, func() (func() error, error) { return d.attachXDP(ifi, link.XDPGenericMode) }}
	tc := d.tcWays(ifi, Ingress)
	switch hook {
	case IngressXDP:
		return insist(ifi, xdp)
	case IngressXDPGeneric:
		return insist(ifi, generic)
	case IngressTC:
		return attachFirst(ifi, Ingress, tc)
	default:
		return attachFirst(ifi, Ingress, append([]way{d.onHardware(ifi, xdp)}, tc...))
	}
}

// insist tries the one way that was asked for.
func insist(ifi net.Interface, w way) (*Attachment, error) {
	at, err := attachFirst(ifi, Ingress, []way{w})
	if err != nil {
		return nil, fmt.Errorf("%w (the ingress hook auto takes what works)", err)
	}
	return at, nil
}

// onHardware refuses a way to interfaces that are made by software, of which netlink knows the kind, and where VLANs are
// kept apart: network cards take the tag out before XDP, and tell only tc of it.
func (d *Datapath) onHardware(ifi net.Interface, w way) way {
	return way{w.mode, func() (func() error, error) {
		if d.vlans {
			return nil, errors.New("not by itself where VLANs are kept apart")
		}
		l, err := netlink.LinkByIndex(ifi.Index)
		if err != nil {
			return nil, fmt.Errorf("find the interface's kind: %w", err)
		}
		if kind := l.Type(); kind != "device" {
			return nil, fmt.Errorf("not by itself on a virtual interface (%s)", kind)
		}
		return w.attach()
	}}
}

// AttachEgress has the packets counted that the interface sends.
func (d *Datapath) AttachEgress(ifi net.Interface) (*Attachment, error) {
	return attachFirst(ifi, Egress, d.tcWays(ifi, Egress))
}

// attachFirst takes the first way that works, and remembers why the ones before it did not.
func attachFirst(ifi net.Interface, side Side, ways []way) (*Attachment, error) {
	why := "as set"
	if len(ways) > 1 {
		why = "first choice"
	}
	var refusals []error
	for _, w := range ways {
		detach, err := w.attach()
		if err == nil {
			if len(refusals) > 0 {
				why = errors.Join(refusals...).Error()
			}
			return &Attachment{Interface: ifi, Side: side, Mode: w.mode, Why: why, detach: detach}, nil
		}
		refusals = append(refusals, fmt.Errorf("%s: %w", w.mode, err))
	}
	return nil, fmt.Errorf("attach to %q %s: %w", ifi.Name, side, errors.Join(refusals...))
}

var errNoXDPFragments = errors.New("this kernel has no XDP with fragments (Linux 5.18)")

func (d *Datapath) attachXDP(ifi net.Interface, flags link.XDPAttachFlags) (func() error, error) {
	if d.xdp == nil {
		return nil, errNoXDPFragments
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: d.xdp, Interface: ifi.Index, Flags: flags})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, fmt.Errorf("not in this driver, or not with its present settings: %w", err)
	}
	if err != nil {
		return nil, err
	}
	return l.Close, nil
}

// tcWays are TCX (Linux 6.6), and clsact for the kernels before it.
func (d *Datapath) tcWays(ifi net.Interface, side Side) []way {
	prog, attachType := d.coll.Programs[kernelProgTcIngress], ebpf.AttachTCXIngress
	if side == Egress {
		prog, attachType = d.coll.Programs[kernelProgTcEgress], ebpf.AttachTCXEgress
	}
	return []way{
		{ModeTCX, func() (func() error, error) {
			// At the head: a program before weir that redirects would hide packets from it.
			l, err := link.AttachTCX(link.TCXOptions{
				Program: prog, Interface: ifi.Index, Attach: attachType, Anchor: link.Head(),
			})
			if err != nil {
				return nil, err
			}
			return l.Close, nil
		}},
		{ModeClsact, func() (func() error, error) { return d.qdiscs.attach(ifi.Index, side, prog) }},
	}
}
