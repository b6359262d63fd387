package datapath

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"weir/internal/flow"
	"weir/internal/testnet"
)

const held = uint32(kernelFlowStateSTATE_HELD)

// setState writes the state of the entry of from(port), as a program would that is in the middle of something.
func (k kernel) setState(t *testing.T, port uint16, state uint32) {
	t.Helper()
	found := false
	k.eachSlot(t, func(index uint32, slot *kernelFlowSlot) {
		if swapPort(slot.Key.Port[0]) != 1000+port || slot.Entry.Count[0]&live == 0 {
			return
		}
		found = true
		slot.Entry.State = state
		if err := k.coll.Maps[kernelMapFlows].Update(index, slot, 0); err != nil {
			t.Fatal(err)
		}
	})
	if !found {
		t.Fatalf("no entry of port %d", port)
	}
}

// checkLetGo wants no slot to be held.
func (k kernel) checkLetGo(t *testing.T) {
	t.Helper()
	k.eachSlot(t, func(index uint32, slot *kernelFlowSlot) {
		if slot.Entry.State&held != 0 {
			t.Errorf("slot %d is held: %+v", index, slot)
		}
	})
}

// TestHeldEntry has an entry held in a full table: it counts, but it is neither evicted, though it is the only lone packet, nor
// handed over before it is let go.
func TestHeldEntry(t *testing.T) {
	const slots, lone = int(bucketSlots), 3
	k := newKernel(t, bucketSlots*4/5)
	send := func(port int) { k.run(t, kernelProgXdpIngress, from(port), nil) }
	for port := range slots {
		send(port)
		if port != lone {
			send(port)
		}
	}
	k.setState(t, lone, held)
	send(slots)
	if l := k.ledger(t); l.Evictions != 1 || l.Evicted.Packets != 2 {
		t.Errorf("%d evictions took %d packets, want one of 2", l.Evictions, l.Evicted.Packets)
	}
	send(lone)
	records, _ := k.records(t, k.SweepOut)
	if len(records) != slots-1 {
		t.Errorf("%d records beside an entry that is held, want %d", len(records), slots-1)
	}
	k.setState(t, lone, 0)
	records, _ = k.records(t, k.SweepOut)
	if len(records) != 1 || records[0].Halves[0].Packets != 2 {
		t.Errorf("%+v of the entry that was let go, want a record of 2 packets", records)
	}
	k.checkLetGo(t)
}

// TestHandoverUnderEviction hands over parts of entries in a table of one bucket, while two CPUs evict one after the other.
func TestHandoverUnderEviction(t *testing.T) {
	k := newKernel(t, bucketSlots*3/4)
	var generators []*testnet.Generator
	for cpu, src := range []string{"10.1.1.1", "240.2.2.1"} {
		out, in := veth(t)
		k.attach(t, in, IngressXDP)
		flows := testnet.Flows{Number: 1024, CPU: cpu, Src: netip.MustParseAddr(src)}
		generators = append(generators, testnet.NewGenerator(t, out, flows))
	}
	active := flow.Limits{TCPIdle: time.Hour, OtherIdle: time.Hour, Active: time.Nanosecond}
	sweepWhile(t, k, active, func() {
		var sending sync.WaitGroup
		for _, g := range generators {
			sending.Go(func() { g.Send(t, 200_000) })
		}
		sending.Wait()
	})
	k.records(t, k.SweepOut)
	l := k.ledger(t)
	left := flow.Counter{
		Packets: l.Counted.Packets - l.Exported.Packets - l.Evicted.Packets,
		Bytes:   l.Counted.Bytes - l.Exported.Bytes - l.Evicted.Bytes,
	}
	if left != (flow.Counter{}) || l.Exported.Packets == 0 || l.Evictions == 0 {
		t.Errorf("%+v handed over, %+v evicted of %+v", l.Exported, l.Evicted, l.Counted)
	}
	k.checkLetGo(t)
}
