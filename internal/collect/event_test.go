package collect

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"weir/internal/flow"
)

var (
	remote      = netip.MustParseAddr("192.0.2.7")
	outerLocal  = netip.MustParseAddr("198.51.100.1")
	outerRemote = netip.MustParseAddr("198.51.100.2")
)

// record is a UDP connection of one packet from the local host, which opened it.
func record(port uint16) flow.Record {
	return flow.Record{
		ID: flow.EventID{Instance: 4711, Sequence: 160},
		Key: flow.Key{
			Ends:     [2]netip.AddrPort{netip.AddrPortFrom(local, port), netip.AddrPortFrom(remote, 53)},
			Protocol: 17,
			Zone:     4711, // says nothing to the collector
		},
		VLAN:   7,
		Tunnel: &flow.Tunnel{Kind: flow.TunnelVXLAN, ID: 9, Ends: [2]netip.Addr{outerLocal, outerRemote}},
		Halves: [2]flow.Half{{
			Packets: 1, Bytes: 100, IfIndex: 3,
			FirstNs: uint64(time.Hour), LastNs: uint64(time.Hour),
		}},
		Initiator: flow.InitiatorEnd0,

		SamplingRate: 3,
	}
}

// answered is record with an answer of two packets, a second later, that came by another interface.
func answered(port uint16) flow.Record {
	r := record(port)
	r.Halves[1] = flow.Half{
		Packets: 2, Bytes: 300, IfIndex: 4, TCPFlags: 0x12,
		FirstNs: uint64(time.Hour + time.Second), LastNs: uint64(time.Hour + 3*time.Second),
	}
	r.EndReason = flow.EndFIN
	return r
}

// events passes one record through a collector, at 30 s past the hour of the monotonic clock.
func events(t *testing.T, connections bool, r flow.Record) (got []flow.Event, start time.Time) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{Connections: connections, Hostname: "node-1"})
		start = time.Now()
		time.Sleep(30 * time.Second)
		f.kernel.due = []flow.Record{r}
		if err := f.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		got = f.events
		if n := testutil.ToFloat64(f.metrics.events[r.EndReason]); n != float64(len(got)) {
			t.Errorf("%v events counted as %s, want %d", n, r.EndReason, len(got))
		}
		for i, e := range got {
			want := r.ID
			if i == len(got)-1 {
				want.Sequence++
			}
			if e.ID != want {
				t.Errorf("event %d has the ID %+v, want %+v", i, e.ID, want)
			}
			got[i].ID = flow.EventID{}
		}
	})
	return got, start
}

func TestFlowShape(t *testing.T) {
	got, start := events(t, false, answered(5000))
	want := []flow.Event{{
		Src: netip.AddrPortFrom(local, 5000), Dst: netip.AddrPortFrom(remote, 53), Protocol: 17,
		Direction: flow.DirectionOutbound, Interface: "eth0", Hostname: "node-1",
		Start: start, End: start,
		Counts:    flow.Counts{Packets: 1, Bytes: 100},
		EndReason: flow.EndFIN, Initiator: flow.OpenedBySrc, SamplingRate: 3, VLAN: 7,
		TunnelKind: flow.TunnelVXLAN, TunnelID: 9, OuterSrc: outerLocal, OuterDst: outerRemote,
	}, {
		Src: netip.AddrPortFrom(remote, 53), Dst: netip.AddrPortFrom(local, 5000), Protocol: 17,
		Direction: flow.DirectionInbound, Interface: "eth1", Hostname: "node-1",
		Start: start.Add(time.Second), End: start.Add(3 * time.Second),
		Counts:    flow.Counts{Packets: 2, Bytes: 300, TCPFlags: 0x12},
		EndReason: flow.EndFIN, Initiator: flow.OpenedByDst, SamplingRate: 3, VLAN: 7,
		TunnelKind: flow.TunnelVXLAN, TunnelID: 9, OuterSrc: outerRemote, OuterDst: outerLocal,
	}}
	compare(t, got, want)
}

// TestNamespace: addresses and interfaces are those of the flow's own network namespace.
func TestNamespace(t *testing.T) {
	r := record(5000)
	r.Key.Netns = 9
	got, _ := events(t, false, r)
	if e := got[0]; len(got) != 1 || e.Netns != "blue" || e.Interface != "veth0" || e.Direction != flow.DirectionUnknown {
		t.Errorf("events %+v, want one of veth0 in blue, where no address is local", got)
	}
}

