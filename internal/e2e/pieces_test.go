package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"slices"
	"testing"

	"github.com/quic-go/quic-go"

	"weir/internal/testbrain"
	"weir/internal/testnet"
)

// span is a part of a ClientHello, by bytes from its beginning.
type span struct{ from, to int }

// pieces is a way in which a hello comes. Nobody answers.
type pieces struct {
	name     string
	hello    []byte // TLS records, or nil for QUIC
	spans    []span
	sequence uint32   // of the SYN
	midway   bool     // there was no SYN
	tags     []uint16 // of VLANs
	v6       bool

	datagrams [][]byte // of QUIC

	ja4 string // none if the hello does not become whole
}

// frames are those of the client, whose port is its own.
func (p *pieces) frames(port int) (frames [][]byte) {
	src, dst := p.ends(port)
	send := func(packet testnet.Packet) { frames = append(frames, packet.VLAN(p.tags...).Bytes()) }
	for _, d := range p.datagrams {
		send(testnet.Datagram(src, dst, d))
	}
	if p.hello == nil {
		return frames
	}
	if !p.midway {
		send(testnet.Segment{Sequence: p.sequence, Flags: testnet.SYN}.Packet(src, dst))
	}
	for _, s := range p.spans {
		send(testnet.Segment{
			Sequence: p.sequence + 1 + uint32(s.from), Flags: testnet.ACK | testnet.PSH, Payload: p.hello[s.from:s.to],
		}.Packet(src, dst))
	}
	return frames
}

// ends are addresses that nobody has.
func (p *pieces) ends(port int) (src, dst string) {
	if p.v6 {
		return fmt.Sprintf("[fd09::65]:%d", port), "[fd09::66]:8443"
	}
	return fmt.Sprintf("10.9.0.101:%d", port), "10.9.0.102:8443"
}

// inRecords is a hello in TLS records of so many bytes each.
func inRecords(hello []byte, size int) (records []byte) {
	const header = 5
	for part := range slices.Chunk(hello[header:], size) {
		length := []byte{byte(len(part) >> 8), byte(len(part))}
		records = slices.Concat(records, hello[:header-len(length)], length, part)
	}
	return records
}

// split cuts so many bytes into parts.
func split(size, parts int) (spans []span) {
	for i := range parts {
		spans = append(spans, span{size * i / parts, size * (i + 1) / parts})
	}
	return spans
}

// everyOther returns every second one, from one on.
func everyOther(spans []span, from int) (some []span) {
	for i := from; i < len(spans); i += 2 {
		some = append(some, spans[i])
	}
	return some
}

// overTCP are the ways in which a hello comes in segments.
func overTCP(t *testing.T) []pieces {
	t.Helper()
	met := greet(t, tls.X25519MLKEM768)
	hello, ja4 := met.hello, met.ja4
	end := len(hello)
	if end < 1400 {
		t.Fatalf("the hello has %d bytes, want it post-quantum", end)
	}
	whole, two := []span{{0, end}}, []span{{0, 1000}, {1000, end}}
	three := []span{{0, 500}, {500, 1000}, {1000, end}}
	reversed := slices.Clone(three)
	slices.Reverse(reversed)
	eight, records := split(end, 8), inRecords(hello, 600)
	rows := []pieces{
		{name: "in one segment", spans: whole},
		{name: "in one segment over IPv6", spans: whole, v6: true},
		{name: "in one segment with a tag", spans: whole, tags: []uint16{7}},
		{name: "in two", spans: two},
		{name: "in two with two tags over IPv6", spans: two, tags: []uint16{8, 9}, v6: true},
		{name: "in two, without a SYN", spans: two, midway: true},
		{name: "in two, the second first", spans: []span{two[1], two[0]}},
		{name: "in two, numbers wrapping around", spans: two, sequence: math.MaxUint32 - 800},
		{name: "in two, the first of few bytes", spans: []span{{0, 3}, {3, end}}},
		{name: "in three", spans: three},
		{name: "in three, backwards", spans: reversed},
		{name: "in three, the second last", spans: []span{three[0], three[2], three[1]}},
		{name: "in three, each twice", spans: slices.Concat(three, three)},
		{name: "in three, the first again before the last", spans: []span{three[0], three[1], three[0], three[2]}},
		{name: "in three that overlap", spans: []span{{0, 700}, {400, 1100}, {900, end}}},
		{name: "in three that overlap, backwards", spans: []span{{900, end}, {400, 1100}, {0, 700}}},
		{name: "in eight, every other one late", spans: slices.Concat(everyOther(eight, 0), everyOther(eight, 1))},
		{name: "in forty", spans: split(end, 40)},
		{name: "behind a command", hello: append([]byte("STARTTLS\r\n"), hello...), spans: []span{{0, 10}, {10, 1000}, {1000, 10 + end}}},
		{name: "in three records", hello: records, spans: []span{{0, 800}, {800, len(records)}}},
	}
	for i := range rows {
		rows[i].ja4 = ja4
	}
	rows = append(rows, pieces{name: "without its end", spans: []span{{0, end - 1}}},
		pieces{name: "without its middle", spans: []span{three[0], three[2]}})
	for i := range rows {
		if rows[i].hello == nil {
			rows[i].hello = hello
		}
	}
	return rows
}

