package datapath

import (
	"fmt"
	"testing"
	"time"

	"weir/internal/flow"
	"weir/internal/testnet"
)

const (
	client = "10.0.0.1:40000"
	server = "10.0.0.2:443"
)

// segment is a TCP segment of one side of a connection.
type segment struct {
	fromServer bool
	flags      uint8
}

func (s segment) frame() []byte {
	if s.fromServer {
		return testnet.TCP(server, client, s.flags, 10).Bytes()
	}
	return testnet.TCP(client, server, s.flags, 10).Bytes()
}

// TestClose follows connections to their end. Key end 0 is the client.
func TestClose(t *testing.T) {
	const (
		fin, syn, rst, ack = testnet.FIN, testnet.SYN, testnet.RST, testnet.ACK
	)
	for _, row := range []closing{
		{
			"FIN both ways", []segment{
				{false, syn}, {true, syn | ack}, {false, ack}, {false, fin | ack}, {true, fin | ack}, {false, ack},
			}, 1, false, flow.EndFIN, flow.InitiatorEnd0,
		},
		{
			"repeated FINs are one event", []segment{
				{false, syn}, {true, syn | ack}, {false, fin}, {false, fin}, {true, fin}, {true, fin}, {false, fin},
			}, 1, false, flow.EndFIN, flow.InitiatorEnd0,
		},
		{
			"half closed",
			[]segment{{false, syn}, {true, syn | ack}, {false, fin | ack}, {true, ack}},
			0, false, flow.EndIdle, flow.InitiatorEnd0,
		},
		{
			"FIN in the only direction seen",
			[]segment{{false, syn}, {false, ack}, {false, fin | ack}},
			1, false, flow.EndFIN, flow.InitiatorEnd0,
		},
		{"reset", []segment{{false, syn}, {true, syn | ack}, {true, rst}}, 1, true, flow.EndRST, flow.InitiatorEnd0},
		{"refused", []segment{{false, syn}, {true, rst | ack}}, 1, true, flow.EndRST, flow.InitiatorEnd0},
		{
			"FIN, then reset before the other FIN",
			[]segment{{false, syn}, {true, ack}, {false, fin}, {true, rst}},
			1, true, flow.EndRST, flow.InitiatorEnd0,
		},
		{
			"reset after the close", []segment{
				{false, syn}, {true, syn | ack}, {false, fin | ack}, {true, fin | ack}, {true, rst},
			}, 1, false, flow.EndFIN, flow.InitiatorEnd0,
		},
		{
			"the same ports again before the old connection was taken", []segment{
				{false, syn}, {true, rst}, {true, syn}, {false, syn | ack}, {true, ack},
			}, 1, true, flow.EndIdle, flow.InitiatorEnd1,
		},
		{
			"the same ports again, closed again", []segment{
				{false, syn}, {true, rst}, {false, syn}, {true, syn | ack}, {false, fin}, {true, fin},
			}, 2, true, flow.EndFIN, flow.InitiatorEnd0,
		},
		{"born by FIN", []segment{{false, fin | ack}}, 0, false, flow.EndFIN, flow.InitiatorUnknown},
		{"born by RST", []segment{{true, rst}, {true, rst}}, 0, false, flow.EndRST, flow.InitiatorUnknown},
		{
			"the server speaks first, the SYN is late",
			[]segment{{true, syn | ack}, {false, syn}},
			0, false, flow.EndIdle, flow.InitiatorEnd0,
		},
		{"opened from the other end", []segment{{true, syn}}, 0, false, flow.EndIdle, flow.InitiatorEnd1},
		{"open before it was seen", []segment{{false, ack}, {true, ack}}, 0, false, flow.EndIdle, flow.InitiatorUnknown},
	} {
		t.Run(row.name, row.check)
	}
}

// closing is what a connection sends, and how it is said to have ended.
type closing struct {
	name      string
	segments  []segment
	events    int
	reset     bool
	reason    flow.EndReason // of a sweep that lets nothing linger
	initiator flow.Initiator
}

func (c closing) check(t *testing.T) {
	k := newKernel(t, 1024)
	for _, s := range c.segments {
		k.run(t, kernelProgXdpIngress, s.frame(), nil)
	}
	events := k.closed(t)
	if len(events) != c.events {
		t.Errorf("closed: %+v, want %d", events, c.events)
	}
	want, _ := key(client, server, tcp)
	for i, e := range events {
		if reset := c.reset && i == 0; e.Key != want || e.Reset != reset || e.AtNs > now() {
			t.Errorf("closed %+v, want key %+v, reset %t", e, want, reset)
		}
	}
	records, _ := k.records(t, func() (flow.Resident, bool, error) {
		return k.Sweep(now(), flow.Limits{Active: time.Hour})
	})
	if len(records) != 1 {
		t.Fatalf("%d records, want 1", len(records))
	}
	r := records[0]
	if r.EndReason != c.reason || r.Initiator != c.initiator {
		t.Errorf("ended by %s, opened by %d, want %s and %d", r.EndReason, r.Initiator, c.reason, c.initiator)
	}
	if got := r.Halves[0].Packets + r.Halves[1].Packets; got != uint64(len(c.segments)) {
		t.Errorf("%d packets, want %d", got, len(c.segments))
	}
}

