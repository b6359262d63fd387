// Package datapath is weir's hold on the kernel: it loads the programs and maps generated from bpf/, attaches them to
// interfaces, has finished entries handed over, and reads the ledger. The kernel's own types stay inside; what leaves
// is in terms of package flow.
package datapath

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"weir/internal/flow"
)

// Ring sizes in bytes, powers of two. `records` holds some 58,000 records: the sweep stops when it is full and goes on
// when it was read. `closed` holds some 65,000 closed connections between two looks at it; the sweep finds the rest.
const (
	recordsRingBytes = 8 << 20
	closedRingBytes  = 4 << 20
)

// Config sizes the kernel side.
type Config struct {
	// MaxFlows is the number of connections that the map is made for: hardly one makes room for another before.
	MaxFlows uint32
	// Sampling has one in so many packets counted, at random; 1 is all of them.
	Sampling uint32
	// VLANZones keeps connections of separate VLANs apart that are equal otherwise.
	VLANZones bool
	// Decap names the tunnels of which the contents are counted, with the UDP port of those that run over UDP. The
	// others are counted as what they are on the wire.
	Decap map[flow.TunnelKind]uint16
	// PinDir is a folder of a BPF file system where the maps and the attachments stay when the process ends, for the next
	// one to go on with; records are kept until they are released. Empty, everything ends with the process.
	PinDir string
	// Replay has frames counted that Replay is given, by the clock of their capture, and nothing else.
	Replay bool
	// Samples is what is copied of packets, for fingerprints. It may change from one process on a folder of pins to the next:
	// what was copied and not read is not passed on.
	Samples Samples
	// SampleRate is how many samples of up to 1,500 bytes a second each CPU may copy, with a second's worth at a time; a longer one
	// counts as several. 0 is any number.
	SampleRate uint32
	// Filter is a program of package filter that says which frames are counted. None: all of them.
	Filter []bpf.Instruction
}

// Datapath is the loaded kernel side. Its methods may be called from several goroutines.
type Datapath struct {
	cfg      Config
	coll     *ebpf.Collection
	records  *ring
	closed   *ring
	samples  *ring
	zones    *zones
	pins     *pins  // nil without a folder
	resumed  bool   // on maps that another process left
	instance uint64 // of the ring of records

	skb [skbSize]byte // the context of Replay

	handover  sync.Mutex // sweep and take write the same counters: one at a time
	sweepFrom uint32     // the word of tags where the next sweep begins: where the last one found the ring full

	sets   sets
	qdiscs qdiscs
}

// Load loads the programs and maps into the kernel. Nothing is attached yet. The error says what the kernel lacks or
// does not permit.
func Load(cfg Config) (*Datapath, error) {
	if err := preflight(); err != nil {
		return nil, err
	}
	spec, err := loadKernel()
	if err != nil {
		return nil, fmt.Errorf("read the kernel object: %w", err)
	}
	if err := configure(spec, cfg, place{}); err != nil {
		return nil, err
	}
	d := &Datapath{cfg: cfg}
	if err := d.load(spec); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// load fills in d, and leaves it to Close when it fails.
func (d *Datapath) load(spec *ebpf.CollectionSpec) (err error) {
	var adopted map[string]*ebpf.Map
	if d.cfg.PinDir != "" {
		if d.pins, err = openPins(d.cfg.PinDir); err != nil {
			return err
		}
		d.qdiscs.pins = d.pins
		if adopted, err = d.pins.adopt(spec, d.cfg.Sampling); err != nil {
			return err
		}
		defer closeMaps(adopted)
		d.resumed = adopted != nil
	}
	if d.coll, err = ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: adopted}); err != nil {
		return fmt.Errorf("load the kernel programs: %w", d.cfg.explain(err))
	}
	if d.records, err = newRing(d.coll.Maps[kernelMapRecords]); err != nil {
		return fmt.Errorf("open the ring of records: %w", err)
	}
	if d.closed, err = newRing(d.coll.Maps[kernelMapClosed]); err != nil {
		return fmt.Errorf("open the ring of closed connections: %w", err)
	}
	if d.samples, err = newRing(d.coll.Maps[kernelMapSamples]); err != nil {
		return fmt.Errorf("open the ring of samples: %w", err)
	}
	if d.instance, err = instanceOf(d.coll.Maps[kernelMapRecords]); err != nil {
		return err
	}
	if d.zones, err = newZones(d.coll.Maps[kernelMapTunnels], d.coll.Maps[kernelMapFreeZones], d.resumed); err != nil {
		return err
	}
	if d.pins == nil || d.resumed {
		return nil
	}
	if err := describe(d.coll.Maps[kernelMapDescription], d.cfg.Sampling); err != nil {
		return err
	}
	return d.pins.keep(d.coll.Maps)
}

