package testnet

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Unavailable ends a test that needs of the kernel what it does not give here, such as root or a BPF feature: it skips,
// but fails where the environment variable CI is set, so that nothing is left out there unseen.
func Unavailable(t testing.TB, why error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// NeedRoot ends the test, by Unavailable, if it does not run as root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Unavailable(t, errors.New("needs root"))
	}
}

// Namespace is a network namespace without a name. In it, interfaces send nothing by themselves, so that tests can
// count to the packet: no router discovery, no duplicate address detection, and no IPv6 where no address asks for it.
type Namespace struct {
	// Netlink speaks to the namespace from any thread, for what this package does not wrap.
	Netlink *netlink.Handle

	handle netns.NsHandle
}

// NewNamespace makes a namespace with its loopback interface up. It goes away with its interfaces at the test's end,
// or when the last process in it ends.
func NewNamespace(t testing.TB) *Namespace {
	t.Helper()
	NeedRoot(t)
	n := &Namespace{handle: netns.None()}
	t.Cleanup(n.close)
	enter := func() (err error) {
		n.handle, err = netns.New()
		return err
	}
	err := away(enter, n.setUp)
	if errors.Is(err, unix.EPERM) {
		Unavailable(t, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Do runs fn on a thread inside the namespace and returns what it returns. It counts for the calling goroutine only:
// sockets opened and processes started by fn itself belong to the namespace, those of goroutines that fn starts do not.
func (n *Namespace) Do(fn func() error) error {
	return away(func() error { return netns.Set(n.handle) }, fn)
}

// Sysctl sets a kernel parameter of the namespace, such as "net/ipv4/ip_forward".
func (n *Namespace) Sysctl(t testing.TB, name, value string) {
	t.Helper()
	if err := n.Do(func() error { return sysctl(name, value) }); err != nil {
		t.Fatal(err)
	}
}

func (n *Namespace) setUp() error {
	// Interfaces inherit these from "default".
	for name, value := range map[string]string{
		"disable_ipv6":         "1",
		"accept_dad":           "0",
		"accept_ra":            "0",
		"addr_gen_mode":        "1", // no link-local address
		"autoconf":             "0",
		"dad_transmits":        "0",
		"router_solicitations": "0",
	} {
		if err := sysctl(filepath.Join("net/ipv6/conf/default", name), value); err != nil {
			return err
		}
	}
	var err error
	if n.Netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	lo, err := n.Netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	if err := n.Netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set loopback up: %w", err)
	}
	return nil
}

func (n *Namespace) close() {
	if n.Netlink != nil {
		n.Netlink.Close()
	}
	if n.handle.IsOpen() {
		n.handle.Close()
	}
}

// away runs fn on a thread that enter has moved to another namespace, and moves it back. A thread that cannot go back
// stays locked to its goroutine, and ends with it.
func away(enter, fn func() error) (err error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer func() {
		defer home.Close()
		if failed := netns.Set(home); failed != nil {
			err = errors.Join(err, fmt.Errorf("return to own network namespace: %w", failed))
			return
		}
		runtime.UnlockOSThread()
	}()
	if err := enter(); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	return fn()
}

func sysctl(name, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0); err != nil {
		return fmt.Errorf("set kernel parameter: %w", err)
	}
	return nil
}
