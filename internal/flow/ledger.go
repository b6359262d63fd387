package flow

// Counter is a number of packets and of their layer 2 bytes.
type Counter struct {
	Packets uint64
	Bytes   uint64
}

// Ledger is what became of every packet since the kernel side was loaded, over all CPUs. At any quiet moment
// Σ Seen = Counted + Σ Uncounted, and Counted = Exported + Evicted + what is in the map; and as many entries are in the map as
// Inserts − Deletes − Evictions.
type Ledger struct {
	Seen        map[string]Counter // by hook
	Uncounted   map[string]Counter // by reason
	Counted     Counter
	Exported    Counter // handed over as records
	Evicted     Counter // taken along by the entries that were evicted
	Inserts     uint64  // entries made
	Deletes     uint64  // entries handed over for good
	Evictions   uint64  // entries that made room for others when the map was full
	ClosedFull  uint64  // closed connections not announced, the ring being full: the sweep takes them
	RecordsFull uint64  // hand-overs put off, the ring being full
	Unopened    uint64  // packets counted in the flow of their tunnel, though what is in such tunnels is counted

	Samples          uint64 // copied for fingerprints
	SamplesLimited   uint64 // left out, there being more at a time than the limit
	SamplesFull      uint64 // left out, the ring being full
	SamplesForgotten uint64 // of SSH connections: their lengths made room for those of others
}

// Occupied returns how many connections the map held when the ledger was read.
func (l *Ledger) Occupied() uint64 {
	return l.Inserts - min(l.Inserts, l.Deletes+l.Evictions) // a delete can be read without its insert
}

// Resident is what a walk of the map found to stay there.
type Resident struct {
	Flows   uint64 // connections
	Packets uint64 // counted and not yet handed over
	Bytes   uint64
	DueNs   uint64 // when the first of them is due, by the clock of the packets, if no more come; 0 if there are none
}

// Audit is the proof that no packet was lost, as of the last whole walk of the map.
type Audit struct {
	Resident Resident

	// What was counted and neither exported, nor resident, nor evicted, negative if there is too much. It must be 0.
	UnaccountedPackets, UnaccountedBytes int64

	suspected bool // the last audit did not come out even
}

// Update audits the books after a walk of the map that found resident. The ledger was read before the walk and after
// it. Packets that came in between are on one side only, and entries that were evicted in between can be on both, so each sum
// is known to lie between two bounds; Update claims what both bounds support. When it is quiet the bounds meet, and the audit is
// exact.
//
// A CPU that is stopped between an entry and the ledger can make one audit come out uneven: only two in a row are held against
// the books.
func (a *Audit) Update(before, after *Ledger, resident Resident) {
	packets := missing(before.Counted.Packets, after.Counted.Packets, after.Exported.Packets+resident.Packets,
		before.Evicted.Packets, after.Evicted.Packets)
	bytes := missing(before.Counted.Bytes, after.Counted.Bytes, after.Exported.Bytes+resident.Bytes,
		before.Evicted.Bytes, after.Evicted.Bytes)

	a.Resident = resident
	uneven := packets != 0 || bytes != 0
	a.UnaccountedPackets, a.UnaccountedBytes = 0, 0
	if uneven && a.suspected {
		a.UnaccountedPackets, a.UnaccountedBytes = packets, bytes
	}
	a.suspected = uneven
}

// missing returns how far found and what was evicted before and after lie outside what was counted before and after: 0 if they
// can be the same, positive if something is missing, negative if there is too much.
func missing(counted, countedAfter, found, evicted, evictedAfter uint64) int64 {
	switch {
	case found+evictedAfter < counted:
		return int64(counted - found - evictedAfter)
	case found+evicted > countedAfter:
		return -int64(found + evicted - countedAfter)
	default:
		return 0
	}
}
