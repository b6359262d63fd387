package datapath

import (
	"net/netip"
	"testing"

	"weir/internal/flow"
)

func TestKeyRoundTrip(t *testing.T) {
	for _, ends := range [][2]string{
		{"10.0.0.1:1", "10.0.0.2:65535"}, {"[fd00::1]:258", "[fd00::2]:0"}, {"0.0.0.0:0", "255.255.255.255:443"},
	} {
		want := flow.Key{
			Ends:     [2]netip.AddrPort{netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1])},
			Protocol: 6, Zone: 7,
		}
		raw := encodeKey(&want)
		if got := decodeKey(&raw); got != want {
			t.Errorf("%+v became %+v", want, got)
		}
	}
}

func TestEndReason(t *testing.T) {
	const (
		closed = kernelFlowStateSTATE_CLOSED
		fin    = closed | kernelFlowStateSTATE_FIN
		rst    = closed | kernelFlowStateSTATE_RST | kernelFlowStateSTATE_FIN_0
	)
	for _, row := range []struct {
		why   kernelHandover
		state kernelFlowState
		want  flow.EndReason
	}{
		{kernelHandoverHANDOVER_IDLE, 0, flow.EndIdle},
		{kernelHandoverHANDOVER_IDLE, kernelFlowStateSTATE_FIN_1, flow.EndIdle},
		{kernelHandoverHANDOVER_ACTIVE, 0, flow.EndActive},
		{kernelHandoverHANDOVER_ACTIVE, rst, flow.EndActive},
		{kernelHandoverHANDOVER_CLOSED, fin, flow.EndFIN},
		{kernelHandoverHANDOVER_CLOSED, rst, flow.EndRST},
		{kernelHandoverHANDOVER_SHUTDOWN, 0, flow.EndShutdown},
		{kernelHandoverHANDOVER_SHUTDOWN, fin, flow.EndFIN},
		{kernelHandoverHANDOVER_SHUTDOWN, rst, flow.EndRST},
	} {
		if got := endReason(row.why, row.state); got != row.want {
			t.Errorf("handed over for %d in state %#x: %s, want %s", row.why, row.state, got, row.want)
		}
	}
}

func TestFirstNeverAfterLast(t *testing.T) {
	for _, row := range []struct{ first, last, want uint64 }{{5, 9, 5}, {9, 9, 9}, {9, 5, 5}, {0, 5, 5}, {0, 0, 0}} {
		var raw kernelRecord
		raw.Entry.Half[1].FirstNs, raw.Entry.Half[1].LastNs = row.first, row.last
		var r flow.Record
		decodeRecord(&raw, &r)
		if got := r.Halves[1].FirstNs; got != row.want {
			t.Errorf("from %d to %d: first at %d, want %d", row.first, row.last, got, row.want)
		}
	}
}
