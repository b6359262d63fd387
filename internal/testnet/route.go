package testnet

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"
)

// AddRoute has the interface's namespace reach a network, such as "10.2.0.0/24", by a gateway behind the interface.
func (l *Link) AddRoute(t testing.TB, network, gateway string) {
	t.Helper()
	_, dst, err := net.ParseCIDR(network)
	if err == nil {
		err = l.Namespace.Netlink.RouteAdd(&netlink.Route{LinkIndex: l.Index, Dst: dst, Gw: net.ParseIP(gateway)})
	}
	if err != nil {
		t.Fatalf("add route to %s by %s: %v", network, gateway, err)
	}
}
