package datapath

import (
	"fmt"

	"weir/internal/flow"
)

// hookNames and reasonNames are the names that metrics carry. The fate "counted" is no reason.
var (
	hookNames = [kernelHookHOOKS]string{
		kernelHookHOOK_XDP_INGRESS: "xdp_ingress",
		kernelHookHOOK_TC_INGRESS:  "tc_ingress",
		kernelHookHOOK_TC_EGRESS:   "tc_egress",
	}
	reasonNames = [kernelFateFATES]string{
		kernelFateFATE_FILTERED:    "filtered",
		kernelFateFATE_NOT_IP:      "not_ip",
		kernelFateFATE_TRUNCATED:   "truncated",
		kernelFateFATE_MALFORMED:   "malformed",
		kernelFateFATE_UNSUPPORTED: "unsupported",
		kernelFateFATE_NOT_SAMPLED: "not_sampled",
		kernelFateFATE_DUPLICATE:   "duplicate",
		kernelFateFATE_NO_MEMORY:   "no_memory",
		kernelFateFATE_EXPIRING:    "expiring",
	}
)

// Ledger reads the kernel's counters. CPUs go on counting meanwhile, so under traffic the sums hold to within the
// packets of that moment.
func (d *Datapath) Ledger() (flow.Ledger, error) {
	var pages []kernelLedgerPage
	if err := d.coll.Maps[kernelMapLedger].Lookup(uint32(0), &pages); err != nil {
		return flow.Ledger{}, fmt.Errorf("read the ledger: %w", err)
	}
	return sumLedger(pages), nil
}

func sumLedger(pages []kernelLedgerPage) flow.Ledger {
	var (
		l     flow.Ledger
		seen  [len(hookNames)]flow.Counter
		fates [len(reasonNames)]flow.Counter
	)
	for i := range pages {
		p := &pages[i]
		for hook := range seen {
			add(&seen[hook], p.Seen[hook].Packets, p.Seen[hook].Bytes)
		}
		for fate := range fates {
			add(&fates[fate], p.Fates[fate].Packets, p.Fates[fate].Bytes)
		}
		add(&l.Exported, p.Exported.Packets, p.Exported.Bytes)
		add(&l.Evicted, p.Evicted.Packets, p.Evicted.Bytes)
		l.Inserts += p.Inserts
		l.Deletes += p.Deletes
		l.Evictions += p.Evictions
		l.ClosedFull += p.ClosedFull
		l.RecordsFull += p.RecordsFull
		l.Unopened += p.Unopened
		l.Samples += p.Samples
		l.SamplesLimited += p.SamplesLimited
		l.SamplesFull += p.SamplesFull
		l.SamplesForgotten += p.SamplesForgotten
	}
	l.Counted = fates[kernelFateFATE_COUNTED]
	l.Seen = make(map[string]flow.Counter, len(seen))
	for hook, c := range seen {
		l.Seen[hookNames[hook]] = c
	}
	l.Uncounted = make(map[string]flow.Counter, len(fates)-1)
	for fate, c := range fates {
		if kernelFate(fate) != kernelFateFATE_COUNTED {
			l.Uncounted[reasonNames[fate]] = c
		}
	}
	return l
}

func add(c *flow.Counter, packets, bytes uint64) {
	c.Packets += packets
	c.Bytes += bytes
}
