// Package enrich knows what the kernel's records do not say: which addresses are this host's, and what its interfaces and
// their network namespaces are called.
package enrich

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"

	"weir/internal/netwatch"
)

// Host knows the addresses and interfaces of one network namespace. Its lookups take no lock and may be made from any
// goroutine.
type Host struct {
	netns     string
	addresses atomic.Pointer[map[netip.Addr]struct{}]

	names atomic.Pointer[map[uint32]string]

	mu   sync.Mutex
	gone map[uint32]time.Time // by interface index: since when an interface is not there that has a name
}

// New returns a Host that knows nothing yet but what its namespace is called: "" for the agent's own.
func New(netns string) *Host {
	h := &Host{netns: netns, gone: map[uint32]time.Time{}}
	h.addresses.Store(&map[netip.Addr]struct{}{})
	h.names.Store(&map[uint32]string{})
	return h
}

// Local says whether the address is this host's own. An IPv4 address may be v4-mapped.
func (h *Host) Local(addr netip.Addr) bool {
	_, ok := (*h.addresses.Load())[addr.Unmap()]
	return ok || addr.IsLoopback()
}

// InterfaceName returns what SetInterfaces said that the interface is called, or was last, or "" if it is not known.
func (h *Host) InterfaceName(ifindex uint32) string { return (*h.names.Load())[ifindex] }

// SetInterfaces says which interfaces there are, by index; it keeps the map. One that is not there any more stays known, for
// flows that it counted, until rested says that none can be left from before it was missed.
func (h *Host) SetInterfaces(present map[uint32]string, rested func(since time.Time) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for index, name := range *h.names.Load() {
		if _, there := present[index]; there {
			delete(h.gone, index)
			continue
		}
		since, missed := h.gone[index]
		switch {
		case !missed:
			h.gone[index] = time.Now()
		case rested(since):
			delete(h.gone, index)
			continue
		}
		present[index] = name
	}
	h.names.Store(&present)
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
