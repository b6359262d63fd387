package datapath

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"

	"weir/internal/flow"
)

// Sweep walks the map and has every entry handed over that is due at nowNs, which is CLOCK_MONOTONIC's time, or in a replay
// the capture's. It reports false when the ring of records filled before the end: what is left stays in the map; read the
// records and sweep again. Resident is known after a whole walk.
func (d *Datapath) Sweep(nowNs uint64, limits flow.Limits) (flow.Resident, bool, error) {
	if err := d.zones.reclaim(nowNs, max(limits.TCPIdle, limits.OtherIdle)); err != nil {
		return flow.Resident{}, false, err
	}
	resident, whole, err := d.sweep(kernelSweepArgs{
		NowNs:        nowNs,
		TcpIdleNs:    uint64(limits.TCPIdle),
		OtherIdleNs:  uint64(limits.OtherIdle),
		SingleIdleNs: uint64(limits.SingleIdle),
		ActiveNs:     uint64(limits.Active),
		LingerNs:     uint64(limits.Linger),
	})
	if whole {
		d.zones.sweptSince(nowNs)
	}
	return resident, whole, err
}

// SweepOut is Sweep for every entry, due or not.
func (d *Datapath) SweepOut() (flow.Resident, bool, error) {
	return d.sweep(kernelSweepArgs{Shutdown: 1})
}

func (d *Datapath) sweep(args kernelSweepArgs) (flow.Resident, bool, error) {
	d.handover.Lock()
	defer d.handover.Unlock()
	piece := d.coll.Maps[kernelMapSteps].MaxEntries()
	words := d.coll.Maps[kernelMapTags].MaxEntries() * uint32(len(kernelBucket{}.Words))
	args.First = d.sweepFrom
	for range (words + piece - 1) / piece {
		if err := runSyscall(d.coll.Programs[kernelProgSweep], &args); err != nil {
			return flow.Resident{}, false, fmt.Errorf("sweep the flow map: %w", err)
		}
		if args.Stopped != 0 {
			break
		}
		if args.First += piece; args.First >= words {
			args.First = 0
		}
	}
	d.sweepFrom = args.First
	return flow.Resident{
		Flows: args.ResidentFlows, Packets: args.ResidentPackets, Bytes: args.ResidentBytes, DueNs: args.NextDueNs,
	}, args.Stopped == 0, nil
}

// TakeMax is how many connections one Take deals with at the most.
const TakeMax = 1024

// Take has the entries of closed connections handed over, and returns how many of them, from the first on, were dealt
// with: fewer than all if there are more than TakeMax or if the ring of records is full.
func (d *Datapath) Take(closed []flow.Closing) (int, error) {
	d.handover.Lock()
	defer d.handover.Unlock()
	closed = closed[:min(len(closed), TakeMax)]
	if len(closed) == 0 {
		return 0, nil
	}
	index, keys := make([]uint32, len(closed)), make([]kernelFlowKey, len(closed))
	for i := range closed {
		index[i], keys[i] = uint32(i), encodeKey(&closed[i].Key)
	}
	if _, err := d.coll.Maps[kernelMapTaking].BatchUpdate(index, keys, nil); err != nil {
		return 0, fmt.Errorf("name the closed connections: %w", err)
	}
	args := kernelTakeArgs{Count: uint32(len(closed))}
	if err := runSyscall(d.coll.Programs[kernelProgTake], &args); err != nil {
		return 0, fmt.Errorf("take the closed connections: %w", err)
	}
	return int(args.Done), nil
}

// runSyscall runs a syscall program, which reads args and writes its answer there.
func runSyscall[T any](prog *ebpf.Program, args *T) error {
	code, err := prog.Run(&ebpf.RunOptions{Context: args, ContextOut: args})
	if err == nil && code != 0 {
		err = fmt.Errorf("the program returned %d", int32(code))
	}
	return err
}

// ReadRecords passes every record to fn that is in the ring and was not read yet, and returns how many, with those that the
// kernel discarded. The record is only valid during the call. It does not wait for more. Without a folder of pins the ring has
// room for others then, else when they are released.
func (d *Datapath) ReadRecords(fn func(*flow.Record)) (int, error) {
	rec := flow.Record{SamplingRate: d.cfg.Sampling}
	var bad error
	n := d.records.read(func(position uintptr, sample []byte) {
		raw, err := sampleOf[kernelRecord](sample)
		if err != nil {
			bad = err
			return
		}
		decodeRecord(raw, &rec)
		rec.Handshake = nil
		if fits[kernelOpenedRecord](sample) {
			rec.Handshake = decodeHandshake(&(*kernelOpenedRecord)(unsafe.Pointer(raw)).Handshake)
		}
		rec.ID = flow.EventID{Instance: d.instance, Sequence: uint64(position)}
		where, err := d.zones.resolve(rec.Key.Zone)
		if err != nil {
			bad = err
		}
		rec.VLAN, rec.Tunnel = where.vlan, where.tunnel
		fn(&rec)
	})
	if d.pins == nil {
		d.records.consumeAll()
	}
	if bad != nil {
		return n, fmt.Errorf("read the ring of records: %w", bad)
	}
	return n, nil
}

// Release says that every event up to and with the one of this ID is safe: no other process has to make them again.
func (d *Datapath) Release(id flow.EventID) {
	if id.Instance != d.instance {
		return // of a record that was in no ring of ours
	}
	position := uintptr(id.Sequence &^ 1)
	if id.EndsRecord() {
		position = d.records.after(position)
	}
	d.records.consume(position)
}

// ReadClosed passes every closed connection that was announced since the last call to fn.
func (d *Datapath) ReadClosed(fn func(flow.Closing)) error {
	var bad error
	d.closed.read(func(_ uintptr, sample []byte) {
		raw, err := sampleOf[kernelClosing](sample)
		if err != nil {
			bad = err
			return
		}
		fn(flow.Closing{Key: decodeKey(&raw.Key), AtNs: raw.ClosedNs, Reset: raw.Reset != 0})
	})
	d.closed.consumeAll()
	if bad != nil {
		return fmt.Errorf("read the ring of closed connections: %w", bad)
	}
	return nil
}

// sampleOf sees a sample as the kernel's type of it.
func sampleOf[T any](sample []byte) (*T, error) {
	if !fits[T](sample) {
		return nil, fmt.Errorf("a sample of %d bytes, want %d", len(sample), unsafe.Sizeof(*new(T)))
	}
	return (*T)(unsafe.Pointer(unsafe.SliceData(sample))), nil
}

func fits[T any](sample []byte) bool { return len(sample) >= int(unsafe.Sizeof(*new(T))) }
