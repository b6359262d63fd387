package datapath

import (
	"fmt"
	"maps"
	"sync"

	"github.com/cilium/ebpf"
)

// variant is what programs are loaded for: they hold both as constants, so that a packet costs no look-up.
type variant struct {
	netns uint8
	bare  bool
}

// set is the programs of one variant. XDP is nil where the kernel has none with fragments, and at bare interfaces.
type set struct {
	xdp, tcIngress, tcEgress *ebpf.Program
}

func setOf(coll *ebpf.Collection) set {
	return set{
		xdp:       coll.Programs[kernelProgXdpIngress],
		tcIngress: coll.Programs[kernelProgTcIngress],
		tcEgress:  coll.Programs[kernelProgTcEgress],
	}
}

// sets are the programs of every variant but the first, loaded when the first interface there is attached. They share the
// maps.
type sets struct {
	mu     sync.Mutex
	loaded map[variant]*ebpf.Collection
}

// setAt returns the programs of a variant. It may have to load them, which takes some tenths of a second.
func (d *Datapath) setAt(at variant) (set, error) {
	if at == (variant{}) {
		return setOf(d.coll), nil
	}
	d.sets.mu.Lock()
	defer d.sets.mu.Unlock()
	coll, ok := d.sets.loaded[at]
	if !ok {
		var err error
		if coll, err = d.loadSet(at); err != nil {
			return set{}, err
		}
		if d.sets.loaded == nil {
			d.sets.loaded = map[variant]*ebpf.Collection{}
		}
		d.sets.loaded[at] = coll
	}
	return setOf(coll), nil
}

func (d *Datapath) loadSet(at variant) (*ebpf.Collection, error) {
	spec, err := loadKernel()
	if err != nil {
		return nil, fmt.Errorf("read the kernel object: %w", err)
	}
	if err := configure(spec, d.cfg, at); err != nil {
		return nil, err
	}
	delete(spec.Programs, kernelProgSweep)
	delete(spec.Programs, kernelProgTake)
	if at.bare {
		delete(spec.Programs, kernelProgXdpIngress)
	}
	shared := maps.Clone(d.coll.Maps)
	delete(shared, kernelConstants)
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	if err != nil {
		return nil, fmt.Errorf("load the kernel programs once more: %w", d.cfg.explain(err))
	}
	return coll, nil
}

// kernelConstants is the map of the settings, which each set has its own of.
const kernelConstants = ".rodata"

// Forget unloads the programs of a network namespace that is not watched any more. Attachments there must be closed
// before.
func (d *Datapath) Forget(netns uint8) {
	d.sets.mu.Lock()
	defer d.sets.mu.Unlock()
	maps.DeleteFunc(d.sets.loaded, func(at variant, coll *ebpf.Collection) bool {
		if at.netns != netns {
			return false
		}
		coll.Close()
		return true
	})
}

func (s *sets) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, coll := range s.loaded {
		coll.Close()
	}
	s.loaded = nil
}
