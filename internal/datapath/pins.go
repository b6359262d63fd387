package datapath

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Names in the folder of pins. A generation holds the maps of one layout, size and rate of sampling; its name has the hash
// of these. One that is set aside is of another, and events are made of it. What is unfinished is being made or removed. The signature
// says that the folder is weir's: nothing is removed from another one. (A BPF file system takes no names with dots.)
const (
	signature        = "weir-pins"
	generationPrefix = "maps-"
	asidePrefix      = "aside-"
	unfinished       = "unfinished"
	linksFolder      = "links"
)

// generations are the names that those folders have.
var generations = regexp.MustCompile("^(" + generationPrefix + "[0-9a-f]{16}|" + asidePrefix + "[A-Z2-7]{26})$")

// pinnedMaps are what outlives a process. The others hold nothing from one run of a program to the next.
var pinnedMaps = []string{
	kernelMapFlows, kernelMapTags, kernelSecrets, kernelMapLedger, kernelMapClosed, kernelMapRecords, kernelMapFragments,
	kernelMapTunnels, kernelMapFreeZones, kernelMapDescription,
}

// formerMaps are those of them that what another generation left is read from.
var formerMaps = []string{kernelMapFlows, kernelMapRecords, kernelMapDescription, kernelMapTunnels}

// pinName is what a map is called in the folder.
func pinName(name string) string { return strings.TrimPrefix(name, ".rodata.") }

// pins is a folder of a BPF file system where maps and links outlive the process, and this process's hold on it.
type pins struct {
	dir        string
	lock       *os.File
	generation string // the path of this object's maps

	mu      sync.Mutex
	claimed map[string]bool // paths of links and signs that this process answers for
}

// ErrPinned says that there is another process that holds the folder.
var ErrPinned = errors.New("another weir runs on it: stop that first")

// openPins makes the folder if need be, and takes hold of it.
func openPins(dir string) (*pins, error) {
	err := os.Mkdir(dir, 0o700)
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the folder of pins, in a BPF file system (mount -t bpf bpf /sys/fs/bpf): %w", err)
	}
	if err := checkFolder(dir); err != nil {
		if made {
			err = errors.Join(err, os.Remove(dir))
		}
		return nil, err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the folder of pins: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrPinned
		}
		return nil, errors.Join(fmt.Errorf("take hold of the folder of pins %q: %w", dir, err), lock.Close())
	}
	if err := prepare(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the folder of pins %q: %w", dir, err), lock.Close())
	}
	return &pins{dir: dir, lock: lock, claimed: map[string]bool{}}, nil
}

// checkFolder refuses what cannot hold pins, and a mount point, which others share as a rule and nobody can remove.
func checkFolder(dir string) error {
	var system unix.Statfs_t
	if err := unix.Statfs(dir, &system); err != nil {
		return fmt.Errorf("look at the folder of pins %q: %w", dir, err)
	}
	if system.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("the folder of pins %q is not in a BPF file system (as /sys/fs/bpf is, by mount -t bpf)", dir)
	}
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, 0, 0, &stat); err != nil {
		return fmt.Errorf("look at the folder of pins %q: %w", dir, err)
	}
	if stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return fmt.Errorf("the folder of pins %q is a mount point: name a folder in it, such as %q", dir, filepath.Join(dir, "weir"))
	}
	return nil
}

// prepare makes an empty folder weir's, and refuses one that is not.
func prepare(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	signed := slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == signature })
	if !signed && len(entries) > 0 {
		return fmt.Errorf("%q in it is not weir's: name a folder that is empty or does not exist", entries[0].Name())
	}
	for _, name := range []string{signature, linksFolder} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := removeFlat(filepath.Join(dir, unfinished)); err != nil {
		return fmt.Errorf("remove what another process left unfinished: %w", err)
	}
	return nil
}

// removeFlat removes a folder and what is in it, but for folders that have something in them. None is no error.
func removeFlat(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
	}
	return errors.Join(append(errs, os.Remove(dir))...)
}

// close lets another process have the folder.
func (p *pins) close() error { return p.lock.Close() }

