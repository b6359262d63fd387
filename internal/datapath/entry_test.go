package datapath

import (
	"math"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// checkCounts wants the map, and then the records, to have what the ledger counted.
func (k kernel) checkCounts(t *testing.T, counted flow.Counter) {
	t.Helper()
	if got := k.ledger(t).Counted; got != counted {
		t.Errorf("counted %+v, want %+v", got, counted)
	}
	const never = time.Hour
	resident, _, err := k.Sweep(now(), flow.Limits{TCPIdle: never, OtherIdle: never, Active: never, Linger: never})
	resident.DueNs = 0
	if want := (flow.Resident{Flows: 1, Packets: counted.Packets, Bytes: counted.Bytes}); err != nil || resident != want {
		t.Errorf("resident %+v, %v, want %+v", resident, err, want)
	}
	records, _ := k.records(t, k.SweepOut)
	if len(records) != 1 {
		t.Fatalf("%d records, want 1", len(records))
	}
	half := records[0].Halves[0]
	if got := (flow.Counter{Packets: half.Packets, Bytes: half.Bytes}); got != counted {
		t.Errorf("handed over %+v, want %+v", got, counted)
	}
	if l := k.ledger(t); l.Exported != l.Counted {
		t.Errorf("exported %+v, counted %+v", l.Exported, l.Counted)
	}
}

// TestCarry counts more than the packed counter holds, in each of its fields, and still knows when it began.
func TestCarry(t *testing.T) {
	t.Run("bytes", func(t *testing.T) {
		k := newReplay(t)
		frame := Frame{testnet.UDP(client, server, 10).Bytes(), math.MaxUint32, now(), 1}
		const frames = 40 // four times what the field holds
		for range frames {
			if err := k.Replay(&frame); err != nil {
				t.Fatal(err)
			}
		}
		k.checkCounts(t, flow.Counter{Packets: frames, Bytes: frames * math.MaxUint32})
	})
	t.Run("packets", func(t *testing.T) {
		k := newKernel(t, 1024)
		frame := testnet.TCP(client, server, testnet.ACK, 100).Bytes()
		const runs, segments, headers = 4100, 65535, 14 + 20 + 20
		for range runs {
			k.run(t, kernelProgTcIngress, frame, &skb{GSOSegs: segments, GSOSize: 1})
		}
		k.checkCounts(t, flow.Counter{
			Packets: runs * segments, Bytes: runs * (uint64(len(frame)) + (segments-1)*headers),
		})
	})
}

// TestLastSeen follows the packets of a flow by the kernel's ticks, as the record does and as a later version reads the entry.
func TestLastSeen(t *testing.T) {
	const span, slack = 300 * time.Millisecond, 150 * time.Millisecond // a guest's ticks can be late
	k := newKernel(t, 1024)
	frame := testnet.UDP(client, server, 10).Bytes()
	began := now()
	for now() < began+uint64(span) {
		k.run(t, kernelProgXdpIngress, frame, nil)
	}
	ended := now()

	entry := k.slots(t)[0].Entry
	tick, err := k.coll.Programs[kernelProgTick].Run(nil)
	if err != nil {
		t.Fatal(err)
	}
	read := lastSeen(&entry, 0, now(), tick)
	records, _ := k.records(t, k.SweepOut)
	half := records[0].Halves[0]
	for name, last := range map[string]uint64{"record": half.LastNs, "entry": read} {
		if last < ended-uint64(slack) || last > now() {
			t.Errorf("%s: last seen %s before it was", name, time.Duration(ended-last))
		}
	}
	if half.FirstNs < began || half.FirstNs > began+uint64(slack) {
		t.Errorf("first seen %s after it was", time.Duration(half.FirstNs-began))
	}
	if read := lastSeen(&entry, 1, now(), tick); read != 0 {
		t.Errorf("the other direction was seen at %d", read)
	}
}

// TestLargestInterfaceIndex counts on an interface of the largest index that fits an entry, and attaches to none beyond.
func TestLargestInterfaceIndex(t *testing.T) {
	k := newKernel(t, 1024)
	for _, side := range []Side{Ingress, Egress} {
		if at, err := k.Attach(Interface{Index: maxIfIndex + 1, Name: "beyond"}, side, IngressAuto); err == nil {
			t.Errorf("attached %+v, want an error", at)
		}
	}
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "last", Index: maxIfIndex}, PeerName: "peer"}
	l, _ := testnet.NewNamespace(t).AddLink(t, pair, "192.0.2.1/24")
	k.attachTo(t, l, onLink(l), Egress, IngressAuto)
	l.Send(t, testnet.UDP(client, server, 10).Bytes())
	testnet.Eventually(t, "the packet is counted", func() bool { return k.ledger(t).Counted.Packets == 1 })
	records, _ := k.records(t, k.SweepOut)
	if len(records) != 1 || records[0].Halves[0].IfIndex != maxIfIndex {
		t.Errorf("records %+v, want one on interface %d", records, maxIfIndex)
	}
}