// TestTake hands over closed connections by name, once, and leaves open ones alone.
func TestTake(t *testing.T) {
	k := newKernel(t, 1024)
	for _, s := range []segment{{false, testnet.SYN}, {true, testnet.RST}} {
		k.run(t, kernelProgXdpIngress, s.frame(), nil)
	}
	k.run(t, kernelProgXdpIngress, testnet.UDP("10.0.0.1:5", "10.0.0.2:5", 0).Bytes(), nil)
	closed := k.closed(t)
	open, _ := key("10.0.0.1:5", "10.0.0.2:5", udp)
	gone, _ := key("10.0.0.1:6", "10.0.0.2:6", udp)
	closed = append(closed, flow.Closing{Key: open}, flow.Closing{Key: gone}, closed[0])

	done, err := k.Take(closed)
	if err != nil || done != len(closed) {
		t.Fatalf("took %d, %v, want %d", done, err, len(closed))
	}
	var records []flow.Record
	if _, err := k.ReadRecords(func(r *flow.Record) { records = append(records, *r) }); err != nil {
		t.Fatal(err)
	}
	if len(records) != 1 || records[0].Key != closed[0].Key || records[0].EndReason != flow.EndRST {
		t.Errorf("records %+v, want the one that was reset", records)
	}
	if l := k.ledger(t); l.Inserts != 2 || l.Deletes != 1 || l.Exported.Packets != 2 {
		t.Errorf("%d inserts, %d deletes, %d packets exported, want 2, 1, 2", l.Inserts, l.Deletes, l.Exported.Packets)
	}
}

// TestTakeMany takes more than one run can.
func TestTakeMany(t *testing.T) {
	const connections = TakeMax + 10
	k := newKernel(t, 4096)
	for i := range connections {
		src := fmt.Sprintf("10.0.0.1:%d", 1000+i)
		k.run(t, kernelProgXdpIngress, testnet.TCP(src, server, testnet.SYN, 0).Bytes(), nil)
		k.run(t, kernelProgXdpIngress, testnet.TCP(server, src, testnet.RST, 0).Bytes(), nil)
	}
	closed := k.closed(t)
	if len(closed) != connections {
		t.Fatalf("%d closed, want %d", len(closed), connections)
	}
	for _, want := range []int{TakeMax, 10, 0} {
		done, err := k.Take(closed)
		if err != nil || done != want {
			t.Fatalf("took %d, %v, want %d", done, err, want)
		}
		closed = closed[done:]
	}
	if l := k.ledger(t); l.Deletes != connections {
		t.Errorf("%d deletes, want %d", l.Deletes, connections)
	}
}

