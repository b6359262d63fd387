package e2e

import (
	"io"
	"net"
	"testing"
	"time"

	"weir/internal/testbrain"
	"weir/internal/testnet"
)

// road is three namespaces in a row; the middle one forwards.
type road struct {
	near, middle, far              *testnet.Namespace
	nearLink, entry, exit, farLink *testnet.Link
}

func newRoad(t *testing.T) road {
	t.Helper()
	r := road{near: testnet.NewNamespace(t), middle: testnet.NewNamespace(t), far: testnet.NewNamespace(t)}
	r.nearLink, r.entry = testnet.Veth(t,
		testnet.End{Namespace: r.near, Name: "near", Addrs: []string{"10.1.0.1/24"}},
		testnet.End{Namespace: r.middle, Name: "entry", Addrs: []string{"10.1.0.2/24"}})
	r.exit, r.farLink = testnet.Veth(t,
		testnet.End{Namespace: r.middle, Name: "exit", Addrs: []string{"10.2.0.2/24"}},
		testnet.End{Namespace: r.far, Name: "far", Addrs: []string{"10.2.0.1/24"}})
	r.middle.Sysctl(t, "net/ipv4/ip_forward", "1")
	r.nearLink.AddRoute(t, "10.2.0.0/24", "10.1.0.2")
	r.farLink.AddRoute(t, "10.1.0.0/24", "10.2.0.2")
	return r
}

// transfer sends so many bytes over TCP from near to far, and waits until both sides have closed.
func (r road) transfer(t *testing.T, size int64) {
	t.Helper()
	p := pair{client: r.near, server: r.far}
	received := make(chan int64, 1)
	addr := p.listen(t, "10.2.0.1:0", func(conn *net.TCPConn) {
		defer conn.Close()
		n, _ := io.Copy(io.Discard, conn)
		received <- n
	})
	conn, err := p.dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.Copy(conn, io.LimitReader(zeros{}, size)); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Fatal(err)
	}
	if n := <-received; n != size {
		t.Fatalf("%d bytes arrived, want %d", n, size)
	}
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestSuperPackets compares what weir counted of GSO and GRO super-packets, in tc, with the frames that a later
// interface without offloads received.
func TestSuperPackets(t *testing.T) {
	for _, row := range []struct {
		name string
		at   func(road) *testnet.Link // where weir counts
	}{
		{"sent", func(r road) *testnet.Link { return r.nearLink }},
		{"received", func(r road) *testnet.Link { return r.entry }},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRoad(t)
			r.nearLink.SetOffloads(t, testnet.AllOffloads, true)
			r.exit.SetOffloads(t, testnet.AllOffloads, false)
			r.farLink.SetOffloads(t, testnet.AllOffloads, false)
			link := row.at(r)
			brain := brainIn(t, link.Namespace, testbrain.Options{})
			a := start(t, link.Namespace, "AGENT_INTERFACE="+link.Name, "AGENT_INGRESS_HOOK=tc",
				"AGENT_ENDPOINT_URL="+brain.URL(), "AGENT_SEND_INTERVAL=0.2")
			before, superBefore := r.farLink.Counters(t), r.nearLink.Counters(t)
			r.transfer(t, 100<<20)
			brain.WaitFor(t, 2, 20*time.Second)
			after, superAfter := r.farLink.Counters(t), r.nearLink.Counters(t)
			a.terminate(t)

			frames, skbs := after.RxPackets-before.RxPackets, superAfter.TxPackets-superBefore.TxPackets
			if skbs*2 > frames {
				t.Fatalf("%d frames were sent as %d skbs: there are no super-packets to count", frames, skbs)
			}
			for _, e := range brain.Events() {
				packets, bytes := frames, after.RxBytes-before.RxBytes
				if e.SrcIP == "10.2.0.1" {
					packets, bytes = after.TxPackets-before.TxPackets, after.TxBytes-before.TxBytes
				}
				if uint64(e.PacketCount) != packets || uint64(e.ByteCount) != bytes {
					t.Errorf("from %s %d packets and %d bytes, the far interface counted %d and %d",
						e.SrcIP, e.PacketCount, e.ByteCount, packets, bytes)
				}
			}
			if n := brain.Received(); n != 2 {
				t.Errorf("%d events, want 2", n)
			}
		})
	}
}

