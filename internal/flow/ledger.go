package flow

// Counter is a number of packets and of their layer 2 bytes.
type Counter struct {
	Packets uint64
	Bytes   uint64
}

// Ledger is what became of every packet since the kernel side was loaded, over all CPUs. At any quiet moment
// Σ Seen = Counted + Σ Uncounted, and Counted = Exported + what is in the map + what the map evicted.
type Ledger struct {
	Seen        map[string]Counter // by hook
	Uncounted   map[string]Counter // by reason
	Counted     Counter
	Exported    Counter // handed over as records
	Inserts     uint64  // entries made
	Deletes     uint64  // entries handed over for good
	ClosedFull  uint64  // closed connections not announced, the ring being full: the sweep takes them
	RecordsFull uint64  // hand-overs put off, the ring being full
}

// Resident is what a walk of the map found to stay there.
type Resident struct {
	Flows   uint64 // connections
	Packets uint64 // counted and not yet handed over
	Bytes   uint64
}

// Audit is the proof that no packet was lost, as of the last whole walk of the map.
type Audit struct {
	Resident Resident

	// What the map evicted to make room. The flows are counted on their own, as inserts - deletes - resident; the
	// packets and bytes are then what they took with them: counted - exported - resident.
	EvictedFlows uint64
	Evicted      Counter

	// Unaccounted is counted - exported - resident while nothing was evicted. It must be 0.
	Unaccounted int64

	suspected bool
}

// Update audits the books after a walk of the map that found resident. The ledger was read before the walk and after
// it. Packets that came in between are on one side only, so each sum is known to lie between two bounds; Update claims
// what both bounds support. When it is quiet the bounds meet, and the audit is exact.
func (a *Audit) Update(before, after *Ledger, resident Resident) {
	a.Resident = resident
	gone := int64(after.Deletes) + int64(resident.Flows)
	evictedAtLeast, evictedAtMost := int64(before.Inserts)-gone, int64(after.Inserts)-gone
	missing := within(before.Counted.Packets, after.Counted.Packets, after.Exported.Packets+resident.Packets)
	missingBytes := within(before.Counted.Bytes, after.Counted.Bytes, after.Exported.Bytes+resident.Bytes)

	a.EvictedFlows = max(a.EvictedFlows, uint64(max(evictedAtLeast, 0)))
	switch {
	case a.EvictedFlows > 0:
		a.Evicted.Packets = max(a.Evicted.Packets, uint64(max(missing, 0)))
		a.Evicted.Bytes = max(a.Evicted.Bytes, uint64(max(missingBytes, 0)))
		a.Unaccounted = min(missing, 0) // handed over more than was counted
	case evictedAtMost <= 0 || a.suspected:
		a.Unaccounted = missing
	}
	// The first evictions can hide behind the inserts of the same moment: that is only held against the books if the
	// next audit finds no evictions either.
	a.suspected = missing != 0
}

// within returns how far found lies outside what was counted before and after: 0 if it is between the two, positive if
// something is missing, negative if there is too much.
func within(before, after, found uint64) int64 {
	switch {
	case found < before:
		return int64(before - found)
	case found > after:
		return -int64(found - after)
	default:
		return 0
	}
}
