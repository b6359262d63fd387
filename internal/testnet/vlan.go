package testnet

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// AddVLAN joins the namespace to a VLAN on an end of a veth pair, until the test ends. What is sent from the IPv4 address, with a
// prefix length, crosses the link in frames with a tag (IEEE 802.1Q). The test tags them itself, for not every kernel can.
func (l *Link) AddVLAN(t testing.TB, name, addr string, id uint16) {
	t.Helper()
	tun := NewTun(t, l.Namespace, name, addr)
	socket, err := l.openVLAN(id)
	if err != nil {
		t.Fatalf("open VLAN %d on %s: %v", id, l.Name, err)
	}
	tag := []byte{etherTypeVLAN >> 8, etherTypeVLAN & 0xff, byte(id >> 8), byte(id)}
	header := slices.Concat(l.peer.MAC, l.MAC, tag, []byte{etherTypeIPv4 >> 8, etherTypeIPv4 & 0xff})
	var relays sync.WaitGroup
	relays.Go(func() { relay(tun.queue, 0, socket, header) })
	relays.Go(func() { relay(socket, len(header)-len(tag), tun.queue, nil) }) // the kernel has taken the tag out
	t.Cleanup(func() {
		tun.queue.Close()
		socket.Close()
		relays.Wait()
	})
}

// openVLAN opens a packet socket that receives the frames of a VLAN.
func (l *Link) openVLAN(id uint16) (socket *os.File, err error) {
	filter, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtVLANTag},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(id), SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{},
	})
	if err != nil {
		return nil, fmt.Errorf("assemble its filter: %w", err)
	}
	program := make([]unix.SockFilter, len(filter))
	for i, f := range filter {
		program[i] = unix.SockFilter{Code: f.Op, Jt: f.Jt, Jf: f.Jf, K: f.K}
	}
	sockFprog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	err = l.Namespace.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		socket = os.NewFile(uintptr(fd), l.Name)
		all := uint16(unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8) // in network order
		if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &sockFprog); err != nil {
			return fmt.Errorf("attach the filter: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Index}); err != nil {
			return fmt.Errorf("bind packet socket: %w", err)
		}
		return nil
	})
	return socket, err
}

// relay hands on what it reads, without its first bytes and behind a header, until either end is closed.
func relay(from io.Reader, skip int, to io.Writer, header []byte) {
	packet := make([]byte, 1<<16)
	for {
		n, err := from.Read(packet)
		if err != nil || n < skip {
			return
		}
		if _, err := to.Write(slices.Concat(header, packet[skip:n])); err != nil {
			return
		}
	}
}
