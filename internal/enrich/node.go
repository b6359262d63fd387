package enrich

import (
	"net/netip"
	"sync/atomic"
)

// Node knows the network namespaces that are watched, by number; 0 is the agent's own. Its lookups take no lock and may be
// made from any goroutine.
type Node struct {
	hosts [256]atomic.Pointer[Host]
}

// Set gives a number to a namespace. It keeps it until Set gives the number away: flows may still carry it when the
// namespace is gone.
func (n *Node) Set(netns uint8, h *Host) { n.hosts[netns].Store(h) }

// Local says whether the address is the namespace's own. An IPv4 address may be v4-mapped.
func (n *Node) Local(netns uint8, addr netip.Addr) bool {
	h := n.hosts[netns].Load()
	return h != nil && h.Local(addr)
}

// InterfaceName returns what an interface of the namespace was called last, or "" for one that was never named.
func (n *Node) InterfaceName(netns uint8, ifindex uint32) string {
	if h := n.hosts[netns].Load(); h != nil {
		return h.InterfaceName(ifindex)
	}
	return ""
}

// NamespaceName returns what the namespace is called; the agent's own is "".
func (n *Node) NamespaceName(netns uint8) string {
	if h := n.hosts[netns].Load(); h != nil {
		return h.netns
	}
	return ""
}
