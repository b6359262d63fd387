package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
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

// Interface is what to attach to, in the network namespace of the calling thread.
type Interface struct {
	Index int
	Name  string
	// Netns is the number that flows of the interface's network namespace carry; 0 is the agent's own.
	Netns uint8
	// Bare says that frames begin with the network layer's header, without one of Ethernet.
	Bare bool
}

func (i Interface) place() place { return place{netns: i.Netns, bare: i.Bare} }

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
	Interface Interface
	Side      Side
	Mode      Mode
	Why       string // why this mode: what was asked for, or what the better ones answered
	// Refused is why not XDP, where auto would have taken it; else "".
	Refused Refusal

	hold hold
}

// hold is the kernel's side of an attachment.
type hold interface {
	// Held says whether the program is still attached. On an interface that is gone it is not.
	Held() (bool, error)
	// Adopted says whether another process had left a program there.
	Adopted() bool
	// Leave lets the program stay attached, for another process to take over: with a folder of pins only.
	Leave() error
	Close() error
}

// Held says whether the program is still attached: others may have removed it, or the whole interface.
func (a *Attachment) Held() (bool, error) {
	held, err := a.hold.Held()
	if err != nil {
		return false, fmt.Errorf("look after %s on %q %s: %w", a.Mode, a.Interface.Name, a.Side, err)
	}
	return held, nil
}

// Undo takes Attach back: a program stays attached if another process had left one there, in a folder of pins.
func (a *Attachment) Undo() error {
	if a.hold.Adopted() {
		return a.Leave()
	}
	return a.Close()
}

// Close detaches the program. An interface that is gone took its programs with it: that is no error.
func (a *Attachment) Close() error {
	if err := a.hold.Close(); err != nil {
		return fmt.Errorf("detach %s from %q %s: %w", a.Mode, a.Interface.Name, a.Side, err)
	}
	return nil
}

// Leave lets go of the program, which stays attached if there is a folder of pins.
func (a *Attachment) Leave() error {
	if err := a.hold.Leave(); err != nil {
		return fmt.Errorf("leave %s on %q %s: %w", a.Mode, a.Interface.Name, a.Side, err)
	}
	return nil
}

// way is one mechanism to try.
type way struct {
	mode   Mode
	attach func() (hold, error)
}

// Attach has the packets counted on one side of an interface; the hook is about ingress. The error says what each mechanism
// answered.
func (d *Datapath) Attach(ifi Interface, side Side, hook IngressHook) (*Attachment, error) {
	if ifi.Index > maxIfIndex {
		return nil, fmt.Errorf("attach to %q %s: its index is %d, above the %d that fit an entry of the flow map",
			ifi.Name, side, ifi.Index, maxIfIndex)
	}
	progs, err := d.setAt(ifi.place())
	if err != nil {
		return nil, fmt.Errorf("attach to %q %s: %w", ifi.Name, side, err)
	}
	if side == Egress {
		return attachFirst(ifi, Egress, d.tcWays(ifi, Egress, progs.tcEgress))
	}
	xdp := way{ModeXDP, func() (hold, error) { return d.attachXDP(ifi, progs.xdp, ModeXDP) }}
	generic := way{ModeXDPGeneric, func() (hold, error) { return d.attachXDP(ifi, progs.xdp, ModeXDPGeneric) }}
	tc := d.tcWays(ifi, Ingress, progs.tcIngress)
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
func insist(ifi Interface, w way) (*Attachment, error) {
	at, err := attachFirst(ifi, Ingress, []way{w})
	if err != nil {
		return nil, fmt.Errorf("%w (the ingress hook auto takes what works)", err)
	}
	return at, nil
}

// onHardware refuses a way to interfaces that are made by software, of which netlink knows the kind, and where VLANs are
// kept apart or filtered by: network cards take the tag out before XDP, and tell only tc of it.
func (d *Datapath) onHardware(ifi Interface, w way) way {
	return way{w.mode, func() (hold, error) {
		if d.cfg.VLANZones {
			return nil, &refused{RefusedZones, errors.New("not by itself where VLANs are kept apart")}
		}
		if looksForTags(d.cfg.Filter) {
			return nil, &refused{RefusedFilter, errors.New("not by itself where the filter looks for VLAN tags")}
		}
		l, err := netlink.LinkByIndex(ifi.Index)
		if err != nil {
			return nil, fmt.Errorf("find the interface's kind: %w", err)
		}
		if kind := l.Type(); kind != "device" {
			return nil, &refused{RefusedVirtual, fmt.Errorf("not by itself on a virtual interface (%s)", kind)}
		}
		return w.attach()
	}}
}

// attachFirst takes the first way that works, and remembers why the ones before it did not.
func attachFirst(ifi Interface, side Side, ways []way) (*Attachment, error) {
	at := &Attachment{Interface: ifi, Side: side, Why: "as set"}
	if len(ways) > 1 {
		at.Why = "first choice"
	}
	var refusals []error
	for _, w := range ways {
		held, err := w.attach()
		if err == nil {
			if len(refusals) > 0 {
				at.Why = errors.Join(refusals...).Error()
			}
			at.Mode, at.hold = w.mode, held
			return at, nil
		}
		if w.mode == ModeXDP {
			at.Refused = refusalOf(err)
		}
		refusals = append(refusals, fmt.Errorf("%s: %w", w.mode, err))
	}
	return nil, fmt.Errorf("attach to %q %s: %w", ifi.Name, side, errors.Join(refusals...))
}

// tcWays are TCX (Linux 6.6), and clsact for the kernels before it.
func (d *Datapath) tcWays(ifi Interface, side Side, prog *ebpf.Program) []way {
	hook := map[Side]ebpf.AttachType{Ingress: ebpf.AttachTCXIngress, Egress: ebpf.AttachTCXEgress}[side]
	return []way{
		{ModeTCX, func() (hold, error) {
			// At the head: a program before weir that redirects would hide packets from it.
			return d.pins.attachLink(ifi.Index, side, ModeTCX, prog, func() (link.Link, error) {
				return link.AttachTCX(link.TCXOptions{
					Program: prog, Interface: ifi.Index, Attach: hook, Anchor: link.Head(),
				})
			})
		}},
		{ModeClsact, func() (hold, error) {
			return d.qdiscs.attach(qdisc{ifi.Netns, ifi.Index}, side, prog)
		}},
	}
}

// linkHold is a link, which may be pinned.
type linkHold struct {
	link.Link
	adopted bool
}

func (l linkHold) Held() (bool, error) {
	at, err := attachedTo(l.Link)
	return at != 0, err
}

func (l linkHold) Adopted() bool { return l.adopted }

func (l linkHold) Leave() error { return l.Link.Close() }

func (l linkHold) Close() error { return errors.Join(l.Unpin(), l.Link.Close()) }
