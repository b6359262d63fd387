package datapath

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Refusal is a kind of reason why XDP is not used.
type Refusal string

// The values of Refusal.
const (
	RefusedVirtual  Refusal = "virtual"         // a virtual interface, where XDP costs more than it saves
	RefusedZones    Refusal = "zones"           // VLANs are kept apart, whose tags network cards hide from XDP
	RefusedFilter   Refusal = "filter"          // the filter looks for VLAN tags, which network cards hide from XDP
	RefusedBare     Refusal = "no_link_layer"   // frames have no Ethernet header
	RefusedForeign  Refusal = "foreign_program" // somebody else's XDP program is there
	RefusedDriver   Refusal = "driver"          // the driver has no native XDP
	RefusedSettings Refusal = "settings"        // not with the interface's MTU, queues or offloads
	RefusedKernel   Refusal = "kernel"          // the kernel has no XDP with fragments
	RefusedOther    Refusal = "other"
)

// Refusals returns every Refusal.
func Refusals() []Refusal {
	return []Refusal{
		RefusedVirtual, RefusedZones, RefusedFilter, RefusedBare, RefusedForeign, RefusedDriver, RefusedSettings, RefusedKernel,
		RefusedOther,
	}
}

// refused is an error with its kind.
type refused struct {
	kind Refusal
	err  error
}

func (r *refused) Error() string { return r.err.Error() }
func (r *refused) Unwrap() error { return r.err }

func refusalOf(err error) Refusal {
	if r := new(refused); errors.As(err, &r) {
		return r.kind
	}
	return RefusedOther
}

func (d *Datapath) attachXDP(ifi Interface, prog *ebpf.Program, mode Mode) (hold, error) {
	if ifi.Bare {
		return nil, &refused{RefusedBare, errors.New("not on an interface without Ethernet headers")}
	}
	if prog == nil {
		return nil, &refused{RefusedKernel, errors.New("this kernel has no XDP with fragments (Linux 5.18)")}
	}
	flags := map[Mode]link.XDPAttachFlags{ModeXDP: link.XDPDriverMode, ModeXDPGeneric: link.XDPGenericMode}[mode]
	held, err := d.pins.attachLink(ifi.Index, Ingress, mode, prog, func() (link.Link, error) {
		return link.AttachXDP(link.XDPOptions{Program: prog, Interface: ifi.Index, Flags: flags})
	})
	if err != nil {
		return nil, explainXDP(err)
	}
	return held, nil
}

// explainXDP puts the cause in front of the kernel's answer. Drivers refuse an MTU, a number of queues or an offload with
// whichever of several errors.
func explainXDP(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return &refused{RefusedForeign, fmt.Errorf("another XDP program is attached, and stays: %w", err)}
	case errors.Is(err, unix.EOPNOTSUPP):
		return &refused{RefusedDriver, fmt.Errorf("not in this driver, or not with its present settings: %w", err)}
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ERANGE), errors.Is(err, unix.EMSGSIZE), errors.Is(err, unix.ENOSPC):
		return &refused{RefusedSettings, fmt.Errorf("the driver refuses its MTU, queues or offloads: %w", err)}
	}
	return err
}
