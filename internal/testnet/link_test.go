package testnet

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

func dualStack(t testing.TB) (*Link, *Link) {
	return Veth(t,
		End{Namespace: NewNamespace(t), Name: "a0", Addrs: []string{"10.1.0.1/24", "fd00::1/64"}},
		End{Namespace: NewNamespace(t), Name: "b0", Addrs: []string{"10.1.0.2/24", "fd00::2/64"}, MTU: 9000})
}

func TestDoComesBack(t *testing.T) {
	n := NewNamespace(t)
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	failure := errors.New("failure")
	err = n.Do(func() error {
		inside, err := netns.Get()
		if err != nil {
			return err
		}
		defer inside.Close()
		if inside.Equal(home) || !inside.Equal(n.handle) {
			t.Error("the function ran in another namespace")
		}
		return failure
	})
	if !errors.Is(err, failure) {
		t.Errorf("Do returned %v, want what the function returned", err)
	}
	after, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer after.Close()
	if !after.Equal(home) {
		t.Error("Do left its thread in the namespace")
	}
}

// TestVethIsSilent waits longer than the kernel puts off its multicast reports (1 s, RFC 3810 section 9.11).
func TestVethIsSilent(t *testing.T) {
	a, b := dualStack(t)
	time.Sleep(1500 * time.Millisecond)
	for _, l := range []*Link{a, b} {
		if got := l.Counters(t); got != (Counters{}) {
			t.Errorf("%s counted %+v before anything was sent", l.Name, got)
		}
	}
}

func TestUDPBothWays(t *testing.T) {
	for _, ip := range []string{"10.1.0.2", "fd00::2"} {
		a, b := dualStack(t)
		var server net.PacketConn
		var client net.Conn
		err := errors.Join(
			b.Namespace.Do(func() (err error) {
				server, err = net.ListenPacket("udp", net.JoinHostPort(ip, "53"))
				return err
			}),
			a.Namespace.Do(func() (err error) {
				client, err = net.Dial("udp", net.JoinHostPort(ip, "53"))
				return err
			}))
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		defer client.Close()
		if err := exchange(client, server); err != nil {
			t.Fatalf("%s: %v", ip, err)
		}
		size := uint64(14 + 20 + 8 + 4)
		if netip.MustParseAddr(ip).Is6() {
			size += 20
		}
		want := Counters{RxPackets: 1, RxBytes: size, TxPackets: 1, TxBytes: size}
		for _, l := range []*Link{a, b} {
			if got := l.Counters(t); got != want {
				t.Errorf("%s: %s counted %+v, want %+v", ip, l.Name, got, want)
			}
		}
	}
}

func exchange(client net.Conn, server net.PacketConn) error {
	deadline := time.Now().Add(5 * time.Second)
	if err := errors.Join(client.SetDeadline(deadline), server.SetDeadline(deadline)); err != nil {
		return err
	}
	if _, err := client.Write([]byte("ping")); err != nil {
		return err
	}
	b := make([]byte, 8)
	_, from, err := server.ReadFrom(b)
	if err != nil {
		return err
	}
	if _, err := server.WriteTo([]byte("pong"), from); err != nil {
		return err
	}
	_, err = client.Read(b)
	return err
}

func TestSend(t *testing.T) {
	a, b := pair(t)
	frame := UDP("10.1.0.1:1", "10.1.0.2:2", 100).VLAN(7).Bytes()
	a.Send(t, frame, frame[:60], frame)
	want := Counters{RxPackets: 3, RxBytes: uint64(2*len(frame) + 60)}
	if got := b.Counters(t); got != want {
		t.Errorf("%s counted %+v, want %+v", b.Name, got, want)
	}
}

// TestOffloads sends a file in bulk: with segmentation offloads frames are larger than the MTU, without they are not.
func TestOffloads(t *testing.T) {
	for _, on := range []bool{true, false} {
		a, b := dualStack(t)
		a.SetOffloads(t, AllOffloads, on)
		b.SetOffloads(t, AllOffloads, on)
		const size = 4 << 20
		if err := transfer(a, b, "10.1.0.2:9000", size); err != nil {
			t.Fatal(err)
		}
		c := a.Counters(t)
		if mean := c.TxBytes / c.TxPackets; (mean > 1514) != on {
			t.Errorf("offloads %t: frames have %d bytes in the mean", on, mean)
		}
		if least := uint64(size / 1448); !on && c.TxPackets < least {
			t.Errorf("offloads off: %d frames for what takes %d", c.TxPackets, least)
		}
	}
}

func transfer(from, to *Link, addr string, size int) error {
	var listener net.Listener
	var client net.Conn
	err := to.Namespace.Do(func() (err error) {
		listener, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		return err
	}
	defer listener.Close()
	err = from.Namespace.Do(func() (err error) {
		client, err = net.DialTimeout("tcp", addr, 5*time.Second)
		return err
	})
	if err != nil {
		return err
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := client.Write(make([]byte, size))
		wrote <- errors.Join(err, client.Close())
	}()
	server, err := listener.Accept()
	if err != nil {
		return err
	}
	defer server.Close()
	if _, err := io.CopyN(io.Discard, server, int64(size)); err != nil {
		return err
	}
	return <-wrote
}
