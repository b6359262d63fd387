package datapath

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A sign of life is a bound socket with an abstract name (unix(7)) in the network namespace of the filter. The kernel takes
// it away when the process ends, however that comes, and it is seen from every PID namespace. Any process may bind such a name:
// by a false sign of life, a filter is left where it is, and nothing worse.

func lifeAddr(ifindex int, side Side, program ebpf.ProgramID) *net.UnixAddr {
	return &net.UnixAddr{Net: "unixgram", Name: fmt.Sprintf("@weir/clsact/%d/%s/%d", ifindex, side, program)}
}

// showLife tells other processes that the filter of a program has an owner, until it is closed. It returns nil if somebody
// else does already.
func showLife(ifindex int, side Side, program ebpf.ProgramID) (io.Closer, error) {
	socket, err := net.ListenUnixgram("unixgram", lifeAddr(ifindex, side, program))
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("give a sign of life: %w", err)
	}
	return socket, nil
}

// alive says whether the owner of a filter is: only a refusal says that it is not.
func alive(ifindex int, side Side, program ebpf.ProgramID) bool {
	socket, err := net.DialUnix("unixgram", nil, lifeAddr(ifindex, side, program))
	if err == nil {
		socket.Close()
	}
	return !errors.Is(err, unix.ECONNREFUSED)
}
