// Package netns finds network namespaces by the paths that lead to them, and works inside of them.
package netns

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ID tells namespaces apart, whichever path leads to them. It may be given to another one when nothing holds the first any
// more: no process, no mount, no open Namespace.
type ID struct{ device, inode uint64 }

// Found is a namespace and a path to it.
type Found struct {
	ID   ID
	Path string
}

// Name returns what the namespace is called: its name if it has one by ip-netns(8), which keeps them in /run/netns, else
// the path.
func (f Found) Name() string {
	switch dir, name := filepath.Split(f.Path); dir {
	case "/run/netns/", "/var/run/netns/":
		return name
	}
	return f.Path
}

const ownPath = "/proc/thread-self/ns/net"

// Own returns the network namespace of the calling thread.
func Own() (ID, error) {
	found, err := stat(ownPath)
	if err != nil {
		return ID{}, fmt.Errorf("find the own network namespace: %w", err)
	}
	return found.ID, nil
}

// errForeign says that a path leads to something else.
var errForeign = errors.New("it is not a network namespace")

// stat does not open the file: who knows what a path leads to.
func stat(path string) (Found, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return Found{}, err
	}
	if fs.Type != unix.NSFS_MAGIC {
		return Found{}, errForeign
	}
	var file unix.Stat_t
	if err := unix.Stat(path, &file); err != nil {
		return Found{}, err
	}
	return Found{ID{uint64(file.Dev), file.Ino}, path}, nil
}

// Find returns the namespaces that a path or a glob leads to, in the order of the paths; one may be there under several.
// A path must lead to one. Of a glob, what is none, or has gone meanwhile, is passed over.
func Find(pattern string) ([]Found, error) {
	if !IsGlob(pattern) {
		found, err := stat(pattern)
		if err != nil {
			return nil, fmt.Errorf("network namespace %q: %w", pattern, err)
		}
		return []Found{found}, nil
	}
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("network namespaces %q: %w", pattern, err)
	}
	slices.Sort(paths)
	var list []Found
	var errs []error
	for _, path := range paths {
		found, err := stat(path)
		switch {
		case err == nil:
			list = append(list, found)
		case !errors.Is(err, errForeign) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ESRCH):
			errs = append(errs, fmt.Errorf("network namespace %q: %w", path, err))
		}
	}
	return list, errors.Join(errs...)
}

// IsGlob says whether a pattern may match more than itself.
func IsGlob(pattern string) bool { return strings.ContainsAny(pattern, `*?[\`) }

// Namespace is open: it lasts until Close, with its interfaces.
type Namespace struct{ fd int }

// Open opens the namespace that was found.
func Open(found Found) (*Namespace, error) {
	fd, err := unix.Open(found.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %q: %w", found.Path, err)
	}
	var file unix.Stat_t
	err = unix.Fstat(fd, &file)
	if err == nil && (ID{uint64(file.Dev), file.Ino}) != found.ID {
		err = errors.New("it has become another one")
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("open network namespace %q: %w", found.Path, err)
	}
	return &Namespace{fd}, nil
}

// Close lets go of the namespace.
func (n *Namespace) Close() error {
	if err := unix.Close(n.fd); err != nil {
		return fmt.Errorf("close a network namespace: %w", err)
	}
	return nil
}

// Cookie returns a number that no other namespace ever has until the machine starts anew (SO_NETNS_COOKIE, Linux 5.14).
// Inodes are used again at once. It takes what Do takes.
func (n *Namespace) Cookie() (cookie uint64, err error) {
	err = n.Do(func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return errors.Join(err, unix.Close(fd))
	})
	if err != nil {
		return 0, fmt.Errorf("identify a network namespace: %w", err)
	}
	return cookie, nil
}

// Do runs fn on a thread of its own inside the namespace, and returns what it returns. What fn starts on other goroutines
// is outside. It takes CAP_SYS_ADMIN.
func (n *Namespace) Do(fn func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread stands for the process, and never ends. While it is held here, another one is taken.
			result <- n.Do(fn)
			runtime.UnlockOSThread()
			return
		}
		// Not unlocked: the thread ends with this goroutine, and need not find its way back.
		if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
			result <- explain(err)
			return
		}
		result <- fn()
	}()
	return <-result
}

// Permitted says why Do would not be.
func Permitted() error {
	own, err := stat(ownPath)
	if err != nil {
		return fmt.Errorf("find the own network namespace: %w", err)
	}
	n, err := Open(own)
	if err != nil {
		return err
	}
	return errors.Join(n.Do(func() error { return nil }), n.Close())
}

func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("enter a network namespace: not permitted, for lack of CAP_SYS_ADMIN: %w", err)
	}
	return fmt.Errorf("enter a network namespace: %w", err)
}
