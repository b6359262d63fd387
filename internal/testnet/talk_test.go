package testnet

import (
	"bytes"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTalk has each conversation come whole, in order, and of a client of its own.
func TestTalk(t *testing.T) {
	const server = "192.0.2.1:80"
	conversation := func(client string) []Step {
		return []Step{
			{Frame: Segment{Flags: SYN, Options: []byte{2, 4, 5, 180}}.Packet(client, server).Bytes()},
			{Frame: Segment{Flags: SYN | ACK, Sequence: 7}.Packet(server, client).Bytes(), Answer: true},
			{Frame: Segment{Flags: ACK, Payload: bytes.Repeat([]byte("hello"), 290)}.Packet(client, server).Bytes()},
		}
	}
	a, b := pair(t)
	talk := NewTalk(t, a, netip.MustParseAddr("10.0.0.1"), conversation("10.0.0.1:32768"))
	talk.Send(t, 1<<15-1) // as many as an address has ports, less one
	fd := listenTo(t, b)
	talk.Send(t, 2)
	got := make([]byte, 2048)
	for _, client := range []string{"10.0.0.1:65535", "10.0.0.2:32768"} {
		for i, want := range conversation(client) {
			n, _, err := unix.Recvfrom(fd, got, 0)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(blank(got[:n]), blank(want.Frame)) {
				t.Errorf("step %d of %s:\n%x, want\n%x", i, client, got[:n], want.Frame)
			}
		}
	}
	if frames, size := talk.Sent(); frames != 3*(1<<15+1) || size != talk.bytes*(1<<15+1) {
		t.Errorf("%d frames of %d bytes in all", frames, size)
	}
}

// listenTo opens a socket that receives what comes to a link, and waits for it a while.
func listenTo(t *testing.T, l *Link) (fd int) {
	t.Helper()
	err := l.Namespace.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	const everything = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network byte order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: everything, Ifindex: l.Index}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// blank returns a frame without its checksums.
func blank(frame []byte) []byte {
	frame = bytes.Clone(frame)
	clear(frame[ipAt+10 : ipAt+12])
	clear(frame[tcpChecksumAt : tcpChecksumAt+2])
	return frame
}
