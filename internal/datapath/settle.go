package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// linkNames are the names in the folder of links. Whose a link's program is, weir cannot ask: that takes CAP_SYS_ADMIN.
var linkNames = regexp.MustCompile(
	`^(([0-9]+)-([0-9]+))-(` + qdiscMark + `|(ingress|egress)-(xdp|xdp-generic|tcx|clsact-([0-9]+)))$`)

// linkName is what such a name says.
type linkName struct {
	where   string // the namespace's inode, and the interface's index
	inode   uint64
	ifindex int
	side    Side           // none of a qdisc
	program ebpf.ProgramID // of a filter
}

func parseLinkName(name string) (n linkName, ok bool) {
	part := linkNames.FindStringSubmatch(name)
	if part == nil {
		return n, false
	}
	n.where, n.side = part[1], Side(part[5])
	var errs [3]error
	n.inode, errs[0] = strconv.ParseUint(part[2], 10, 64)
	n.ifindex, errs[1] = strconv.Atoi(part[3])
	if part[7] != "" {
		var id uint64
		id, errs[2] = strconv.ParseUint(part[7], 10, 32)
		n.program = ebpf.ProgramID(id)
	}
	return n, errors.Join(errs[:]...) == nil
}

// settle detaches what other processes left and nobody claimed. A clsact filter that may be in another network namespace than
// the calling thread's stays, and so do the signs of it: it returns how many such filters there are.
func (p *pins) settle() (outOfReach int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	own, err := ownNetns()
	if err != nil {
		return 0, err
	}
	dir := filepath.Join(p.dir, linksFolder)
	entries, err := os.ReadDir(dir) // sorted: the sign of a qdisc comes after those of the filters on it
	if err != nil {
		return 0, fmt.Errorf("list the pinned links: %w", err)
	}
	var errs []error
	stays := map[string]bool{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		name, ours := parseLinkName(e.Name())
		switch {
		case !ours || p.claimed[path]:
		case !e.IsDir():
			errs = append(errs, dropLink(path))
		case name.inode == own:
			errs = append(errs, dropSigned(path, &name))
		case name.side == "" && stays[name.where]:
		case name.side != "" && mayBeLoaded(name.program):
			stays[name.where] = true
			outOfReach++
		default:
			errs = append(errs, os.Remove(path))
		}
	}
	return outOfReach, errors.Join(errs...)
}

// dropLink detaches a pinned link.
func dropLink(path string) error {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return fmt.Errorf("open the pinned link: %w", err)
	}
	return errors.Join(l.Unpin(), l.Close())
}

// dropSigned removes the filter or the qdisc that a sign is of, and then the sign.
func dropSigned(path string, name *linkName) (err error) {
	if name.side == "" {
		_, err = releaseQdisc(name.ifindex)
	} else {
		_, err = removeFilters(name.ifindex, name.side, name.program)
	}
	if err != nil && !gone(err) {
		return err
	}
	return os.Remove(path)
}

// mayBeLoaded says whether the kernel has a program, or does not tell: that takes CAP_SYS_ADMIN.
func mayBeLoaded(id ebpf.ProgramID) bool {
	prog, err := ebpf.NewProgramFromID(id)
	if err == nil {
		prog.Close()
	}
	return !errors.Is(err, fs.ErrNotExist)
}

// Settle detaches what another process left attached and this one did not take over. After an error, programs may still count
// into maps of other generations. Clsact filters in network namespaces other than the calling thread's are out of reach: they
// stay, and it returns how many there may be.
func (d *Datapath) Settle() (outOfReach int, err error) {
	if d.pins == nil {
		return 0, nil
	}
	return d.pins.settle()
}

// Unpin detaches and removes everything that weir left in a folder of pins, unless a process holds it, and the folder. A folder
// that is not weir's is left as it is, with an error.
func Unpin(dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("find the folder of pins: %w", err)
	}
	p, err := openPins(dir)
	if err != nil {
		return err
	}
	outOfReach, err := p.settle()
	if outOfReach > 0 {
		err = errors.Join(err, fmt.Errorf("%d clsact filters in other network namespaces stay: repeat it there (nsenter --net), "+
			"or remove their signs if the namespaces are gone", outOfReach))
	}
	if err := errors.Join(err, p.clear(), p.close()); err != nil {
		return fmt.Errorf("remove the pins in %q: %w", dir, err)
	}
	return nil
}
