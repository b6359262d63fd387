package e2e

import (
	"fmt"
	"net"
	"testing"
	"time"

	"weir/internal/testbrain"
	"weir/internal/testnet"
)

// large is traffic that does not fit into ordinary frames.
type large struct {
	name         string
	hook         string
	mtu          int
	payload      int    // of a datagram
	four, six    sum    // a datagram on the wire, over either IP version
	transmission int    // bytes over TCP
	uncount      uint64 // bytes of a frame that the interface's counter leaves out
}

// TestLarge sends datagrams in fragments, all of which are their flow's, and jumbo frames. The Brain's sums are those of
// the interface at the other end, and of what was sent.
func TestLarge(t *testing.T) {
	for _, l := range []large{
		{"fragments, tc", "tc", 1500, 9000, fragments4, fragments6, 0, 0},
		{"fragments, XDP", "xdp", 1500, 9000, fragments4, fragments6, 0, 14}, // as a veth with XDP does
		{"jumbo frames, XDP", "xdp", 9000, 8000, sum{1, 14 + 20 + 8 + 8000}, sum{1, 14 + 40 + 8 + 8000}, 5 << 20, 14},
	} {
		t.Run(l.name, func(t *testing.T) {
			p := newPairOf(t, l.mtu)
			p.clientLink.SetOffloads(t, testnet.AllOffloads, false) // the interface counts a super-packet as one
			p.serverLink.SetOffloads(t, testnet.AllOffloads, false)
			brain := brainIn(t, p.server, testbrain.Options{})
			a := start(t, p.server, "AGENT_INTERFACE=server", "AGENT_INGRESS_HOOK="+l.hook,
				"AGENT_ENDPOINT_URL="+brain.URL(), "AGENT_SEND_INTERVAL=0.2")
			before := p.clientLink.Counters(t)
			want := l.send(t, p)
			if l.transmission > 0 {
				brain.WaitFor(t, 2, 20*time.Second) // the connection has ended
			}
			after := l.await(t, a, p, before, want)
			a.terminate(t)

			events := brain.Events()
			flows := sumFlows(events)
			for flow, of := range want {
				if flows[flow] != of {
					t.Errorf("flow %s has %+v, want %+v", flow, flows[flow], of)
				}
			}
			in, out := sumDirections(events)
			sent := after.TxPackets - before.TxPackets
			checkSum(t, "in", in, sent, after.TxBytes-before.TxBytes+l.uncount*sent)
			checkSum(t, "out", out, after.RxPackets-before.RxPackets, after.RxBytes-before.RxBytes)
		})
	}
}

// send sends from client to server, and returns what weir should tell of the datagrams, by flow.
func (l large) send(t *testing.T, p pair) map[string]sum {
	t.Helper()
	const datagrams = 50
	p.swallow(t, "10.9.0.2:2000", "[fd09::2]:2000")
	sendDatagrams(t, p.client, "10.9.0.1:1000", "10.9.0.2:2000", datagrams, l.payload)
	sendDatagrams(t, p.client, "[fd09::1]:1000", "[fd09::2]:2000", datagrams, l.payload)
	if l.transmission > 0 {
		if _, err := p.exchange(p.listen(t, "10.9.0.2:0", answerShorter), l.transmission); err != nil {
			t.Fatal(err)
		}
	}
	return map[string]sum{
		"10.9.0.1-10.9.0.2:2000-UDP": {datagrams * l.four.packets, datagrams * l.four.bytes},
		"fd09::1-fd09::2:2000-UDP":   {datagrams * l.six.packets, datagrams * l.six.bytes},
	}
}

// await waits until weir has seen every frame, and returns what the client's interface has counted then: with XDP, what the
// other end has taken.
func (l large) await(t *testing.T, a *agent, p pair, before testnet.Counters, want map[string]sum) (after testnet.Counters) {
	t.Helper()
	var least uint64
	for _, of := range want {
		least += of.packets
	}
	testnet.Eventually(t, "weir has seen every frame", func() bool {
		after = p.clientLink.Counters(t)
		seen := uint64(a.metric(t, fmt.Sprintf(`weir_seen_packets_total{hook="%s_ingress"}`, l.hook)))
		return seen >= least && seen == after.TxPackets-before.TxPackets
	})
	return after
}

// A datagram of 9,000 bytes in fragments: UDP's header is in the first only, IP's in each.
var (
	fragments4 = sum{7, 8 + 9000 + 7*(14+20)}
	fragments6 = sum{7, 8 + 9000 + 7*(14+40+8)}
)

// sumDirections sums events by their direction.
func sumDirections(events []testbrain.Event) (in, out sum) {
	for _, e := range events {
		way := &out
		if e.Direction == "inbound" {
			way = &in
		}
		way.packets += uint64(e.PacketCount)
		way.bytes += uint64(e.ByteCount)
	}
	return in, out
}

// swallow takes datagrams at addresses of the server, which would be answered by ICMP otherwise.
func (p pair) swallow(t *testing.T, addrs ...string) {
	t.Helper()
	for _, addr := range addrs {
		err := p.server.Do(func() error {
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
}
