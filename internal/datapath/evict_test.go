package datapath

import (
	"testing"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// TestEviction sends one packet in each of more flows than the map can hold: every packet is handed over or evicted,
// and the evicted flows, counted on their own, are as many as the packets that went with them.
func TestEviction(t *testing.T) {
	const flows, capacity = 1 << 16, 4096
	k := newKernel(t, capacity)
	out, in := veth(t)
	k.attach(t, in, IngressXDP)
	generator := testnet.NewGenerator(t, out, testnet.Flows{Number: flows})
	generator.Send(t, flows)

	evicted := k.ledger(t)
	records, _ := k.records(t, k.SweepOut)
	l := k.ledger(t)
	if l.Inserts != flows || l.Counted.Packets != flows {
		t.Errorf("%d inserts, %d packets counted, want %d", l.Inserts, l.Counted.Packets, flows)
	}
	if n := len(records); n < capacity || n > int(bucketsFor(capacity)*bucketSlots) {
		t.Errorf("%d records from a map of %d", n, capacity)
	}
	if got := uint64(len(records)) + l.Evictions; got != flows || l.Deletes != uint64(len(records)) {
		t.Errorf("%d deletes, %d handed over and %d evicted, together %d, want %d", l.Deletes, len(records), l.Evictions, got, flows)
	}
	if l.Evicted != evicted.Evicted || l.Evicted.Packets != l.Evictions {
		t.Errorf("evicted %d flows with %+v, and before the sweep %+v", l.Evictions, l.Evicted, evicted.Evicted)
	}
	_, bytes := generator.Sent()
	if got := l.Exported.Bytes + l.Evicted.Bytes; got != bytes {
		t.Errorf("%d bytes exported or evicted, want %d", got, bytes)
	}
}

// TestFullRing hands over more than the ring of records holds: nothing is lost, it only takes several walks.
func TestFullRing(t *testing.T) {
	const flows = 1 << 17 // the ring has room for some 58,000
	k := newKernel(t, 2*flows)
	out, in := veth(t)
	k.attach(t, in, IngressXDP)
	testnet.NewGenerator(t, out, testnet.Flows{Number: flows}).Send(t, flows)

	records, resident := k.records(t, k.SweepOut)
	l := k.ledger(t)
	if len(records) != flows || resident != (flow.Resident{}) || l.Exported.Packets != flows {
		t.Errorf("%d records, %+v left, %d packets exported, want %d, none, %d",
			len(records), resident, l.Exported.Packets, flows, flows)
	}
	if l.RecordsFull == 0 {
		t.Error("the ring never filled: the test shows nothing")
	}
	seen := map[flow.Key]bool{}
	for _, r := range records {
		seen[r.Key] = true
	}
	if len(seen) != flows {
		t.Errorf("%d different connections, want %d", len(seen), flows)
	}
}
