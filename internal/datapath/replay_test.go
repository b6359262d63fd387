package datapath

import (
	"testing"
	"time"

	"weir/internal/flow"
	"weir/internal/testnet"
)

func newReplay(t testing.TB) kernel {
	t.Helper()
	return newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Replay: true})
}

// TestReplay counts frames whole, of which only the beginning is there, by the capture's clock and interface.
func TestReplay(t *testing.T) {
	const at = 1_700_000_000_000_000_001
	request := testnet.TCP(client, server, testnet.ACK, 1200).Bytes()
	reply := testnet.UDP(server, client, 9000).Bytes()
	k := newReplay(t)
	for _, f := range []Frame{
		{request, 1254, at, 1},
		{request[:60], 1254, at + 5, 1},
		{request, 1254, at + 6, 2}, // the same direction elsewhere
		{reply[:512], 9042, at + 7, 2},
		{testnet.IP("10.0.0.1", "10.0.0.2", tcp, nil).IPOptions(40).Bytes()[:40], 74, at, 1},
	} {
		if err := k.Replay(&f); err != nil {
			t.Fatal(err)
		}
	}
	checkLedger(t, k.ledger(t), "tc_ingress", flow.Counter{Packets: 5, Bytes: 3*1254 + 9042 + 74}, map[string]flow.Counter{
		"counted": {Packets: 3, Bytes: 2*1254 + 9042}, "truncated": {Packets: 1, Bytes: 74}, "duplicate": {Packets: 1, Bytes: 1254},
	})
	records, _ := k.records(t, k.SweepOut)
	want := map[uint8]flow.Half{
		tcp: {Packets: 2, Bytes: 2 * 1254, FirstNs: at, LastNs: at + 5, TCPFlags: uint16(testnet.ACK), IfIndex: 1},
		udp: {Packets: 1, Bytes: 9042, FirstNs: at + 7, LastNs: at + 7, IfIndex: 2},
	}
	for _, r := range records {
		if got := r.Halves[map[uint8]int{tcp: 0, udp: 1}[r.Key.Protocol]]; got != want[r.Key.Protocol] {
			t.Errorf("%d: %+v, want %+v", r.Key.Protocol, got, want[r.Key.Protocol])
		}
	}
	if len(records) != len(want) {
		t.Errorf("%d records, want %d", len(records), len(want))
	}
}

// TestReplaySweep goes by the time that it is given.
func TestReplaySweep(t *testing.T) {
	k := newReplay(t)
	if err := k.Replay(&Frame{testnet.UDP(client, server, 10).Bytes(), 52, 1000, 1}); err != nil {
		t.Fatal(err)
	}
	limits := flow.Limits{TCPIdle: time.Hour, OtherIdle: time.Second, Active: time.Hour}
	for at, want := range []int{0, 1} {
		now := 999 + uint64(time.Second) + uint64(at)
		records, _ := k.records(t, func() (flow.Resident, bool, error) { return k.Sweep(now, limits) })
		if len(records) != want {
			t.Errorf("at %d: %d records, want %d", now, len(records), want)
		}
	}
}

// TestDue: a sweep says when the next one has something to do, and a sweep just before then has nothing.
func TestDue(t *testing.T) {
	const s = uint64(time.Second)
	limits := flow.Limits{TCPIdle: 60 * time.Second, OtherIdle: 30 * time.Second, Active: 45 * time.Second, Linger: time.Second}
	datagram, segment := testnet.UDP(client, server, 10).Bytes(), testnet.TCP(client, server, testnet.ACK, 10).Bytes()
	reset := testnet.TCP(client, server, testnet.RST, 0).Bytes()
	type packet struct {
		atNs  uint64
		frame []byte
	}
	for name, row := range map[string]struct {
		packets []packet
		sweepNs uint64
		wantNs  uint64
	}{
		"idle":                  {[]packet{{s, datagram}, {3 * s, datagram}}, 4 * s, 33 * s},
		"the earlier of two":    {[]packet{{1 * s, segment}, {25 * s, datagram}}, 26 * s, 46 * s},
		"active":                {[]packet{{1 * s, datagram}, {20 * s, datagram}, {40 * s, datagram}}, 41 * s, 46 * s},
		"handed over as active": {[]packet{{1 * s, segment}, {45 * s, segment}}, 50 * s, 95 * s},
		"born closed":           {[]packet{{1 * s, reset}}, 1*s + 1, 2 * s},
		"nothing is left":       {[]packet{{1 * s, datagram}}, 31 * s, 0},
		"nothing has ever been": {nil, s, 0},
	} {
		t.Run(name, func(t *testing.T) {
			k := newReplay(t)
			for _, p := range row.packets {
				if err := k.Replay(&Frame{p.frame, uint32(len(p.frame)), p.atNs, 1}); err != nil {
					t.Fatal(err)
				}
			}
			at := func(ns uint64) ([]flow.Record, flow.Resident) {
				return k.records(t, func() (flow.Resident, bool, error) { return k.Sweep(ns, limits) })
			}
			if _, resident := at(row.sweepNs); resident.DueNs != row.wantNs {
				t.Fatalf("due at %d, want %d", resident.DueNs, row.wantNs)
			}
			if row.wantNs == 0 {
				return
			}
			if records, _ := at(row.wantNs - 1); len(records) != 0 {
				t.Errorf("just before, %d records were due", len(records))
			}
		})
	}
}

// TestReplayFragments: the ports of a first fragment are forgotten by the capture's clock.
func TestReplayFragments(t *testing.T) {
	const second = uint64(time.Second)
	fragments := testnet.UDP(client, server, 2000).Fragments(1000)
	k := newReplay(t)
	for i, at := range []uint64{second, 2 * second, 2*second + 1} {
		fragment := fragments[min(i, 1)]
		if err := k.Replay(&Frame{fragment, uint32(len(fragment)), at, 1}); err != nil {
			t.Fatal(err)
		}
	}
	records, _ := k.records(t, k.SweepOut)
	packets := map[bool]uint64{} // by whether the flow has ports
	for _, r := range records {
		packets[r.Key.Ends[0].Port() != 0] = r.Halves[0].Packets
	}
	if packets[true] != 2 || packets[false] != 1 {
		t.Errorf("%d packets with ports and %d without, want 2 and 1", packets[true], packets[false])
	}
}

// TestReplayTunnel counts what is in a tunnel at the time of the packet around it.
func TestReplayTunnel(t *testing.T) {
	inner := testnet.UDP(client, server, 10).Bytes()[14:]
	frame := testnet.IP("192.0.2.1", "192.0.2.2", 4, inner).Bytes()
	decap := map[flow.TunnelKind]uint16{flow.TunnelIPIP: 0}
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Replay: true, Decap: decap})
	if err := k.Replay(&Frame{frame, uint32(len(frame)), 7, 1}); err != nil {
		t.Fatal(err)
	}
	records, _ := k.records(t, k.SweepOut)
	if len(records) != 1 || records[0].Tunnel == nil || records[0].Halves[0].FirstNs != 7 || records[0].Halves[0].LastNs != 7 {
		t.Errorf("records %+v, want one in a tunnel, at 7", records)
	}
}

// BenchmarkReplay prints what a captured frame costs, with the system call.
func BenchmarkReplay(b *testing.B) {
	k := newReplay(b)
	f := Frame{testnet.TCP(client, server, testnet.ACK, 1200).Bytes(), 1254, 1, 1}
	for b.Loop() {
		f.AtNs += 1000
		if err := k.Replay(&f); err != nil {
			b.Fatal(err)
		}
	}
}