// instanceOf returns a number that no other ring has on any host: the kernel numbers its maps, and every boot has a random ID.
func instanceOf(ring *ebpf.Map) (uint64, error) {
	info, err := ring.Info()
	if err != nil {
		return 0, fmt.Errorf("identify the ring of records: %w", err)
	}
	id, _ := info.ID()
	const path = "/proc/sys/kernel/random/boot_id"
	boot, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("identify this boot: %w", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", boot, id))
	return binary.BigEndian.Uint64(sum[:]), nil
}

// configure is the only place where the kernel object is changed before it is loaded, for interfaces of one kind.
func configure(spec *ebpf.CollectionSpec, cfg Config, at place) error {
	if !haveXDPFragments() {
		delete(spec.Programs, kernelProgXdpIngress)
	}
	if err := checkSize(cfg.MaxFlows); err != nil {
		return err
	}
	buckets := bucketsFor(cfg.MaxFlows)
	sizeTable(spec, buckets)
	spec.Maps[kernelMapRecords].MaxEntries = recordsRingBytes
	spec.Maps[kernelMapClosed].MaxEntries = closedRingBytes
	sizeSamples(spec, &cfg)
	settings := kernelSettings{
		Sampling:   cfg.Sampling,
		Netns:      uint32(at.netns),
		TickNs:     uint32(tickLen()),
		Samples:    uint32(cfg.Samples),
		SampleNs:   sampleInterval(cfg.SampleRate),
		Buckets:    buckets,
		VxlanPort:  swapPort(cfg.port(flow.TunnelVXLAN)),
		GenevePort: swapPort(cfg.port(flow.TunnelGeneve)),
		GtpuPort:   swapPort(cfg.port(flow.TunnelGTPU)),
	}
	if at.bare {
		settings.LinkLayer = uint32(kernelLinkLayerLINK_NONE)
	}
	if cfg.VLANZones {
		settings.VlanZones = 1
	}
	for kind := range cfg.Decap {
		settings.Decap |= 1 << kind
		for _, name := range []string{kernelMapTunnels, kernelMapFreeZones} {
			spec.Maps[name].MaxEntries = endTunnelZone - firstTunnelZone
		}
	}
	if len(cfg.Filter) > 0 {
		settings.Filter = 1
		if err := installFilter(spec, cfg.Filter, at.bare); err != nil {
			return err
		}
	}
	if cfg.Replay {
		settings.Replay = 1
		delete(spec.Programs, kernelProgXdpIngress)
		delete(spec.Programs, kernelProgTcEgress)
	}
	secret := newSecret()
	if err := errors.Join(spec.Variables[kernelVarConfig].Set(&settings), spec.Variables[kernelVarSecret].Set(&secret)); err != nil {
		return fmt.Errorf("set the kernel object's settings: %w", err)
	}
	return nil
}

// tickLen returns what the kernel's coarse clock is good to: a tick.
func tickLen() time.Duration {
	var tick unix.Timespec
	// CLOCK_MONOTONIC_COARSE exists on every Linux: the call cannot fail.
	_ = unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &tick)
	return time.Duration(tick.Nano())
}

// port returns the UDP port of a tunnel. Those that are not looked into have one too: their super-packets are weighed.
func (c *Config) port(kind flow.TunnelKind) uint16 {
	if port := c.Decap[kind]; port != 0 {
		return port
	}
	return kind.DefaultPort()
}

// Close unloads the kernel side. Attachments must be closed before.
func (d *Datapath) Close() error {
	var errs []error
	for _, r := range []*ring{d.records, d.closed, d.samples} {
		if r != nil {
			errs = append(errs, r.close())
		}
	}
	d.sets.close()
	if d.coll != nil {
		d.coll.Close()
	}
	if d.pins != nil {
		errs = append(errs, d.pins.close())
	}
	return errors.Join(errs...)
}

// Resumed says whether the maps are those that another process left: the counters go on.
func (d *Datapath) Resumed() bool { return d.resumed }

// Capacity returns how many connections the map is made for.
func (d *Datapath) Capacity() uint32 { return d.cfg.MaxFlows }

// ObjectHash identifies the kernel object: the SHA-256 of its bytes, in hex.
func ObjectHash() string {
	sum := sha256.Sum256(_KernelBytes)
	return hex.EncodeToString(sum[:])
}
