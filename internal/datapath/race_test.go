package datapath

import (
	"sync/atomic"
	"testing"
	"time"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// hammer sends frames of a few flows into XDP on a veth while sweeps hand their entries over as fast as they can.
func hammer(t *testing.T, k kernel, limits flow.Limits) (sent flow.Counter) {
	t.Helper()
	out, in := veth(t)
	k.attach(t, in, IngressXDP)
	var done atomic.Bool
	swept := make(chan error, 1)
	go func() {
		for {
			last := done.Load()
			if _, _, err := k.Sweep(limits); err != nil {
				swept <- err
				return
			}
			if _, err := k.ReadRecords(func(*flow.Record) {}); err != nil || last {
				swept <- err
				return
			}
		}
	}()
	generator := testnet.NewGenerator(t, out, testnet.Flows{Number: 16})
	generator.Send(t, 5_000_000)
	done.Store(true)
	if err := <-swept; err != nil {
		t.Fatal(err)
	}
	sent.Packets, sent.Bytes = generator.Sent()
	return sent
}

// TestInterimHandoverLosesNothing exchanges the counters of busy entries.
func TestInterimHandoverLosesNothing(t *testing.T) {
	k := newKernel(t, 1024)
	sent := hammer(t, k, flow.Limits{TCPIdle: time.Hour, OtherIdle: time.Hour})
	_, resident := k.records(t, k.SweepOut)
	l := k.ledger(t)
	if l.Counted != sent || l.Exported != l.Counted || resident != (flow.Resident{}) {
		t.Errorf("sent %+v, counted %+v, exported %+v, left %+v", sent, l.Counted, l.Exported, resident)
	}
}

// TestDeletingBusyEntries deletes entries under packets, as an idle time of 0 does. A packet that meets a deletion is
// a reason in the ledger: none is lost in silence. The bytes of a packet that was interrupted between its two adds can
// be; the log says how many.
func TestDeletingBusyEntries(t *testing.T) {
	k := newKernel(t, 1024)
	sent := hammer(t, k, flow.Limits{})
	_, resident := k.records(t, k.SweepOut)
	l := k.ledger(t)
	if l.Seen["xdp_ingress"] != sent {
		t.Errorf("seen %+v, want %+v", l.Seen["xdp_ingress"], sent)
	}
	expiring := l.Uncounted["expiring"]
	if got := l.Counted.Packets + expiring.Packets; got != sent.Packets {
		t.Errorf("counted %+v and met a deletion %+v, together %d, want %d", l.Counted, expiring, got, sent.Packets)
	}
	if l.Exported.Packets != l.Counted.Packets || resident != (flow.Resident{}) {
		t.Errorf("counted %+v, exported %+v, left %+v", l.Counted, l.Exported, resident)
	}
	t.Logf("%d packets, %d deletes: %d met one, %d bytes astray",
		sent.Packets, l.Deletes, expiring.Packets, l.Counted.Bytes-l.Exported.Bytes)
}
