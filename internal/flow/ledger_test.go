package flow

import "testing"

// books is a ledger in which as many packets as inserts were counted unless said otherwise.
func books(inserts, deletes, counted, exported uint64) *Ledger {
	return &Ledger{
		Inserts: inserts, Deletes: deletes,
		Counted:  Counter{Packets: counted, Bytes: 100 * counted},
		Exported: Counter{Packets: exported, Bytes: 100 * exported},
	}
}

func resident(flows, packets uint64) Resident {
	return Resident{Flows: flows, Packets: packets, Bytes: 100 * packets}
}

// walk is one sweep: the books before and after, and what stayed.
type walk struct {
	before, after *Ledger
	resident      Resident
}

// TestAuditOfBytes finds bytes astray whose packets are not.
func TestAuditOfBytes(t *testing.T) {
	var a Audit
	for range 2 {
		a.Update(books(5, 5, 50, 50), books(5, 5, 50, 50), Resident{Bytes: 7})
	}
	if a.UnaccountedPackets != 0 || a.UnaccountedBytes != -7 {
		t.Errorf("unaccounted %d packets, %d bytes, want 0 and -7", a.UnaccountedPackets, a.UnaccountedBytes)
	}
}

func TestAudit(t *testing.T) {
	quiet := func(inserts, deletes, counted, exported, flows, packets uint64) walk {
		l := books(inserts, deletes, counted, exported)
		return walk{l, l, resident(flows, packets)}
	}
	for _, row := range []struct {
		name           string
		walks          []walk
		evictedFlows   uint64
		evictedPackets uint64
		unaccounted    int64
	}{
		{"nothing yet", []walk{quiet(0, 0, 0, 0, 0, 0)}, 0, 0, 0},
		{"all resident", []walk{quiet(5, 0, 50, 0, 5, 50)}, 0, 0, 0},
		{"some handed over", []walk{quiet(5, 2, 50, 20, 3, 30)}, 0, 0, 0},
		{"some evicted", []walk{quiet(5, 1, 50, 10, 2, 20)}, 2, 20, 0},
		{"packets lost, perhaps", []walk{quiet(5, 2, 50, 20, 3, 29)}, 0, 0, 0},
		{"packets lost", []walk{quiet(5, 2, 50, 20, 3, 29), quiet(5, 2, 50, 20, 3, 29)}, 0, 0, 1},
		{"packets made up", []walk{quiet(5, 2, 50, 20, 3, 31), quiet(5, 2, 50, 20, 3, 31)}, 0, 0, -1},
		{"packets made up beside evictions", []walk{quiet(5, 1, 50, 10, 2, 41), quiet(5, 1, 50, 10, 2, 41)}, 2, 0, -1},
		{
			"packets found again",
			[]walk{quiet(5, 2, 50, 20, 3, 29), quiet(5, 2, 50, 20, 3, 29), quiet(5, 2, 50, 20, 3, 30)},
			0, 0, 0,
		},
		{
			"flows and packets came during the walk and were met",
			[]walk{{books(5, 0, 50, 0), books(7, 0, 60, 0), resident(7, 60)}},
			0, 0, 0,
		},
		{
			"flows and packets came during the walk, behind it",
			[]walk{{books(5, 0, 50, 0), books(7, 0, 60, 0), resident(5, 50)}},
			0, 0, 0,
		},
		{
			"less than was there before the walk, once: it may be the first eviction",
			[]walk{{books(5, 0, 50, 0), books(7, 0, 60, 0), resident(5, 45)}},
			0, 0, 0,
		},
		{
			"less than was there before the walk, twice",
			[]walk{
				{books(5, 0, 50, 0), books(7, 0, 60, 0), resident(5, 45)},
				{books(7, 0, 60, 0), books(8, 0, 61, 0), resident(7, 55)},
			},
			0, 0, 5,
		},
		{
			"less than was there before the walk, then an eviction",
			[]walk{
				{books(5, 0, 50, 0), books(7, 0, 60, 0), resident(5, 45)},
				{books(7, 0, 60, 0), books(8, 0, 61, 0), resident(6, 55)},
			},
			1, 5, 0,
		},
		{
			"evictions do not go back",
			[]walk{
				quiet(5, 1, 50, 10, 2, 20),
				{books(5, 1, 50, 10), books(9, 1, 90, 10), resident(6, 60)},
			},
			2, 20, 0,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			var a Audit
			for _, w := range row.walks {
				a.Update(w.before, w.after, w.resident)
			}
			last := row.walks[len(row.walks)-1]
			if a.Resident != last.resident {
				t.Errorf("resident %+v, want %+v", a.Resident, last.resident)
			}
			if a.EvictedFlows != row.evictedFlows {
				t.Errorf("evicted %d flows, want %d", a.EvictedFlows, row.evictedFlows)
			}
			if want := (Counter{row.evictedPackets, 100 * row.evictedPackets}); a.Evicted != want {
				t.Errorf("evicted %+v, want %+v", a.Evicted, want)
			}
			if a.UnaccountedPackets != row.unaccounted || a.UnaccountedBytes != 100*row.unaccounted {
				t.Errorf("unaccounted %d packets, %d bytes, want %d and %d",
					a.UnaccountedPackets, a.UnaccountedBytes, row.unaccounted, 100*row.unaccounted)
			}
		})
	}
}

// TestOccupied counts what the map holds, and no less than nothing.
func TestOccupied(t *testing.T) {
	audit := Audit{EvictedFlows: 10}
	for _, row := range []struct{ inserts, deletes, want uint64 }{{100, 60, 30}, {70, 60, 0}, {69, 60, 0}} {
		if got := audit.Occupied(&Ledger{Inserts: row.inserts, Deletes: row.deletes}); got != row.want {
			t.Errorf("%d made and %d handed over: %d, want %d", row.inserts, row.deletes, got, row.want)
		}
	}
}