// overUDP are the ways in which a hello comes in QUIC's datagrams, as a client sent them to a server.
func overUDP(t *testing.T, p pair) []pieces {
	t.Helper()
	t.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true") // of a socket that is not the kernel's
	host := quicHost{hellos: map[string]*tls.ClientHelloInfo{}}
	server := udpIn(t, p.server, "10.9.0.2:0")
	host.serve(t, server)
	client := &opening{PacketConn: udpIn(t, p.client, "10.9.0.1:0"), complete: make(chan struct{})}
	talkQUIC(t, client, server.LocalAddr(), quic.Version1)
	first, ja4 := client.sent, ja4Of("q", host.hello(client.LocalAddr()))
	return []pieces{
		{name: "QUIC", datagrams: first, ja4: ja4},
		{name: "QUIC over IPv6", datagrams: first, v6: true, ja4: ja4},
		{name: "QUIC with a tag", datagrams: first, tags: []uint16{7}, ja4: ja4},
		{name: "QUIC, the second first", datagrams: [][]byte{first[1], first[0]}, ja4: ja4},
		{name: "QUIC, the first twice", datagrams: [][]byte{first[0], first[0], first[1]}, ja4: ja4},
		{name: "QUIC, the first only", datagrams: first[:1]},
	}
}

// helloDatagrams is how many a hello takes with a post-quantum key.
const helloDatagrams = 2

// opening is a socket of a client that keeps the datagrams of its hello, and hears of no answer before they are sent.
type opening struct {
	net.PacketConn
	sent     [][]byte
	complete chan struct{}
}

func (o *opening) WriteTo(b []byte, to net.Addr) (int, error) {
	if len(o.sent) < helloDatagrams {
		if o.sent = append(o.sent, bytes.Clone(b)); len(o.sent) == helloDatagrams {
			close(o.complete)
		}
	}
	return o.PacketConn.WriteTo(b, to)
}

func (o *opening) ReadFrom(b []byte) (int, net.Addr, error) {
	<-o.complete
	return o.PacketConn.ReadFrom(b)
}

// TestPieces sends hellos in pieces: what comes to be whole has the fingerprint of the whole, and what does not has none.
func TestPieces(t *testing.T) {
	for _, hook := range []string{"xdp", "tc"} {
		t.Run(hook, func(t *testing.T) {
			p := newPairOf(t, 3000) // for a hello in one segment
			rows := slices.Concat(overTCP(t), overUDP(t, p))
			brain := brainIn(t, p.server, testbrain.Options{})
			a := start(t, p.server, "AGENT_INTERFACE=server", "AGENT_INGRESS_HOOK="+hook, "AGENT_ENDPOINT_URL="+brain.URL())
			sent := 0
			for i := range rows {
				frames := rows[i].frames(firstPort + i)
				p.clientLink.Send(t, frames...)
				sent += len(frames)
			}
			testnet.Eventually(t, "weir has seen every frame", func() bool {
				return a.metric(t, fmt.Sprintf(`weir_seen_packets_total{hook="%s_ingress"}`, hook)) >= float64(sent)
			})
			a.terminate(t)
			checkPieces(t, brain.Events(), rows)
		})
	}
}

const firstPort = 40000 // of the clients of TestPieces, one for each row

func checkPieces(t *testing.T, events []testbrain.Event, rows []pieces) {
	t.Helper()
	got := map[string]testbrain.Identity{}
	for _, e := range events {
		got[e.SrcIP+" "+e.SrcPort] = e.Identity
	}
	for i, row := range rows {
		src, _ := row.ends(firstPort + i)
		host, port, _ := net.SplitHostPort(src)
		identity, ok := got[host+" "+port]
		name := serverName
		if row.ja4 == "" {
			name = ""
		}
		if !ok || identity.JA4 != row.ja4 || identity.TLSServerName != name {
			t.Errorf("%s: %q of %q, want %q of %q", row.name, identity.JA4, identity.TLSServerName, row.ja4, name)
		}
	}
	if len(got) != len(rows) {
		t.Errorf("%d flows, want %d", len(got), len(rows))
	}
}
