package testnet

import (
	"errors"
	"fmt"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offload is a set of what an interface can take over from the network stack.
type Offload uint8

// The members of Offload. Without TxChecksum the kernel leaves out TSO and UDP segmentation too.
const (
	TSO Offload = 1 << iota // one frame of many TCP segments, sent
	GSO                     // the same in software, just before sending
	GRO                     // received segments joined; on veth it also switches NAPI on, which live frames need
	TxChecksum
	RxChecksum

	AllOffloads = TSO | GSO | GRO | TxChecksum | RxChecksum
)

// offloadCommands hold the numbers of linux/ethtool.h, in the order in which they can be switched on.
var offloadCommands = []struct {
	offload  Offload
	name     string
	get, set uint32
}{
	{RxChecksum, "rx-checksum", unix.ETHTOOL_GRXCSUM, unix.ETHTOOL_SRXCSUM},
	{TxChecksum, "tx-checksum", unix.ETHTOOL_GTXCSUM, unix.ETHTOOL_STXCSUM},
	{TSO, "tso", unix.ETHTOOL_GTSO, unix.ETHTOOL_STSO},
	{GSO, "gso", unix.ETHTOOL_GGSO, unix.ETHTOOL_SGSO},
	{GRO, "gro", unix.ETHTOOL_GGRO, unix.ETHTOOL_SGRO},
}

// SetOffloads switches some of an interface's offloads on or off, and sees that they are.
func (l *Link) SetOffloads(t testing.TB, which Offload, on bool) {
	t.Helper()
	err := l.Namespace.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open socket: %w", err)
		}
		defer unix.Close(fd)
		for _, c := range offloadCommands {
			if which&c.offload == 0 {
				continue
			}
			if err := l.setOffload(fd, c.get, c.set, on); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("set offloads of %s to %t: %v", l.Name, on, err)
	}
}

func (l *Link) setOffload(fd int, get, set uint32, on bool) error {
	if _, err := l.ethtool(fd, set, on); err != nil {
		return err
	}
	is, err := l.ethtool(fd, get, false)
	if err == nil && is != on {
		err = errors.New("the kernel left it as it was")
	}
	return err
}

// ethtool runs a command of one value (struct ethtool_value) and returns the value after it.
func (l *Link) ethtool(fd int, command uint32, on bool) (bool, error) {
	value := struct{ command, data uint32 }{command: command}
	if on {
		value.data = 1
	}
	request := struct { // struct ifreq, linux/if.h
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], l.Name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return false, errno
	}
	return value.data != 0, nil
}