// TestIdentity: what was sampled of a connection's packets is known when its record is read, and each of its events has it.
func TestIdentity(t *testing.T) {
	for _, connections := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFixture(t, Config{Connections: connections})
			f.kernel.due = []flow.Record{answered(5000)}
			f.kernel.sampled, f.kernel.windows = make([]flow.Sample, 2), make([]flow.Lengths, 1)
			if err := f.Drain(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := []string{"sample", "sample", "lengths"}
			for i, e := range f.events {
				if e.Identity == nil || !slices.Equal(e.Identity.Anomalies, want) {
					t.Errorf("event %d has %+v, want %q", i, e.Identity, want)
				}
			}
		})
	}
}

// TestSamplesAreRead at every look, so that their ring does not fill.
func TestSamplesAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, Config{})
		f.kernel.sampled = make([]flow.Sample, 1)
		f.runFor(t, Look+Look/2)
		if len(f.identifier.calls) != 1 || f.identifier.tidied != 1 {
			t.Errorf("%d samples read, tidied %d times, want 1 and 1", len(f.identifier.calls), f.identifier.tidied)
		}
	})
}

func TestOneDirection(t *testing.T) {
	got, _ := events(t, false, record(5000))
	if len(got) != 1 || got[0].Src.Addr() != local {
		t.Errorf("events %+v, want only that of the direction that sent", got)
	}
}

func TestConnectionShape(t *testing.T) {
	opened := flow.Event{
		Src: netip.AddrPortFrom(local, 5000), Dst: netip.AddrPortFrom(remote, 53), Protocol: 17,
		Direction: flow.DirectionOutbound, Interface: "eth0", Hostname: "node-1",
		Counts:    flow.Counts{Packets: 1, Bytes: 100},
		Reverse:   &flow.Counts{Packets: 2, Bytes: 300, TCPFlags: 0x12},
		EndReason: flow.EndFIN, Initiator: flow.OpenedBySrc, SamplingRate: 3, VLAN: 7,
		TunnelKind: flow.TunnelVXLAN, TunnelID: 9, OuterSrc: outerLocal, OuterDst: outerRemote,
	}
	mirrored := opened
	mirrored.Src, mirrored.Dst = opened.Dst, opened.Src
	mirrored.Direction, mirrored.Interface = flow.DirectionInbound, "eth1"
	mirrored.Counts, mirrored.Reverse = *opened.Reverse, &opened.Counts
	mirrored.OuterSrc, mirrored.OuterDst = opened.OuterDst, opened.OuterSrc

	unknown := opened
	unknown.Initiator = flow.OpenedUnknown

	for _, row := range []struct {
		name      string
		port      uint16
		initiator flow.Initiator
		want      flow.Event
	}{
		{"end 0 opened it", 5000, flow.InitiatorEnd0, opened},
		{"end 1 opened it", 5000, flow.InitiatorEnd1, mirrored},
		{"unknown: the higher port is the source", 5000, flow.InitiatorUnknown, unknown},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := answered(row.port)
			r.Initiator = row.initiator
			got, start := events(t, true, r)
			row.want.Start, row.want.End = start, start.Add(3*time.Second)
			compare(t, got, []flow.Event{row.want})
		})
	}
}

// TestSilentSource tells of a connection whose source sent nothing in this period.
func TestSilentSource(t *testing.T) {
	r := answered(5000)
	r.Halves[0] = flow.Half{}
	got, start := events(t, true, r)
	if len(got) != 1 {
		t.Fatalf("%d events, want 1", len(got))
	}
	e := got[0]
	if e.Packets != 0 || e.Reverse.Packets != 2 || e.Interface != "eth1" ||
		!e.Start.Equal(start.Add(time.Second)) || !e.End.Equal(start.Add(3*time.Second)) {
		t.Errorf("event %+v", e)
	}
}

func compare(t *testing.T, got, want []flow.Event) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d events, want %d", len(got), len(want))
	}
	for i := range got {
		g, w := got[i], want[i]
		if (g.Reverse == nil) != (w.Reverse == nil) || g.Reverse != nil && *g.Reverse != *w.Reverse {
			t.Errorf("event %d: reverse %+v, want %+v", i, g.Reverse, w.Reverse)
		}
		if !g.Start.Equal(w.Start) || !g.End.Equal(w.End) {
			t.Errorf("event %d: from %s to %s, want from %s to %s", i, g.Start, g.End, w.Start, w.End)
		}
		g.Reverse, w.Reverse = nil, nil
		g.Start, g.End, w.Start, w.End = time.Time{}, time.Time{}, time.Time{}, time.Time{}
		if g != w {
			t.Errorf("event %d:\n got %+v\nwant %+v", i, g, w)
		}
	}
}
