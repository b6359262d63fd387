package testnet

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// Bind gives the namespace a path, until the test ends or Unbind is called, as ip-netns(8) does. The file must not be there.
func (n *Namespace) Bind(t testing.TB, path string) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o444)
	if err == nil {
		unix.Close(fd)
		err = unix.Mount(fmt.Sprintf("/proc/self/fd/%d", int(n.handle)), path, "", unix.MS_BIND, "")
	}
	if err != nil {
		t.Fatalf("bind a network namespace to %s: %v", path, err)
	}
	t.Cleanup(func() { _ = unbind(path) })
}

// Unbind takes the path of a namespace away.
func Unbind(t testing.TB, path string) {
	t.Helper()
	if err := unbind(path); err != nil {
		t.Fatalf("unbind %s: %v", path, err)
	}
}

func unbind(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Unlink(path)
}
