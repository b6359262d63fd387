package datapath

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"weir/internal/flow"
)

// describe leaves in the kernel what a later version, with another layout, needs to read the maps.
func describe(m *ebpf.Map, sampling uint32) error {
	var d kernelDescription
	text := fmt.Sprintf("sampling %d\n", sampling) + layoutOf(reflect.TypeFor[kernelRecord]()).text()
	if copy(d.Text[:], text) < len(text) {
		return fmt.Errorf("describe the maps: %d bytes are too many", len(text))
	}
	if err := m.Update(uint32(0), &d, ebpf.UpdateAny); err != nil {
		return fmt.Errorf("describe the maps: %w", err)
	}
	return nil
}

// parseDescription reads what describe left: one in how many packets is counted, and the layout of a record.
func parseDescription(d *kernelDescription) (sampling uint32, theirs layout, err error) {
	text, _, _ := bytes.Cut(d.Text[:], []byte{0})
	first, rest, _ := strings.Cut(string(text), "\n")
	if _, err := fmt.Sscanf(first, "sampling %d", &sampling); err != nil {
		return 0, nil, fmt.Errorf("read the sampling rate in %q: %w", first, err)
	}
	theirs, err = parseLayout(rest)
	return sampling, theirs, err
}

// Former returns the folders with the maps of other generations: those that a process left which had another layout or size of
// them. No program may count there any more, which is so once all interfaces are attached and Settle was called.
func (d *Datapath) Former() ([]string, error) {
	if d.pins == nil {
		return nil, nil
	}
	list, err := d.pins.setAside()
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list, awaitPrograms()
}

// Inherit passes everything to fn that the maps in one of those folders hold. They stay until DropFormer, so that nothing is
// lost if this process ends before the events are safe. ctx's end before everything was passed on is an error.
func (d *Datapath) Inherit(ctx context.Context, folder string, fn func(*flow.Record)) error {
	if err := inherit(ctx, folder, d.coll.Programs[kernelProgTick], fn); err != nil {
		return fmt.Errorf("take over the maps in %q (weir unpin removes them): %w", folder, err)
	}
	return nil
}

// DropFormer removes maps of which Inherit has passed on everything.
func (d *Datapath) DropFormer(folder string) error {
	if err := d.pins.remove(folder); err != nil {
		return fmt.Errorf("remove the maps that were taken over: %w", err)
	}
	return nil
}

// awaitPrograms returns when every program run has ended that was going on when it was called: the kernel waits for a grace
// period of RCU when a map in a map is replaced, so that who does it knows that the old one is out of use (Linux commit
// 1ae80cf31938). The command of membarrier(2) for it fails where CPUs run without a tick (nohz_full).
func awaitPrograms() error {
	if err := replaceMapInMap(); err != nil {
		return fmt.Errorf("wait for running programs: %w", err)
	}
	return nil
}

func replaceMapInMap() error {
	spec := &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	outer, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: spec})
	if err != nil {
		return err
	}
	defer outer.Close()
	inner, err := ebpf.NewMap(spec)
	if err != nil {
		return err
	}
	defer inner.Close()
	return outer.Put(uint32(0), inner)
}

// former is another generation's maps and how to read them.
type former struct {
	ctx      context.Context
	maps     map[string]*ebpf.Map
	instance uint64 // of the ring of records
	sampling uint32 // one in so many packets was counted
	tick     *ebpf.Program
	theirs   layout // of a record
	ours     layout
	zones    *zones
}

func inherit(ctx context.Context, dir string, tick *ebpf.Program, fn func(*flow.Record)) error {
	found, err := openMaps(dir, formerMaps)
	if err != nil {
		return err
	}
	defer closeMaps(found)
	f := former{ctx: ctx, maps: found, tick: tick, ours: layoutOf(reflect.TypeFor[kernelRecord]())}
	f.zones = &zones{tunnels: found[kernelMapTunnels], known: map[uint16]around{}}
	var d kernelDescription
	if err := found[kernelMapDescription].Lookup(uint32(0), &d); err != nil {
		return fmt.Errorf("read their description: %w", err)
	}
	if f.sampling, f.theirs, err = parseDescription(&d); err != nil {
		return err
	}
	if f.instance, err = instanceOf(found[kernelMapRecords]); err != nil {
		return err
	}
	if err := f.ring(fn); err != nil {
		return err
	}
	return f.entries(fn)
}

