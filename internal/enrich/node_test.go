package enrich

import (
	"net/netip"
	"testing"
)

// TestNode keeps namespaces apart, and knows nothing of those that it was not told of.
func TestNode(t *testing.T) {
	var n Node
	own, blue := New(""), New("blue")
	n.Set(0, own)
	n.Set(7, blue)
	own.SetInterfaces(map[uint32]string{3: "eth0"}, nil)
	blue.SetInterfaces(map[uint32]string{3: "veth0"}, nil)
	blue.addresses.Store(&map[netip.Addr]struct{}{netip.MustParseAddr("10.0.0.1"): {}})
	for number, want := range map[uint8]struct {
		namespace, name string
		local           bool
	}{
		0: {"", "eth0", false}, 7: {"blue", "veth0", true}, 8: {},
	} {
		namespace, name := n.NamespaceName(number), n.InterfaceName(number, 3)
		if local := n.Local(number, netip.MustParseAddr("10.0.0.1")); namespace != want.namespace || name != want.name || local != want.local {
			t.Errorf("namespace %d: %q, %q, %t, want %+v", number, namespace, name, local, want)
		}
	}
	n.Set(7, New("green"))
	if namespace, name := n.NamespaceName(7), n.InterfaceName(7, 3); namespace != "green" || name != "" {
		t.Errorf("the number given anew is %q with interface %q", namespace, name)
	}
}
