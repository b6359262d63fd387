package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"weir/internal/flow"
)

// Zones below firstTunnelZone are VLANs. TUNNEL_ZONES_FIRST and _END in abi.h.
const (
	firstTunnelZone = 4096
	endTunnelZone   = 65536
)

// tunnelSlack is how much later than tunnel_zone.seen_ns says a tunnel may have been seen: it is written once a second.
const tunnelSlack = 2 * time.Second

// zones knows what a zone stands for, and gives those of tunnels that are gone back to the kernel side.
type zones struct {
	tunnels, free *ebpf.Map

	mu      sync.Mutex
	known   map[uint16]around
	leaving map[uint16]uint64 // zones that no new packet gets, by when that began, nanoseconds
	swept   uint64            // when the last whole sweep began; the records of it have been read
	looked  uint64            // when reclaim last looked for tunnels that are gone
	wait    uint64            // the longest that reclaim was told of, and the slack, nanoseconds
}

// around is what a zone stands for.
type around struct {
	vlan   uint16
	tunnel *flow.Tunnel
}

// newZones fills the kernel's queue with all zones of tunnels, unless another process did. Without any tunnel to look into, the
// maps have no room.
func newZones(tunnels, free *ebpf.Map, adopted bool) (*zones, error) {
	z := &zones{tunnels: tunnels, free: free, known: map[uint16]around{}, leaving: map[uint16]uint64{}}
	if tunnels.MaxEntries() == 1 {
		return z, nil
	}
	if adopted {
		return z, z.recover()
	}
	for zone := uint32(firstTunnelZone); zone < endTunnelZone; zone++ {
		if err := free.Update(nil, zone, ebpf.UpdateAny); err != nil {
			return nil, fmt.Errorf("fill the queue of zones: %w", err)
		}
	}
	return z, nil
}

// recover finds the zones that were leaving when the last process ended: they are in neither map. To see what is in the queue
// it takes every zone out and puts it back, so that the packet programs nearly always find one.
func (z *zones) recover() error {
	now, err := monotonic()
	if err != nil {
		return err
	}
	var queued [endTunnelZone]bool
	for {
		var zone uint32
		err := z.free.LookupAndDelete(nil, &zone)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			break
		}
		if err == nil {
			err = z.free.Update(nil, zone, ebpf.UpdateAny)
		}
		if err != nil {
			return fmt.Errorf("look through the queue of zones: %w", err)
		}
		if queued[uint16(zone)] {
			break // once round
		}
		queued[uint16(zone)] = true
	}
	if err := z.each(func(t *kernelTunnel, v *kernelTunnelZone) {
		z.known[uint16(v.Zone)] = around{vlan: t.Vlan, tunnel: decodeTunnel(t)}
	}); err != nil {
		return err
	}
	for zone := firstTunnelZone; zone < endTunnelZone; zone++ {
		if _, used := z.known[uint16(zone)]; !used && !queued[zone] {
			z.leaving[uint16(zone)] = now
			z.known[uint16(zone)] = around{} // what was around its flows is lost
		}
	}
	return nil
}

// resolve returns what a zone stands for.
func (z *zones) resolve(zone uint16) (around, error) {
	if zone < firstTunnelZone {
		return around{vlan: zone}, nil
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if _, ok := z.known[zone]; !ok { // a new one, and perhaps not alone
		if err := z.each(func(t *kernelTunnel, v *kernelTunnelZone) {
			z.known[uint16(v.Zone)] = around{vlan: t.Vlan, tunnel: decodeTunnel(t)}
		}); err != nil {
			return around{}, err
		}
	}
	return z.known[zone], nil
}

// each passes every tunnel to fn.
func (z *zones) each(fn func(*kernelTunnel, *kernelTunnelZone)) error {
	const chunk = 4096
	var (
		cursor  ebpf.MapBatchCursor
		tunnels = make([]kernelTunnel, chunk)
		values  = make([]kernelTunnelZone, chunk)
	)
	for {
		n, err := z.tunnels.BatchLookup(&cursor, tunnels, values, nil)
		for i := range n {
			fn(&tunnels[i], &values[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list the tunnels: %w", err)
		}
	}
}

// reclaim is called before a sweep that begins now, with the longest time for which an entry may be idle. A tunnel that was
// not seen for longer gets no more packets under its zone, and has no entry that the sweep leaves. The zone is free once a
// whole sweep has handed over even what a packet counted that was on its way just then. That time may be shorter now than for
// the next sweep: the longest one counts.
//
// A tunnel in another one has the other's zone in its key. No packet comes in it that does not come in the other, so it is taken
// out with the other or, as times are a second off, when reclaim looks next: in the call that frees the other's zone, at the latest.
func (z *zones) reclaim(now uint64, idle time.Duration) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.wait = max(z.wait, uint64(idle+tunnelSlack))
	for zone, since := range z.leaving {
		if z.swept < since+z.wait {
			continue
		}
		if err := z.free.Update(nil, uint32(zone), ebpf.UpdateAny); err != nil {
			return fmt.Errorf("free a zone: %w", err)
		}
		delete(z.known, zone)
		delete(z.leaving, zone)
	}
	if len(z.known) == 0 || now < z.looked+z.wait {
		return nil
	}
	z.looked = now
	return z.retire(now)
}

// retire takes the tunnels out of the kernel's map that were not seen for as long as an entry may be idle.
func (z *zones) retire(now uint64) error {
	var gone []kernelTunnel
	if err := z.each(func(t *kernelTunnel, v *kernelTunnelZone) {
		if v.SeenNs+z.wait < now {
			gone = append(gone, *t)
			z.known[uint16(v.Zone)] = around{vlan: t.Vlan, tunnel: decodeTunnel(t)}
			z.leaving[uint16(v.Zone)] = now
		}
	}); err != nil {
		return err
	}
	for i := range gone {
		if err := z.tunnels.Delete(&gone[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("forget a tunnel: %w", err)
		}
	}
	return nil
}

// sweptSince notes a whole sweep and when it began.
func (z *zones) sweptSince(began uint64) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.swept = began
}

func decodeTunnel(raw *kernelTunnel) *flow.Tunnel {
	t := &flow.Tunnel{Kind: flow.TunnelKind(raw.Kind), ID: raw.Id}
	for i := range t.Ends {
		t.Ends[i] = netip.AddrFrom16(raw.Outer[i]).Unmap()
	}
	return t
}