// swallow takes datagrams at an address of the far end, which would be answered by ICMP otherwise.
func (r road) swallow(t *testing.T, addr string) {
	t.Helper()
	err := r.far.Do(func() error {
		conn, err := net.ListenPacket("udp", addr)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSeenTwice counts a packet once that passes two interfaces of a host.
func TestSeenTwice(t *testing.T) {
	const packets = 1000
	r := newRoad(t)
	brain := brainIn(t, r.middle, testbrain.Options{})
	a := start(t, r.middle, "AGENT_INTERFACE=entry,exit", "AGENT_ENDPOINT_URL="+brain.URL(), "AGENT_SEND_INTERVAL=0.2")
	r.swallow(t, "10.2.0.1:2000")
	frame := testnet.UDP("10.1.0.1:1000", "10.2.0.1:2000", 100).MACs(r.nearLink.MAC, r.entry.MAC).Bytes()
	for range packets {
		r.nearLink.Send(t, frame)
	}
	testnet.Eventually(t, "the far end has them all", func() bool {
		return r.farLink.Counters(t).RxPackets == packets
	})
	duplicates := a.metric(t, `weir_uncounted_packets_total{reason="duplicate"}`)
	counted := a.metric(t, "weir_counted_packets_total")
	if duplicates != packets || counted != packets {
		t.Errorf("%.0f counted and %.0f seen again, want %d and %d", counted, duplicates, packets, packets)
	}
	a.terminate(t)
	events := brain.Events()
	if len(events) != 1 || events[0].PacketCount != packets || events[0].ByteCount != int64(packets*len(frame)) {
		t.Errorf("events %+v, want one of %d packets", events, packets)
	}
	if events[0].Interface != "entry" || events[0].Direction != "unknown" {
		t.Errorf("on %s, %s, want on entry, unknown: it is only forwarded", events[0].Interface, events[0].Direction)
	}
}

// TestActiveTimeout reports a long flow in parts that sum to the whole.
func TestActiveTimeout(t *testing.T) {
	t.Parallel()
	const length, pause = 30 * time.Second, 10 * time.Millisecond
	p := newPair(t)
	brain := brainIn(t, p.server, testbrain.Options{})
	a := start(t, p.server, "AGENT_INTERFACE=server", "AGENT_ENDPOINT_URL="+brain.URL(),
		"AGENT_ACTIVE_TIMEOUT=5s", "AGENT_SEND_INTERVAL=0.2", "AGENT_INGRESS_HOOK=tc")
	before := p.serverLink.Counters(t)
	frame := testnet.UDP("10.9.0.1:1000", "10.9.0.2:2000", 100).MACs(p.clientLink.MAC, p.serverLink.MAC).Bytes()
	begin := time.Now()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for now := range tick.C {
		p.clientLink.Send(t, frame)
		if now.Sub(begin) > length {
			break
		}
	}
	after := p.serverLink.Counters(t)
	a.terminate(t)

	var packets, bytes uint64
	deltas := 0
	var last time.Time
	for _, e := range brain.Events() {
		if e.SrcIP != "10.9.0.1" {
			continue // the answer of the closed port
		}
		packets += uint64(e.PacketCount)
		bytes += uint64(e.ByteCount)
		if e.EndReason == "active" {
			deltas++
		}
		if e.StartTime.Before(last) {
			t.Errorf("an event starts at %s, the one before it ended at %s", e.StartTime, last)
		}
		last = e.Timestamp
		if e.StartTime.Before(begin.Add(-time.Second)) || e.FlowDuration > 9 {
			t.Errorf("event from %s, %f s long", e.StartTime, e.FlowDuration)
		}
	}
	// A delta is due 5 s after its first packet, and found by the next sweep.
	if deltas < 3 || deltas > 6 {
		t.Errorf("%d deltas in %s with an active timeout of 5s", deltas, length)
	}
	if want := after.RxPackets - before.RxPackets; packets != want {
		t.Errorf("the parts sum to %d packets, the interface received %d", packets, want)
	}
	if want := after.RxBytes - before.RxBytes; bytes != want {
		t.Errorf("the parts sum to %d bytes, the interface received %d", bytes, want)
	}
}
