package datapath

import (
	"slices"
	"testing"

	"weir/internal/flow"
)

// TestNames has a name for each hook and each reason, so that none is missing when the kernel side gains one.
func TestNames(t *testing.T) {
	for hook, name := range hookNames {
		if name == "" || slices.Index(hookNames[:], name) != hook {
			t.Errorf("hook %d has the name %q", hook, name)
		}
	}
	for fate, name := range reasonNames {
		if counted := kernelFate(fate) == kernelFateFATE_COUNTED; counted != (name == "") ||
			slices.Index(reasonNames[:], name) != fate {
			t.Errorf("fate %d has the name %q", fate, name)
		}
	}
}

func TestSumLedger(t *testing.T) {
	var pages [3]kernelLedgerPage
	for cpu := range pages {
		n := uint64(cpu + 1)
		p := &pages[cpu]
		p.Seen[kernelHookHOOK_TC_EGRESS].Packets, p.Seen[kernelHookHOOK_TC_EGRESS].Bytes = n, 100*n
		p.Fates[kernelFateFATE_COUNTED].Packets, p.Fates[kernelFateFATE_COUNTED].Bytes = 2*n, 200*n
		p.Fates[kernelFateFATE_NO_MEMORY].Packets, p.Fates[kernelFateFATE_NO_MEMORY].Bytes = 3*n, 300*n
		p.Exported.Packets, p.Exported.Bytes = 4*n, 400*n
		p.Inserts, p.Deletes, p.ClosedFull, p.RecordsFull = 5*n, 6*n, 7*n, 8*n
		p.Evicted.Packets, p.Evicted.Bytes, p.Evictions = 9*n, 900*n, 10*n
		p.Samples, p.SamplesFull, p.SamplesLimited, p.SamplesForgotten = 11*n, 12*n, 13*n, 14*n
	}
	l := sumLedger(pages[:])
	for _, row := range []struct {
		name      string
		got, want flow.Counter
	}{
		{"seen", l.Seen["tc_egress"], flow.Counter{Packets: 6, Bytes: 600}},
		{"seen elsewhere", l.Seen["xdp_ingress"], flow.Counter{}},
		{"counted", l.Counted, flow.Counter{Packets: 12, Bytes: 1200}},
		{"uncounted", l.Uncounted["no_memory"], flow.Counter{Packets: 18, Bytes: 1800}},
		{"uncounted for another reason", l.Uncounted["not_ip"], flow.Counter{}},
		{"exported", l.Exported, flow.Counter{Packets: 24, Bytes: 2400}},
		{"evicted", l.Evicted, flow.Counter{Packets: 54, Bytes: 5400}},
		{"evictions", flow.Counter{Packets: l.Evictions}, flow.Counter{Packets: 60}},
		{"inserts, deletes", flow.Counter{Packets: l.Inserts, Bytes: l.Deletes}, flow.Counter{Packets: 30, Bytes: 36}},
		{"full rings", flow.Counter{Packets: l.ClosedFull, Bytes: l.RecordsFull}, flow.Counter{Packets: 42, Bytes: 48}},
		{"samples", flow.Counter{Packets: l.Samples}, flow.Counter{Packets: 66}},
		{"samples left out", flow.Counter{Packets: l.SamplesFull, Bytes: l.SamplesLimited}, flow.Counter{Packets: 72, Bytes: 78}},
		{"samples forgotten", flow.Counter{Packets: l.SamplesForgotten}, flow.Counter{Packets: 84}},
	} {
		if row.got != row.want {
			t.Errorf("%s: %+v, want %+v", row.name, row.got, row.want)
		}
	}
	if len(l.Seen) != len(hookNames) || len(l.Uncounted) != len(reasonNames)-1 {
		t.Errorf("%d hooks and %d reasons", len(l.Seen), len(l.Uncounted))
	}
}
