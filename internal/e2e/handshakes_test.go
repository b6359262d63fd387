package e2e

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"weir/internal/testbrain"
	"weir/internal/testnet"
)

// handshake is a TCP connection in which nothing but TLS's hellos is sent.
func handshake(g greetings) []testnet.Step {
	const client, server = "10.64.0.0:32768", "192.0.2.1:8443"
	step := func(answer bool, sequence uint32, flags uint8, payload []byte) testnet.Step {
		src, dst := client, server
		if answer {
			src, dst = server, client
		}
		segment := testnet.Segment{Sequence: sequence, Flags: flags, Window: 0xffff, Payload: payload}
		return testnet.Step{Frame: segment.Packet(src, dst).Bytes(), Answer: answer}
	}
	return []testnet.Step{
		step(false, 0, testnet.SYN, nil),
		step(true, 0, testnet.SYN|testnet.ACK, nil),
		step(false, 1, testnet.ACK, nil),
		step(false, 1, testnet.ACK|testnet.PSH, g.hello),
		step(true, 1, testnet.ACK|testnet.PSH, g.answer),
		step(false, 1+uint32(len(g.hello)), testnet.ACK|testnet.FIN, nil),
		step(true, 1+uint32(len(g.answer)), testnet.ACK|testnet.FIN, nil),
	}
}

// handshakes sums the events of connections.
type handshakes struct {
	greetings
	packets      int64
	clients      map[netip.AddrPort]bool
	ja4, ja4s    int // events that have it
	wrong, again int
}

func (h *handshakes) add(e *testbrain.Event) {
	client, err := netip.ParseAddrPort(e.SrcIP + ":" + e.SrcPort)
	if err != nil || h.clients[client] {
		h.again++
	}
	h.clients[client] = true
	h.packets += e.PacketCount + *e.ReversePacketCount
	count := func(got, want string, n *int) {
		switch got {
		case want:
			*n++
		case "":
		default:
			h.wrong++
		}
	}
	count(e.JA4, h.greetings.ja4, &h.ja4)
	count(e.JA4S, h.greetings.ja4s, &h.ja4s)
}

// TestHandshakes sends 50,000 TLS handshakes a second. Every packet is counted, and every event has both fingerprints, but for
// those whose samples are counted as dropped, or whose connections as forgotten.
func TestHandshakes(t *testing.T) {
	const rate = 50_000
	lasts := soakOr(30*time.Second, time.Second)
	tally := &handshakes{greetings: greet(t, tls.X25519), clients: map[netip.AddrPort]bool{}}
	steps := handshake(tally.greetings)
	near, far := testnet.NewNamespace(t), testnet.NewNamespace(t)
	out, _ := testnet.Veth(t, testnet.End{Namespace: near, Name: "out"}, testnet.End{Namespace: far, Name: "in"})
	talk := testnet.NewTalk(t, out, netip.MustParseAddr("10.64.0.0"), steps)
	brain := brainIn(t, far, testbrain.Options{OnEvent: tally.add})
	a := start(t, far, "AGENT_INTERFACE=in", "AGENT_INGRESS_HOOK=xdp", "AGENT_FINGERPRINTS=ja4,ja4s", "AGENT_FLOW_SHAPE=connection",
		"AGENT_MAX_FLOWS=524288", "AGENT_ENDPOINT_URL="+brain.URL(), "AGENT_SEND_INTERVAL=0.2")
	begin := time.Now()
	sendAt(t, talk, rate, after(lasts))
	took := time.Since(begin)
	if n := a.metric(t, "weir_flow_evictions_total"); n != 0 {
		t.Fatalf("%.0f connections were evicted: the agent had too little of the machine to read them in time", n)
	}

	frames, _ := talk.Sent()
	connections := int(frames) / len(steps)
	brain.WaitFor(t, connections, 4*lasts+20*time.Second)
	forgotten := a.metric(t, "weir_tracked_connections_evicted_total")
	limited := a.metric(t, `weir_samples_dropped_total{reason="rate"}`)
	full := a.metric(t, `weir_samples_dropped_total{reason="ring_full"}`)
	dropped := limited + full
	for series, want := range map[string]float64{
		`weir_seen_packets_total{hook="xdp_ingress"}`: float64(frames),
		"weir_counted_packets_total":                  float64(frames),
		"weir_exported_packets_total":                 float64(frames),
		"weir_flow_evictions_total":                   0,
		"weir_unaccounted_packets":                    0,
		"weir_samples_total":                          float64(2*connections) - dropped,
	} {
		testnet.Eventually(t, fmt.Sprintf("%s is %.0f", series, want), func() bool { return a.metric(t, series) == want })
	}
	perSecond := float64(connections) / took.Seconds()
	t.Logf("%.0f connections a second; of %d samples %.0f dropped for the rate, %.0f for want of room; %.0f forgotten; %s of a CPU",
		perSecond, 2*connections, limited, full, forgotten, a.processorTime(t))
	a.terminate(t)
	if len(tally.clients) != connections || tally.again != 0 || tally.packets != int64(frames) {
		t.Errorf("%d clients, %d of them again, %d packets, want %d clients, %d packets",
			len(tally.clients), tally.again, tally.packets, connections, frames)
	}
	missing := float64(2*connections - tally.ja4 - tally.ja4s)
	if tally.wrong != 0 || missing < dropped || missing > dropped+2*forgotten {
		t.Errorf("%d fingerprints are wrong, %.0f missing, want none wrong and missing those of %.0f samples that were dropped, and up "+
			"to two of each of %.0f connections that were forgotten", tally.wrong, missing, dropped, forgotten)
	}
	if soak && perSecond < 0.98*rate {
		t.Errorf("%.0f connections a second, want %d", perSecond, rate)
	}
}