// generationOf names the maps of an object as configured: of the same name are only those with the same types and sizes, with
// the same protocol of the table, and with the same rate of sampling, which the counters in them do not tell.
func generationOf(spec *ebpf.CollectionSpec, sampling uint32) string {
	hash := sha256.New()
	fmt.Fprintln(hash, "sampling", sampling, "table", tableVersion)
	for _, t := range []reflect.Type{
		reflect.TypeFor[kernelOpenedRecord](), reflect.TypeFor[kernelClosing](), reflect.TypeFor[kernelLedgerPage](),
		reflect.TypeFor[kernelTunnel](), reflect.TypeFor[kernelTunnelZone](), reflect.TypeFor[kernelBucket](),
	} {
		fmt.Fprintln(hash, layoutOf(t).text())
	}
	for _, name := range pinnedMaps {
		m := spec.Maps[name]
		fmt.Fprintln(hash, name, m.Type, m.KeySize, m.ValueSize, m.MaxEntries, m.Flags)
	}
	return generationPrefix + hex.EncodeToString(hash.Sum(nil)[:8])
}

// adopt returns the maps of this generation that another process left, or nil if there are none.
func (p *pins) adopt(spec *ebpf.CollectionSpec, sampling uint32) (map[string]*ebpf.Map, error) {
	p.generation = filepath.Join(p.dir, generationOf(spec, sampling))
	if _, err := os.Stat(p.generation); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	found, err := openMaps(p.generation, pinnedMaps)
	if err != nil {
		return nil, fmt.Errorf("take over the pinned maps (weir unpin removes them): %w", err)
	}
	return found, nil
}

// openMaps opens these maps of a generation.
func openMaps(generation string, names []string) (map[string]*ebpf.Map, error) {
	found := map[string]*ebpf.Map{}
	for _, name := range names {
		m, err := ebpf.LoadPinnedMap(filepath.Join(generation, pinName(name)), nil)
		if err != nil {
			closeMaps(found)
			return nil, fmt.Errorf("open the pinned map %q: %w", name, err)
		}
		found[name] = m
	}
	return found, nil
}

func closeMaps(list map[string]*ebpf.Map) {
	for _, m := range list {
		m.Close()
	}
}

// keep pins the maps, all or none: the folder gets its name when it is complete.
func (p *pins) keep(maps map[string]*ebpf.Map) error {
	dir := filepath.Join(p.dir, unfinished)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of pinned maps: %w", err)
	}
	for _, name := range pinnedMaps {
		// By a file descriptor of its own: a Map that knows its pin would have to follow the folder's name.
		twin, err := maps[name].Clone()
		if err == nil {
			err = errors.Join(twin.Pin(filepath.Join(dir, pinName(name))), twin.Close())
		}
		if err != nil {
			return fmt.Errorf("pin the map %q: %w", name, err)
		}
	}
	if err := os.Rename(dir, p.generation); err != nil {
		return fmt.Errorf("name the folder of pinned maps: %w", err)
	}
	return nil
}

// setAside lists the folders of other generations, under a name by which no process will go on with them: it would hand over
// again what events were made of already.
func (p *pins) setAside() ([]string, error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, fmt.Errorf("list the pins: %w", err)
	}
	var list []string
	for _, e := range entries {
		path := filepath.Join(p.dir, e.Name())
		switch {
		case !generations.MatchString(e.Name()):
		case strings.HasPrefix(e.Name(), asidePrefix):
			list = append(list, path)
		case path != p.generation:
			aside := filepath.Join(p.dir, asidePrefix+rand.Text())
			if err := os.Rename(path, aside); err != nil {
				return nil, fmt.Errorf("set the maps of another layout or size aside: %w", err)
			}
			list = append(list, aside)
		}
	}
	return list, nil
}

// remove removes the folder of a generation, for other processes at once.
func (p *pins) remove(generation string) error {
	dir := filepath.Join(p.dir, unfinished)
	if err := os.Rename(generation, dir); err != nil {
		return err
	}
	return removeFlat(dir)
}

// clear removes everything that is weir's, and the folder, unless there is something left in it.
func (p *pins) clear() error {
	entries, err := os.ReadDir(p.dir)
	errs := []error{err}
	for _, e := range entries {
		if e.Name() == numbersFolder || generations.MatchString(e.Name()) {
			errs = append(errs, removeFlat(filepath.Join(p.dir, e.Name())))
		}
	}
	// With links left in it, it goes on being weir's.
	if err := os.Remove(filepath.Join(p.dir, linksFolder)); err != nil {
		return errors.Join(append(errs, err)...)
	}
	return errors.Join(append(errs, os.Remove(filepath.Join(p.dir, signature)), os.Remove(p.dir))...)
}
