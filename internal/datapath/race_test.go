package datapath

import (
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// sweepWhile hands entries over, as fast as it can, until send returns.
func sweepWhile(t *testing.T, k kernel, limits flow.Limits, send func()) {
	t.Helper()
	var done atomic.Bool
	swept := make(chan error, 1)
	go func() {
		for {
			last := done.Load()
			if _, _, err := k.Sweep(now(), limits); err != nil {
				swept <- err
				return
			}
			if _, err := k.ReadRecords(func(*flow.Record) {}); err != nil || last {
				swept <- err
				return
			}
		}
	}()
	send()
	done.Store(true)
	if err := <-swept; err != nil {
		t.Fatal(err)
	}
}

// hammer sends frames of a few flows into XDP on a veth pair per CPU, while sweeps hand their entries over as fast as they
// can.
func hammer(t *testing.T, k kernel, limits flow.Limits) (sent flow.Counter) {
	t.Helper()
	var generators []*testnet.Generator
	for cpu := range min(2, runtime.NumCPU()) {
		out, in := veth(t)
		k.attach(t, in, IngressXDP)
		src := netip.AddrFrom4([4]byte{10, 0, byte(cpu), 1})
		generators = append(generators, testnet.NewGenerator(t, out, testnet.Flows{Number: 16, Src: src, CPU: cpu}))
	}
	sweepWhile(t, k, limits, func() {
		var sending sync.WaitGroup
		for _, g := range generators {
			sending.Go(func() { g.Send(t, 3_000_000) })
		}
		sending.Wait()
	})
	for _, g := range generators {
		packets, bytes := g.Sent()
		sent.Packets += packets
		sent.Bytes += bytes
	}
	return sent
}

// TestInterimHandoverLosesNothing exchanges the counters of busy entries, over and over: afterwards none is forgotten.
func TestInterimHandoverLosesNothing(t *testing.T) {
	k := newKernel(t, 1024)
	active := flow.Limits{TCPIdle: time.Hour, OtherIdle: time.Hour, Active: time.Nanosecond}
	sent := hammer(t, k, active)
	if _, resident := k.records(t, func() (flow.Resident, bool, error) { return k.Sweep(now(), active) }); resident.Packets != 0 {
		t.Errorf("%+v are left behind by a sweep for which they are due", resident)
	}
	_, resident := k.records(t, k.SweepOut)
	l := k.ledger(t)
	if l.Counted != sent || l.Exported != l.Counted || resident != (flow.Resident{}) {
		t.Errorf("sent %+v, counted %+v, exported %+v, left %+v", sent, l.Counted, l.Exported, resident)
	}
}

// TestDeletingBusyEntries deletes entries under packets, as an idle time of 0 does. A packet that meets a deletion is
// a reason in the ledger: none is lost in silence, and no byte of it.
func TestDeletingBusyEntries(t *testing.T) {
	k := newKernel(t, 1024)
	sent := hammer(t, k, flow.Limits{})
	_, resident := k.records(t, k.SweepOut)
	l := k.ledger(t)
	if l.Seen["xdp_ingress"] != sent {
		t.Errorf("seen %+v, want %+v", l.Seen["xdp_ingress"], sent)
	}
	expiring := l.Uncounted["expiring"]
	fates := flow.Counter{Packets: l.Counted.Packets + expiring.Packets, Bytes: l.Counted.Bytes + expiring.Bytes}
	if fates != sent {
		t.Errorf("counted %+v and met a deletion %+v, together %+v, want %+v", l.Counted, expiring, fates, sent)
	}
	if l.Exported != l.Counted || resident != (flow.Resident{}) {
		t.Errorf("counted %+v, exported %+v, left %+v", l.Counted, l.Exported, resident)
	}
	t.Logf("%d packets, %d deletes: %d met one", sent.Packets, l.Deletes, expiring.Packets)
}
