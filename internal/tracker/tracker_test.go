package tracker_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"weir/internal/flow"
	"weir/internal/tracker"
)

func flowKey(zone uint16, netns uint8) flow.Key {
	return flow.Key{
		Ends:     [2]netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:50123"), netip.MustParseAddrPort("192.0.2.1:443")},
		Protocol: 6,
		Zone:     zone,
		Netns:    netns,
	}
}

func TestUpdateFlowAndUpdateReachOneConnection(t *testing.T) {
	tr := tracker.NewTracker(10)
	c := tr.UpdateFlow(flowKey(0, 0), flow.InitiatorUnknown, start, 1000, 64_000)
	same := tr.Update(client, clientPort, server, serverPort, "tcp", start, 100) == c
	if !same || c.PacketCount != 1001 || c.ByteCount != 64_100 {
		t.Errorf("got %d packets, %d bytes, want 1001, 64100 of one connection", c.PacketCount, c.ByteCount)
	}
	if tr.Find(flowKey(0, 0)) != c || tr.Get(c.ID) != c || tr.Find(flowKey(1, 0)) != nil {
		t.Error("the connection is not found by its keys, or by another one")
	}
}

func TestConnectionsOfSeparateNetworks(t *testing.T) {
	tr := tracker.NewTracker(10)
	for _, tc := range []struct {
		zone  uint16
		netns uint8
		id    string
	}{
		{0, 0, "10.0.0.1:50123-192.0.2.1:443-tcp"},
		{7, 0, "10.0.0.1:50123-192.0.2.1:443-tcp@7.0"},
		{0, 255, "10.0.0.1:50123-192.0.2.1:443-tcp@0.255"},
		{65535, 1, "10.0.0.1:50123-192.0.2.1:443-tcp@65535.1"},
	} {
		c := tr.UpdateFlow(flowKey(tc.zone, tc.netns), flow.InitiatorUnknown, start, 1, 1)
		if c.ID != tc.id || c.PacketCount != 1 || tr.Get(tc.id) != c || tr.Find(flowKey(tc.zone, tc.netns)) != c {
			t.Errorf("zone %d, namespace %d: got %q, %d packets, want %q, 1", tc.zone, tc.netns, c.ID, c.PacketCount, tc.id)
		}
	}
}

func TestSourceIsTheOpener(t *testing.T) {
	const forth, back = "10.0.0.1:50123 to 192.0.2.1:443", "192.0.2.1:443 to 10.0.0.1:50123"
	tr := tracker.NewTracker(10)
	for _, step := range []struct {
		opener flow.Initiator
		want   string
	}{
		{flow.InitiatorUnknown, forth},
		{flow.InitiatorEnd1, back},
		{flow.InitiatorUnknown, back},
		{flow.InitiatorEnd0, back}, // what is known stays
	} {
		c := tr.UpdateFlow(flowKey(0, 0), step.opener, start, 1, 1)
		if got := fmt.Sprintf("%s:%d to %s:%d", c.SrcIP, c.SrcPort, c.DstIP, c.DstPort); got != step.want {
			t.Errorf("after the opener %d: %s, want %s", step.opener, got, step.want)
		}
	}
	if c := tr.UpdateFlow(flowKey(1, 0), flow.InitiatorEnd1, start, 1, 1); c.SrcIP != "192.0.2.1" || c.DstPort != 50123 {
		t.Errorf("a new connection is from %s, want from its opener", c.SrcIP)
	}
}

func TestEnd(t *testing.T) {
	tr := tracker.NewTracker(10)
	var told []*tracker.Connection
	tr.OnEvict = func(c *tracker.Connection) { told = append(told, c) }
	c := tr.UpdateFlow(flowKey(0, 0), flow.InitiatorUnknown, start, 1, 1)
	if got := tr.End(flowKey(0, 0)); got != c || tr.Count() != 0 || len(told) != 1 || told[0] != c {
		t.Errorf("ended %v, told %v, %d left, want %v once", got, told, tr.Count(), c)
	}
	if got := tr.End(flowKey(0, 0)); got != nil || len(told) != 1 {
		t.Errorf("ended %v again", got)
	}
}

// TestFloodIsBounded lets no Evict keep the table small.
func TestFloodIsBounded(t *testing.T) {
	for maximum, bound := range map[int]int{-1: 1024, 10: 1034, 2000: 4000} {
		tr := tracker.NewTracker(maximum)
		evicted := 0
		tr.OnEvict = func(*tracker.Connection) { evicted++ }
		const total = 6000
		for i := range total {
			open(tr, i, "udp", start)
		}
		if tr.Count() != bound || evicted != total-bound {
			t.Errorf("maximum %d: %d connections, %d evicted, want %d, %d", maximum, tr.Count(), evicted, bound, total-bound)
		}
	}
}

func TestIdleAfter(t *testing.T) {
	tr := tracker.NewTracker(10)
	tr.IdleAfter(time.Hour, time.Second)
	open(tr, 1, "tcp", start)
	open(tr, 2, "udp", start)
	if got := tr.Evict(start.Add(time.Hour)); len(got) != 1 || got[0].Protocol != "udp" {
		t.Errorf("evicted %v, want that of UDP", got)
	}
}

// TestTimestampFromTheFuture keeps nothing but its own connection.
func TestTimestampFromTheFuture(t *testing.T) {
	tr := tracker.NewTracker(10)
	future := open(tr, 1, "udp", start.AddDate(100, 0, 0))
	open(tr, 2, "udp", start)
	tr.Evict(start)
	if got := tr.Evict(start.Add(time.Hour)); len(got) != 1 || tr.Get(future.ID) == nil {
		t.Errorf("evicted %v, want the other one", got)
	}
}

// TestLongValues: a history keeps no more of a value than is bounded.
func TestLongValues(t *testing.T) {
	c := tracker.NewConnection(client, clientPort, server, serverPort, "tcp", start)
	long := strings.Repeat("a", 511) + "bc"
	c.AddFingerprint("ja4h", long, start, 1)
	c.AddFingerprint("ja4h", long, start, 2)
	if got := c.Fingerprints["ja4h"]; len(got) != 1 || got[0].Value != long[:512] {
		t.Errorf("got %d values, the first of %d bytes", len(got), len(got[0].Value))
	}
}

// TestTimestampFromThePast: a connection that is stale by its last packet goes, though it was updated just now.
func TestTimestampFromThePast(t *testing.T) {
	tr := tracker.NewTracker(10)
	now := start.Add(time.Hour)
	tr.Evict(now)
	fresh := tr.Update(client, 1, server, serverPort, "tcp", now, 1)
	stale := tr.Update(client, 2, server, serverPort, "tcp", now.Add(-10*time.Minute), 1)
	if got := tr.Evict(now); len(got) != 1 || got[0] != stale || tr.Get(fresh.ID) != fresh {
		t.Errorf("evicted %v, want the stale one alone", got)
	}
}

func TestMakeKeyOfProtocols(t *testing.T) {
	for proto, want := range map[string]string{"6": "tcp", "17": "udp", "ICMP6": "icmpv6", "ipv6-icmp": "icmpv6", "58": "icmpv6", "256": "", "-1": ""} {
		key := tracker.MakeKey(client, clientPort, server, serverPort, proto)
		if key != tracker.MakeKey(client, clientPort, server, serverPort, want) || (key == "") != (want == "") {
			t.Errorf("%s: %q, want that of %q", proto, key, want)
		}
	}
}