// ring passes on the records that nobody has read.
func (f *former) ring(fn func(*flow.Record)) error {
	r, err := newRing(f.maps[kernelMapRecords])
	if err != nil {
		return fmt.Errorf("open their ring of records: %w", err)
	}
	var bad error
	r.read(func(position uintptr, sample []byte) {
		if bad != nil {
			return
		}
		raw := f.convert(sample)
		bad = f.pass(&raw, flow.EventID{Instance: f.instance, Sequence: uint64(position)}, fn)
	})
	return errors.Join(bad, r.close())
}

// entries passes on what the map holds.
func (f *former) entries(fn func(*flow.Record)) error {
	now, err := monotonic()
	if err != nil {
		return err
	}
	tick, err := f.tick.Run(&ebpf.RunOptions{})
	if err != nil {
		return fmt.Errorf("ask for the kernel's tick: %w", err)
	}
	flows := f.maps[kernelMapFlows]
	slots, err := flows.Memory()
	if err != nil {
		return fmt.Errorf("map their entries: %w", err)
	}
	slot := make([]byte, flows.ValueSize())
	count := f.theirs[".Entry.Count.0"]
	if count.size != 8 || count.offset+count.size > uintptr(len(slot)) {
		return errors.New("read their entries: where they count is not known")
	}
	for index := range flows.MaxEntries() {
		if _, err := slots.ReadAt(slot, int64(index)*int64(len(slot))); err != nil {
			return fmt.Errorf("read their entries: %w", err)
		}
		if binary.NativeEndian.Uint64(slot[count.offset:])&live == 0 {
			continue // free
		}
		raw := f.convert(slot) // a record begins as a slot
		for i := range raw.Entry.Half {
			raw.Entry.Half[i].LastNs = lastSeen(&raw.Entry, i, now, tick)
			raw.Entry.Count[i] &^= live
		}
		raw.Handover = uint32(kernelHandoverHANDOVER_ACTIVE)
		if kernelFlowState(raw.Entry.State)&kernelFlowStateSTATE_CLOSED != 0 {
			raw.Handover = uint32(kernelHandoverHANDOVER_CLOSED)
		}
		// Positions in the ring are far smaller than the upper half of the numbers.
		id := flow.EventID{Instance: f.instance, Sequence: uint64(index)<<3 | 1<<63}
		if err := f.pass(&raw, id, fn); err != nil {
			return err
		}
	}
	return nil
}

// lastSeen returns when a direction of an entry was last seen, given what time and tick it is now. bpf/handover.h does the same
// for records.
func lastSeen(e *kernelFlowEntry, end int, now uint64, tick uint32) uint64 {
	half := &e.Half[end]
	if half.Last == half.LastTick {
		return half.LastNs
	}
	return max(half.LastNs, now-uint64(tick-half.Last)*uint64(tickLen()))
}

func monotonic() (uint64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, fmt.Errorf("read the monotonic clock: %w", err)
	}
	return uint64(now.Nano()), nil
}

// convert makes a record of theirs one of ours.
func (f *former) convert(theirs []byte) (raw kernelRecord) {
	convert(unsafe.Slice((*byte)(unsafe.Pointer(&raw)), unsafe.Sizeof(raw)), f.ours, theirs, f.theirs)
	return raw
}

func (f *former) pass(raw *kernelRecord, id flow.EventID, fn func(*flow.Record)) error {
	if err := f.ctx.Err(); err != nil {
		return err
	}
	rec := flow.Record{SamplingRate: f.sampling}
	decodeRecord(raw, &rec)
	where, err := f.zones.resolve(rec.Key.Zone)
	if err != nil {
		return err
	}
	rec.ID, rec.VLAN, rec.Tunnel = id, where.vlan, where.tunnel
	fn(&rec)
	return nil
}
