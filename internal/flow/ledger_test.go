package flow

import "testing"

// books is a ledger of packets of 100 bytes.
func books(counted, exported, evicted uint64) *Ledger {
	of := func(packets uint64) Counter { return Counter{Packets: packets, Bytes: 100 * packets} }
	return &Ledger{Counted: of(counted), Exported: of(exported), Evicted: of(evicted)}
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
		a.Update(books(50, 50, 0), books(50, 50, 0), Resident{Bytes: 7})
	}
	if a.UnaccountedPackets != 0 || a.UnaccountedBytes != -7 {
		t.Errorf("unaccounted %d packets, %d bytes, want 0 and -7", a.UnaccountedPackets, a.UnaccountedBytes)
	}
}

func TestAudit(t *testing.T) {
	quiet := func(counted, exported, evicted, packets uint64) walk {
		l := books(counted, exported, evicted)
		return walk{l, l, resident(3, packets)}
	}
	for _, row := range []struct {
		name        string
		walks       []walk
		unaccounted int64
	}{
		{"nothing yet", []walk{quiet(0, 0, 0, 0)}, 0},
		{"all resident", []walk{quiet(50, 0, 0, 50), quiet(50, 0, 0, 50)}, 0},
		{"some handed over", []walk{quiet(50, 20, 0, 30), quiet(50, 20, 0, 30)}, 0},
		{"some evicted", []walk{quiet(50, 10, 20, 20), quiet(50, 10, 20, 20)}, 0},
		{"packets lost, perhaps", []walk{quiet(50, 20, 0, 29)}, 0},
		{"packets lost", []walk{quiet(50, 20, 0, 29), quiet(50, 20, 0, 29)}, 1},
		{"packets lost beside evictions", []walk{quiet(50, 10, 20, 19), quiet(50, 10, 20, 19)}, 1},
		{"packets made up", []walk{quiet(50, 20, 0, 31), quiet(50, 20, 0, 31)}, -1},
		{"packets made up beside evictions", []walk{quiet(50, 10, 20, 21), quiet(50, 10, 20, 21)}, -1},
		{"packets found again", []walk{quiet(50, 20, 0, 29), quiet(50, 20, 0, 29), quiet(50, 20, 0, 30)}, 0},
	} {
		t.Run(row.name, func(t *testing.T) { checkAudit(t, row.walks, row.unaccounted) })
	}
}

// TestAuditUnderTraffic has packets come, and entries go, during the walk: twice each, for once is never held against the books.
func TestAuditUnderTraffic(t *testing.T) {
	for _, row := range []struct {
		name        string
		walk        walk
		unaccounted int64
	}{
		{"packets were met", walk{books(50, 0, 0), books(60, 0, 0), resident(7, 60)}, 0},
		{"packets came behind the walk", walk{books(50, 0, 0), books(60, 0, 0), resident(5, 50)}, 0},
		{"less than was there before", walk{books(50, 0, 0), books(60, 0, 0), resident(5, 45)}, 5},
		{"more than there is now", walk{books(50, 0, 0), books(60, 0, 0), resident(5, 65)}, -5},
		{"evicted before it was met", walk{books(50, 0, 0), books(60, 0, 10), resident(4, 40)}, 0},
		{"evicted after it was met", walk{books(50, 0, 0), books(60, 0, 10), resident(4, 60)}, 0},
		{"less than what evictions explain", walk{books(50, 0, 0), books(60, 0, 10), resident(4, 39)}, 1},
		{"more than what evictions explain", walk{books(50, 0, 10), books(60, 0, 20), resident(4, 51)}, -1},
	} {
		t.Run(row.name, func(t *testing.T) { checkAudit(t, []walk{row.walk, row.walk}, row.unaccounted) })
	}
}

func checkAudit(t *testing.T, walks []walk, unaccounted int64) {
	t.Helper()
	var a Audit
	for _, w := range walks {
		a.Update(w.before, w.after, w.resident)
	}
	if last := walks[len(walks)-1]; a.Resident != last.resident {
		t.Errorf("resident %+v, want %+v", a.Resident, last.resident)
	}
	if a.UnaccountedPackets != unaccounted || a.UnaccountedBytes != 100*unaccounted {
		t.Errorf("unaccounted %d packets, %d bytes, want %d and %d",
			a.UnaccountedPackets, a.UnaccountedBytes, unaccounted, 100*unaccounted)
	}
}

// TestOccupied counts what the map holds, and no less than nothing.
func TestOccupied(t *testing.T) {
	for _, row := range []struct{ inserts, deletes, want uint64 }{{100, 60, 30}, {70, 60, 0}, {69, 60, 0}} {
		l := Ledger{Inserts: row.inserts, Deletes: row.deletes, Evictions: 10}
		if got := l.Occupied(); got != row.want {
			t.Errorf("%d made and %d handed over: %d, want %d", row.inserts, row.deletes, got, row.want)
		}
	}
}
