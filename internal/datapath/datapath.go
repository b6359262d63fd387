// Package datapath is weir's hold on the kernel: it loads the programs and maps generated from bpf/, attaches them to
// interfaces, has finished entries handed over, and reads the ledger. The kernel's own types stay inside; what leaves
// is in terms of package flow.
package datapath

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"weir/internal/flow"
)

// Ring sizes in bytes, powers of two. `records` holds some 52,000 records: the sweep stops when it is full and goes on
// when it was read. `closed` holds some 65,000 closed connections between two looks at it; the sweep finds the rest.
const (
	recordsRingBytes = 8 << 20
	closedRingBytes  = 4 << 20
)

// Config sizes the kernel side.
type Config struct {
	// MaxFlows is the number of connections that the map holds. The kernel keeps about 128 per CPU of them in
	// reserve.
	MaxFlows uint32
	// Sampling has one in so many packets counted, at random; 1 is all of them.
	Sampling uint32
	// VLANZones keeps connections of separate VLANs apart that are equal otherwise.
	VLANZones bool
	// Decap names the tunnels of which the contents are counted, with the UDP port of those that run over UDP. The
	// others are counted as what they are on the wire.
	Decap map[flow.TunnelKind]uint16
	// Replay has frames counted that Replay is given, by the clock of their capture, and nothing else.
	Replay bool
}

// Datapath is the loaded kernel side. Its methods may be called from several goroutines.
type Datapath struct {
	maxFlows uint32
	vlans    bool // kept apart
	zones    *zones
	coll     *ebpf.Collection
	xdp      *ebpf.Program // nil where the kernel has no XDP with fragments
	records  *ringbuf.Reader
	closed   *ringbuf.Reader

	skb [skbSize]byte // the context of Replay

	handover sync.Mutex // sweep and take write the same counters: one at a time

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
	if err := configure(spec, cfg); err != nil {
		return nil, err
	}
	if !haveXDPFragments() {
		delete(spec.Programs, kernelProgXdpIngress)
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		return nil, fmt.Errorf("load the kernel programs: %w", cfg.explain(err))
	}
	d := &Datapath{maxFlows: cfg.MaxFlows, vlans: cfg.VLANZones, coll: coll, xdp: coll.Programs[kernelProgXdpIngress]}
	if d.records, err = ringbuf.NewReader(coll.Maps[kernelMapRecords]); err != nil {
		return nil, errors.Join(fmt.Errorf("open the ring of records: %w", err), d.Close())
	}
	if d.closed, err = ringbuf.NewReader(coll.Maps[kernelMapClosed]); err != nil {
		return nil, errors.Join(fmt.Errorf("open the ring of closed connections: %w", err), d.Close())
	}
	if d.zones, err = newZones(coll.Maps[kernelMapTunnels], coll.Maps[kernelMapFreeZones]); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// configure is the only place where the kernel object is changed before it is loaded.
func configure(spec *ebpf.CollectionSpec, cfg Config) error {
	spec.Maps[kernelMapFlows].MaxEntries = cfg.MaxFlows
	spec.Maps[kernelMapRecords].MaxEntries = recordsRingBytes
	spec.Maps[kernelMapClosed].MaxEntries = closedRingBytes
	settings := kernelSettings{
		Sampling:   cfg.Sampling,
		VxlanPort:  swapPort(cfg.port(flow.TunnelVXLAN)),
		GenevePort: swapPort(cfg.port(flow.TunnelGeneve)),
		GtpuPort:   swapPort(cfg.port(flow.TunnelGTPU)),
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
	if cfg.Replay {
		settings.Replay = 1
		delete(spec.Programs, kernelProgXdpIngress)
		delete(spec.Programs, kernelProgTcEgress)
	}
	if err := spec.Variables[kernelVarConfig].Set(&settings); err != nil {
		return fmt.Errorf("set the kernel object's settings: %w", err)
	}
	return nil
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
	for _, ring := range []*ringbuf.Reader{d.records, d.closed} {
		if ring != nil {
			errs = append(errs, ring.Close())
		}
	}
	d.coll.Close()
	return errors.Join(errs...)
}

// Capacity returns how many connections the map was made for.
func (d *Datapath) Capacity() uint32 { return d.maxFlows }

// ObjectHash identifies the kernel object: the SHA-256 of its bytes, in hex.
func ObjectHash() string {
	sum := sha256.Sum256(_KernelBytes)
	return hex.EncodeToString(sum[:])
}