// TestOwner counts a direction in one place, and lets it move when the owner has gone quiet.
func TestOwner(t *testing.T) {
	k := newKernel(t, 1024)
	there, back := testnet.UDP(client, server, 0).Bytes(), testnet.UDP(server, client, 0).Bytes()
	k.run(t, kernelProgXdpIngress, there, nil)
	k.run(t, kernelProgTcIngress, there, nil) // a second sighting
	k.run(t, kernelProgTcEgress, back, nil)   // the other direction has an owner of its own
	k.run(t, kernelProgTcIngress, back, nil)
	k.run(t, kernelProgXdpIngress, there, nil)
	size := uint64(len(there))
	l := k.ledger(t)
	if got, want := l.Uncounted["duplicate"], (flow.Counter{Packets: 2, Bytes: 2 * size}); got != want {
		t.Errorf("duplicates %+v, want %+v", got, want)
	}
	if got, want := l.Counted, (flow.Counter{Packets: 3, Bytes: 3 * size}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
	start := time.Now()
	for k.ledger(t).Counted.Packets == 3 {
		if time.Since(start) > 10*time.Second {
			t.Fatal("the direction does not move to the hook that sees it")
		}
		k.run(t, kernelProgTcIngress, there, nil)
	}
	if moved := time.Since(start); moved < 900*time.Millisecond {
		t.Errorf("the direction moved after %s, want a second", moved)
	}
	k.run(t, kernelProgXdpIngress, there, nil) // now the former owner is the second sighting
	if got := k.ledger(t).Counted.Packets; got != 4 {
		t.Errorf("counted %d packets, want 4", got)
	}
}

// TestReplyComesAfterItsRequest has a direction start when its first packet came, not at the last tick before.
func TestReplyComesAfterItsRequest(t *testing.T) {
	k := newKernel(t, 1024)
	const exchanges = 100
	for i := range exchanges {
		src := fmt.Sprintf("10.0.0.1:%d", 1000+i)
		k.run(t, kernelProgXdpIngress, testnet.UDP(src, "10.0.0.2:53", 0).Bytes(), nil)
		k.run(t, kernelProgTcEgress, testnet.UDP("10.0.0.2:53", src, 0).Bytes(), nil)
	}
	records, _ := k.records(t, k.SweepOut)
	if len(records) != exchanges {
		t.Fatalf("%d records, want %d", len(records), exchanges)
	}
	for _, r := range records {
		if r.Halves[1].FirstNs <= r.Halves[0].FirstNs {
			t.Errorf("the reply came %d ns before its request", r.Halves[0].FirstNs-r.Halves[1].FirstNs)
		}
	}
}

// TestSweep hands over what is due and nothing else.
func TestSweep(t *testing.T) {
	const never = time.Hour
	for _, row := range []struct {
		name     string
		limits   flow.Limits
		reasons  map[uint8]flow.EndReason // by protocol
		resident flow.Resident
	}{
		{
			"nothing is due",
			flow.Limits{TCPIdle: never, OtherIdle: never, Active: never},
			map[uint8]flow.EndReason{},
			flow.Resident{Flows: 2, Packets: 5, Bytes: 3*64 + 2*52},
		},
		{
			"TCP is idle",
			flow.Limits{OtherIdle: never, Active: never},
			map[uint8]flow.EndReason{tcp: flow.EndIdle},
			flow.Resident{Flows: 1, Packets: 2, Bytes: 2 * 52},
		},
		{
			"the others are idle",
			flow.Limits{TCPIdle: never, Active: never},
			map[uint8]flow.EndReason{udp: flow.EndIdle},
			flow.Resident{Flows: 1, Packets: 3, Bytes: 3 * 64},
		},
		{
			"active",
			flow.Limits{TCPIdle: never, OtherIdle: never},
			map[uint8]flow.EndReason{tcp: flow.EndActive, udp: flow.EndActive},
			flow.Resident{Flows: 2},
		},
		{
			"idle comes before active",
			flow.Limits{TCPIdle: never},
			map[uint8]flow.EndReason{tcp: flow.EndActive, udp: flow.EndIdle},
			flow.Resident{Flows: 1},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			k := newKernel(t, 1024)
			for range 3 {
				k.run(t, kernelProgXdpIngress, testnet.TCP(client, server, testnet.ACK, 10).Bytes(), nil)
			}
			for range 2 {
				k.run(t, kernelProgXdpIngress, testnet.UDP(client, server, 10).Bytes(), nil)
			}
			records, resident := k.records(t, func() (flow.Resident, bool, error) { return k.Sweep(now(), row.limits) })
			resident.DueNs = 0 // TestDue is about it
			if resident != row.resident {
				t.Errorf("resident %+v, want %+v", resident, row.resident)
			}
			got := map[uint8]flow.EndReason{}
			for _, r := range records {
				got[r.Key.Protocol] = r.EndReason
			}
			if len(records) != len(row.reasons) || fmt.Sprint(got) != fmt.Sprint(row.reasons) {
				t.Errorf("%d records, %v, want %v", len(records), got, row.reasons)
			}
		})
	}
}

// TestDeltas hands a connection over while it goes on: the deltas sum to what was sent, and times follow the packets.
func TestDeltas(t *testing.T) {
	k := newKernel(t, 1024)
	frame := testnet.TCP(client, server, testnet.ACK, 10).Bytes()
	active := func() (flow.Resident, bool, error) {
		return k.Sweep(now(), flow.Limits{TCPIdle: time.Hour, OtherIdle: time.Hour})
	}
	var last uint64
	for period := range 3 {
		for range period + 1 {
			k.run(t, kernelProgXdpIngress, frame, nil)
		}
		records, resident := k.records(t, active)
		resident.DueNs = 0
		if len(records) != 1 || resident != (flow.Resident{Flows: 1}) {
			t.Fatalf("period %d: %d records, %+v left", period, len(records), resident)
		}
		half := records[0].Halves[0]
		if half.Packets != uint64(period+1) || half.Bytes != uint64((period+1)*len(frame)) || half.TCPFlags != 0x10 {
			t.Errorf("period %d: %+v", period, half)
		}
		if half.FirstNs < last || half.LastNs < half.FirstNs {
			t.Errorf("period %d: from %d to %d, the one before ended at %d", period, half.FirstNs, half.LastNs, last)
		}
		last = half.LastNs
	}
	if records, _ := k.records(t, active); len(records) != 0 {
		t.Errorf("an empty period gave %+v", records)
	}
	if records, _ := k.records(t, k.SweepOut); len(records) != 0 {
		t.Errorf("an empty entry gave %+v", records)
	}
	if l := k.ledger(t); l.Inserts != 1 || l.Deletes != 1 || l.Exported != l.Counted {
		t.Errorf("ledger %+v", l)
	}
}
