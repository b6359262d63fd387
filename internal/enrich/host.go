// Package enrich knows what the kernel's records do not say: which addresses are this host's, and what its interfaces and
// their network namespaces are called.
package enrich

import (
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"

	"weir/internal/netwatch"
)

// Host knows the addresses and interfaces of one network namespace. Its lookups take no lock and may be made from any
// goroutine.
type Host struct {
	netns     string
	addresses atomic.Pointer[map[netip.Addr]struct{}]

	naming sync.Mutex
	names  atomic.Pointer[map[uint32]string]
}

// New returns a Host that knows nothing yet but what its namespace is called: "" for the agent's own.
func New(netns string) *Host {
	h := &Host{netns: netns}
	h.addresses.Store(&map[netip.Addr]struct{}{})
	h.names.Store(&map[uint32]string{})
	return h
}

// Local says whether the address is this host's own. An IPv4 address may be v4-mapped.
func (h *Host) Local(addr netip.Addr) bool {
	_, ok := (*h.addresses.Load())[addr.Unmap()]
	return ok || addr.IsLoopback()
}

// InterfaceName returns the name under which Name introduced the interface, or "" for one that it did not.
func (h *Host) InterfaceName(ifindex uint32) string { return (*h.names.Load())[ifindex] }

// Name introduces an interface. It stays known after it went away: flows that it counted may still be in the map.
func (h *Host) Name(ifindex uint32, name string) {
	h.naming.Lock()
	defer h.naming.Unlock()
	names := maps.Clone(*h.names.Load())
	names[ifindex] = name
	h.names.Store(&names)
}

// Refresh lists the host's addresses anew: those of the calling thread's network namespace.
func (h *Host) Refresh() error {
	list, err := netwatch.Whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list the host's addresses: %w", err)
	}
	local := make(map[netip.Addr]struct{}, len(list))
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			local[addr.Unmap()] = struct{}{}
		}
	}
	h.addresses.Store(&local)
	return nil
}
