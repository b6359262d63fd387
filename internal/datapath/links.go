package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// An attachment has a file in the folder of links: the link itself or, as a clsact filter has none, an empty folder. Its name
// has the inode of the network namespace, the interface's index there, the side, the mode and, of a filter, its program's ID;
// that of a qdisc that weir made ends in qdiscMark.
const qdiscMark = "qdisc"

// linkPath names what there is to keep of an interface, of the namespace that the calling thread is in.
func (p *pins) linkPath(ifindex int, what ...string) (string, error) {
	inode, err := ownNetns()
	if err != nil {
		return "", err
	}
	name := fmt.Sprintf("%d-%d-%s", inode, ifindex, strings.Join(what, "-"))
	return filepath.Join(p.dir, linksFolder, name), nil
}

// ownNetns returns the inode of the network namespace that the calling thread is in.
func ownNetns() (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &stat); err != nil {
		return 0, fmt.Errorf("identify the network namespace: %w", err)
	}
	return stat.Ino, nil
}

// attachLink attaches a program, or puts it in the place of the one that another process left there, without a gap.
func (p *pins) attachLink(ifindex int, side Side, mode Mode, prog *ebpf.Program, attach func() (link.Link, error)) (hold, error) {
	if p == nil {
		l, err := attach()
		return linkHold{Link: l}, err
	}
	path, err := p.linkPath(ifindex, string(side), string(mode))
	if err != nil {
		return nil, err
	}
	if l := adoptLink(path, ifindex, prog); l != nil {
		p.claim(path)
		return linkHold{Link: l, adopted: true}, nil
	}
	l, err := attach()
	if err != nil {
		return nil, err
	}
	if err := l.Pin(path); err != nil {
		return nil, errors.Join(fmt.Errorf("pin the link: %w", err), l.Close())
	}
	p.claim(path)
	return linkHold{Link: l}, nil
}

// adoptLink returns nil if there is no link, or none that can be used any more, which it then removes: the interface may be
// gone, and another have its index.
func adoptLink(path string, ifindex int, prog *ebpf.Program) link.Link {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return nil
	}
	if at, err := attachedTo(l); err != nil || at != ifindex || l.Update(prog) != nil {
		_ = errors.Join(l.Unpin(), l.Close()) // what is left of it is of no use, and a new link will say what is wrong
		return nil
	}
	return l
}

// attachedTo returns the index of the interface that a link is on, 0 if somebody detached it.
func attachedTo(l link.Link) (int, error) {
	info, err := l.Info()
	if err != nil {
		return 0, err
	}
	if tcx := info.TCX(); tcx != nil {
		return int(tcx.Ifindex), nil
	}
	if xdp := info.XDP(); xdp != nil {
		return int(xdp.Ifindex), nil
	}
	return 0, nil
}

// mark leaves a sign for the next process of what has no link, and says whether one was there. It is for the namespace of the
// calling thread.
func (p *pins) mark(ifindex int, what ...string) (was bool, err error) {
	if p == nil {
		return false, nil
	}
	path, err := p.linkPath(ifindex, what...)
	if err != nil {
		return false, err
	}
	p.claim(path)
	if err := os.Mkdir(path, 0o700); errors.Is(err, fs.ErrExist) {
		return true, nil
	} else if err != nil {
		return false, fmt.Errorf("leave a sign of an attachment: %w", err)
	}
	return false, nil
}

// marked says whether there is such a sign.
func (p *pins) marked(ifindex int, what ...string) (bool, error) {
	if p == nil {
		return false, nil
	}
	path, err := p.linkPath(ifindex, what...)
	if err != nil {
		return false, err
	}
	_, err = os.Stat(path)
	return err == nil, nil
}

func (p *pins) unmark(ifindex int, what ...string) error {
	if p == nil {
		return nil
	}
	path, err := p.linkPath(ifindex, what...)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the sign of an attachment: %w", err)
	}
	return nil
}

func (p *pins) claim(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claimed[path] = true
}
