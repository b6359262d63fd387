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
	var stat unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &stat); err != nil {
		return "", fmt.Errorf("identify the network namespace: %w", err)
	}
	name := fmt.Sprintf("%d-%d-%s", stat.Ino, ifindex, strings.Join(what, "-"))
	return filepath.Join(p.dir, linksFolder, name), nil
}

// attachLink attaches a program, or puts it in the place of the one that another process left there, without a gap.
func (p *pins) attachLink(ifindex int, side Side, mode Mode, prog *ebpf.Program, attach func() (link.Link, error)) (link.Link, error) {
	if p == nil {
		return attach()
	}
	path, err := p.linkPath(ifindex, string(side), string(mode))
	if err != nil {
		return nil, err
	}
	if l := adoptLink(path, ifindex, prog); l != nil {
		p.claim(path)
		return l, nil
	}
	l, err := attach()
	if err != nil {
		return nil, err
	}
	if err := l.Pin(path); err != nil {
		return nil, errors.Join(fmt.Errorf("pin the link: %w", err), l.Close())
	}
	p.claim(path)
	return l, nil
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

// settle detaches what other processes left and nobody claimed.
func (p *pins) settle() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	dir := filepath.Join(p.dir, linksFolder)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list the pinned links: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); !p.claimed[path] {
			errs = append(errs, dropLink(path, e.IsDir()))
		}
	}
	return errors.Join(errs...)
}

// dropLink detaches a pinned link, or what a sign is of.
func dropLink(path string, sign bool) error {
	if sign {
		err := dropSigned(filepath.Base(path))
		if errors.Is(err, errElsewhere) {
			return err // and the sign stays, for a process that comes there
		}
		return errors.Join(err, os.Remove(path))
	}
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return errors.Join(fmt.Errorf("open the pinned link: %w", err), os.Remove(path))
	}
	return errors.Join(l.Unpin(), l.Close())
}

var errElsewhere = errors.New("it is in another network namespace, and stays")

// dropSigned removes the filter or the qdisc that a sign is of, if it is in the namespace that the thread is in.
func dropSigned(name string) error {
	var stat unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &stat); err != nil {
		return fmt.Errorf("identify the network namespace: %w", err)
	}
	var inode, program uint64
	var ifindex int
	if _, err := fmt.Sscanf(name, "%d-%d-"+qdiscMark, &inode, &ifindex); err == nil {
		if inode != stat.Ino {
			return nil
		}
		_, err := releaseQdisc(ifindex)
		return err
	}
	side := Ingress
	if strings.Contains(name, string(Egress)) {
		side = Egress
	}
	format := strings.Join([]string{"%d-%d", string(side), string(ModeClsact), "%d"}, "-")
	if _, err := fmt.Sscanf(name, format, &inode, &ifindex, &program); err != nil {
		return fmt.Errorf("read the name of a sign %q: %w", name, err)
	}
	if inode != stat.Ino {
		return goneElsewhere(name, ebpf.ProgramID(program))
	}
	if _, err := removeFilters(ifindex, side, ebpf.ProgramID(program)); err != nil && !gone(err) {
		return err
	}
	return nil
}

// goneElsewhere fails if the kernel may still have the program of a filter.
func goneElsewhere(name string, id ebpf.ProgramID) error {
	prog, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		prog.Close()
	}
	return fmt.Errorf("detach the filter %q: %w", name, errElsewhere)
}

// Settle detaches what another process left attached and this one did not take over.
func (d *Datapath) Settle() error {
	if d.pins == nil {
		return nil
	}
	return d.pins.settle()
}

// Unpin detaches and removes everything in a folder of pins, unless a process holds it, and the folder.
func Unpin(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	p, err := openPins(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(p.settle(), os.RemoveAll(dir), p.close()); err != nil {
		return fmt.Errorf("remove the pins in %q: %w", dir, err)
	}
	return nil
}
