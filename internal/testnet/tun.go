package testnet

import (
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
)

// Tun is an interface that carries IP packets without a link layer.
type Tun struct {
	*Link
	queue *os.File
}

// NewTun makes a Tun, up and with an address, until the test ends.
func NewTun(t testing.TB, namespace *Namespace, name, addr string) *Tun {
	t.Helper()
	device := &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: name}, Mode: netlink.TUNTAP_MODE_TUN, Queues: 1,
		Flags: netlink.TUNTAP_NO_PI, NonPersist: true,
	}
	err := namespace.Do(func() error {
		if err := netlink.LinkAdd(device); err != nil {
			return err
		}
		return netlink.LinkSetUp(device)
	})
	if err != nil {
		t.Fatalf("make tun %s: %v", name, err)
	}
	t.Cleanup(func() { device.Fds[0].Close() })
	tun := &Tun{
		Link:  &Link{Namespace: namespace, Name: name, Index: device.Index},
		queue: device.Fds[0],
	}
	tun.AddAddr(t, netip.MustParsePrefix(addr))
	return tun
}

// Sent waits for a packet that leaves by the interface.
func (n *Tun) Sent(t testing.TB) []byte {
	t.Helper()
	packet := make([]byte, 1<<16)
	size, err := n.queue.Read(packet)
	if err != nil {
		t.Fatalf("read what %s sends: %v", n.Name, err)
	}
	return packet[:size]
}

// Receive has the interface receive packets that begin with their IP header.
func (n *Tun) Receive(t testing.TB, packets ...[]byte) {
	t.Helper()
	for i, packet := range packets {
		if _, err := n.queue.Write(packet); err != nil {
			t.Fatalf("packet %d of %d bytes into %s: %v", i, len(packet), n.Name, err)
		}
	}
}
