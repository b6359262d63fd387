package datapath

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// allSamples is every Samples but certificates, which change what TLS is.
const allSamples = SampleHandshakes | SampleTLS | SampleHTTP | SampleSSH | SampleQUIC | SampleDHCP

// step is a segment of one end of a connection. Its sequence number counts from that of the SYN.
type step struct {
	server  bool
	at      uint32
	flags   uint8
	payload []byte
}

// sampled is what is checked of a sample.
type sampled struct {
	server bool
	offset uint32
	data   []byte
}

const firstSequence = 0xfffffc00 // the numbers wrap around soon

func (s step) frame(client, server string) []byte {
	segment := testnet.Segment{Sequence: firstSequence + s.at, Flags: s.flags, Window: 1000, Payload: s.payload}
	if s.server {
		return segment.Packet(server, client).Bytes()
	}
	return segment.Packet(client, server).Bytes()
}

// says is a segment with payload.
func says(server bool, at int, payload []byte) step {
	return step{server, uint32(1 + at), testnet.ACK | testnet.PSH, payload}
}

// opened is the handshake, and then the steps.
func opened(steps ...step) []step {
	return append([]step{
		{false, 0, testnet.SYN, nil}, {true, 0, testnet.SYN | testnet.ACK, nil}, {false, 1, testnet.ACK, nil},
	}, steps...)
}

// record is a TLS record with so many bytes behind its header.
func record(kind, message uint8, size int) []byte {
	b := binary.BigEndian.AppendUint16([]byte{kind, 3, 3}, uint16(size))
	b = append(b, message, 0, uint8((size-4)>>8), uint8(size-4))
	for len(b) < 5+size {
		b = append(b, byte(len(b)))
	}
	return b
}

// samples returns what is in the ring.
func (k kernel) samples(t testing.TB) (all []flow.Sample, lengths []flow.Lengths) {
	t.Helper()
	if err := k.ReadSamples(func(s *flow.Sample) {
		s.Data = bytes.Clone(s.Data)
		all = append(all, *s)
	}, func(l *flow.Lengths) {
		for i := range l.Payloads {
			l.Payloads[i] = slices.Clone(l.Payloads[i])
		}
		lengths = append(lengths, *l)
	}); err != nil {
		t.Fatal(err)
	}
	return all, lengths
}

// checkSamples compares samples of a connection. The client is the lower end.
func checkSamples(t *testing.T, got []flow.Sample, want []sampled, src, dst string, kind flow.SampleKind) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d samples, want %d", len(got), len(want))
	}
	protocol := uint8(tcp)
	if kind == flow.SampleDatagram {
		protocol = udp
	}
	wantKey, _ := key(src, dst, protocol)
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		if g.Key != wantKey || g.Kind != kind || (g.End == 1) != w.server || g.TTL != 64 || g.TimeNs == 0 {
			t.Errorf("sample %d: %+v", i, g)
		}
		if g.Offset != w.offset || !bytes.Equal(g.Data, w.data) {
			t.Errorf("sample %d: %d bytes at %d, want %d at %d", i, len(g.Data), g.Offset, len(w.data), w.offset)
		}
	}
}

type streamRow struct {
	name  string
	steps []step
	want  []sampled
}

func plainStreams() []streamRow {
	hello, answer := record(22, 1, 512), record(22, 2, 122)
	long, large := record(22, 1, 3000), record(22, 1, 9000)
	a, b, c := says(false, 0, long[:1460]), says(false, 1460, long[1460:2920]), says(false, 2920, long[2920:])
	inA, inB, inC := sampled{false, 0, long[:1460]}, sampled{false, 1460, long[1460:2920]}, sampled{false, 2920, long[2920:]}
	more := bytes.Repeat([]byte{23}, 600)
	return []streamRow{
		{
			"hellos, cut where they end",
			opened(says(false, 0, hello), says(true, 0, slices.Concat(answer, more)), says(false, len(hello), hello)),
			[]sampled{{false, 0, hello}, {true, 0, answer}},
		},
		{"three segments", opened(a, b, c, says(false, len(long), more)), []sampled{inA, inB, inC}},
		{"reordered", opened(b, a, c, says(false, len(long), hello)), []sampled{inB, inA, inC}},
		{"backwards", opened(c, b, a, says(false, len(long), hello)), []sampled{inC, inB, inA}},
		{"a gap, closed last", opened(a, c, b, says(false, len(long), hello)), []sampled{inA, inC, inB}},
		{"sent again", opened(a, a, b, c, c), []sampled{inA, inA, inB, inC}},
		{"the SYN was not seen", []step{a, b, c}, []sampled{inA, inB, inC}},
		{"neither a SYN nor a beginning", []step{b, c}, nil},
		{"one byte first", opened(says(false, 0, hello[:1]), says(false, 1, hello[1:])), []sampled{
			{false, 0, hello[:1]}, {false, 1, hello[1:]},
		}},
		{
			"longer than is copied",
			opened(says(false, 0, large[:3000]), says(false, 3000, large[3000:6000]), says(false, 9005, hello)),
			[]sampled{{false, 0, large[:3000]}, {false, 3000, large[3000:4096]}},
		},
		{
			"in two records",
			opened(says(false, 0, slices.Concat(hello[:5], []byte{1, 0, 8, 0}, hello[9:])), says(false, len(hello), more)),
			[]sampled{{false, 0, slices.Concat(hello[:5], []byte{1, 0, 8, 0}, hello[9:])}, {false, uint32(len(hello)), more}},
		},
		{"data with the SYN", []step{{false, 0, testnet.SYN, hello}}, []sampled{{false, 0, hello}}},
		{"the SYN came twice", opened(step{false, 0, testnet.SYN, nil}, a, b, c), []sampled{inA, inB, inC}},
		{
			"the same ports again",
			opened(says(false, 0, hello), step{true, 1, testnet.RST, nil},
				step{false, 50000, testnet.SYN, nil}, step{false, 50001, testnet.ACK, hello}),
			[]sampled{{false, 0, hello}, {false, 0, hello}},
		},
		{
			"the same ports again, without an end",
			slices.Concat(opened(says(false, 0, hello)), []step{
				{false, 0, testnet.SYN, nil},
				says(false, 0, hello), // the first connection's, once more
				{false, 50000, testnet.SYN, nil},
				{true, 70000, testnet.SYN | testnet.ACK, nil},
				{false, 50001, testnet.ACK, hello},
				{true, 70001, testnet.ACK, answer},
			}),
			[]sampled{{false, 0, hello}, {false, 0, hello}, {true, 0, answer}},
		},
		{"nothing known", opened(says(false, 0, more), says(true, 0, more)), nil},
		{
			"behind plain text",
			opened(says(false, 0, more), says(false, 600, more), says(false, 1200, hello), says(false, 1800, hello)),
			[]sampled{{false, 1200, hello}},
		},
		{"long behind plain text", opened(append(repeat(8, more), says(false, 8*600, hello))...), nil},
	}
}

// inPieces is what the client says in segments of such a size.
func inPieces(all []byte, size int) (steps []step) {
	for at := 0; at < len(all); at += size {
		steps = append(steps, says(false, at, all[at:min(at+size, len(all))]))
	}
	return steps
}

// repeat is the same payload over and over.
func repeat(times int, payload []byte) (steps []step) {
	for i := range times {
		steps = append(steps, says(false, i*len(payload), payload))
	}
	return steps
}

// TestStreamSamples copies of TCP streams what begins them, if it is known, from every hook.
func TestStreamSamples(t *testing.T) {
	for _, hook := range hooks {
		k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: allSamples})
		for i, row := range slices.Concat(plainStreams(), requestStreams(), requestPieces()) {
			t.Run(hook+"/"+row.name, func(t *testing.T) {
				src := fmt.Sprint("10.0.0.1:", 40000+i)
				for _, s := range row.steps {
					k.run(t, hook, s.frame(src, server), nil)
				}
				got, _ := k.samples(t)
				checkSamples(t, got, row.want, src, server, flow.SampleStream)
			})
		}
		if l := k.ledger(t); l.Samples == 0 || l.SamplesFull != 0 || l.SamplesLimited != 0 {
			t.Errorf("%s: %d samples, %d and %d left out", hook, l.Samples, l.SamplesFull, l.SamplesLimited)
		}
	}
}

// TestCertificates follows the flights of either end as far as they are not encrypted.
func TestCertificates(t *testing.T) {
	hello, chain, done := record(22, 2, 80), record(22, 11, 3000), record(22, 14, 4)
	asked, answer := record(22, 1, 200), slices.Concat(record(22, 11, 900), record(22, 16, 60), record(22, 15, 100))
	change, encrypted := []byte{20, 3, 3, 0, 1, 1}, record(23, 0, 2000)
	flight := slices.Concat(hello, chain, done)
	long := slices.Concat(hello, record(22, 11, 20000))
	var pieces []step
	var copied []sampled
	for at := 0; at < 18000; at += 3000 {
		pieces = append(pieces, says(true, at, long[at:at+3000]))
		copied = append(copied, sampled{true, uint32(at), long[at:min(at+3000, 16384)]})
	}
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: SampleTLS | SampleCertificates})
	for i, row := range []streamRow{
		{
			"TLS 1.2", opened(says(true, 0, flight[:1460]), says(true, 1460, flight[1460:]),
				says(true, len(flight), change), says(true, len(flight)+6, hello)),
			[]sampled{{true, 0, flight[:1460]}, {true, 1460, flight[1460:]}},
		},
		{
			"TLS 1.3", opened(says(true, 0, slices.Concat(hello, change, encrypted)), says(true, len(hello)+6+2005, hello)),
			[]sampled{{true, 0, hello}},
		},
		{
			"a client's", opened(says(false, 0, asked), says(false, len(asked), slices.Concat(answer, change, encrypted)),
				says(false, len(asked)+len(answer)+6+2005, asked)),
			[]sampled{{false, 0, asked}, {false, uint32(len(asked)), answer}},
		},
		{
			"a client without any", opened(says(false, 0, asked[:9]), says(false, 9, asked[9:]),
				says(false, len(asked), slices.Concat(change, encrypted)), says(false, len(asked)+6+2005, asked)),
			[]sampled{{false, 0, asked[:9]}, {false, 9, asked[9:]}},
		},
		{
			"longer than is copied", opened(pieces...), copied,
		},
		{
			"the hello was not seen",
			[]step{says(true, 0, slices.Concat(chain, done, change))},
			[]sampled{{true, 0, slices.Concat(chain, done)}},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			src := fmt.Sprint("10.0.0.1:", 40000+i)
			for _, s := range row.steps {
				k.run(t, kernelProgTcIngress, s.frame(src, server), nil)
			}
			got, _ := k.samples(t)
			checkSamples(t, got, row.want, src, server, flow.SampleStream)
		})
	}
}

// TestSampledAnywhere finds a hello behind whatever headers, and in a super-packet.
func TestSampledAnywhere(t *testing.T) {
	hello := record(22, 1, 512)
	k := newKernelWith(t, Config{
		MaxFlows: 1024, Sampling: 1, VLANZones: true, Samples: SampleTLS, Decap: map[flow.TunnelKind]uint16{flow.TunnelIPIP: 0},
	})
	segment := testnet.Segment{Sequence: 1, Flags: testnet.ACK, Options: make([]byte, 12), Payload: hello}
	plain := segment.Packet("10.0.0.1:1000", "10.0.0.2:443")
	for name, row := range map[string]struct {
		frame []byte
		zone  uint16
		meta  *skb
	}{
		"IPv4":         {plain.Bytes(), 0, nil},
		"VLAN":         {segment.Packet("10.0.0.1:1001", "10.0.0.2:443").VLAN(7).Bytes(), 7, nil},
		"two tags":     {segment.Packet("10.0.0.1:1002", "10.0.0.2:443").VLAN(8, 9).Bytes(), 8, nil},
		"IPv4 options": {segment.Packet("10.0.0.1:1003", "10.0.0.2:443").IPOptions(40).Bytes(), 0, nil},
		"IPv6":         {segment.Packet("[fd00::1]:1000", "[fd00::2]:443").Bytes(), 0, nil},
		"extensions":   {segment.Packet("[fd00::1]:1001", "[fd00::2]:443").Extension(testnet.HopByHop, 8).Bytes(), 0, nil},
		"padded":       {append(segment.Packet("10.0.0.1:1004", "10.0.0.2:443").Bytes(), 9, 9, 9, 9), 0, nil},
		"in a tunnel":  {testnet.IP("192.0.2.1", "192.0.2.2", 4, plain.Bytes()[14:]).Bytes(), 4096, nil},
		"super-packet": {segment.Packet("10.0.0.1:1005", "10.0.0.2:443").Bytes(), 0, &skb{GSOSize: 100, GSOSegs: 6}},
	} {
		k.run(t, kernelProgTcIngress, row.frame, row.meta)
		got, _ := k.samples(t)
		if len(got) != 1 || !bytes.Equal(got[0].Data, hello) || got[0].Key.Zone != row.zone || got[0].TTL != 64 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	fragments := segment.Packet("10.0.0.1:1007", "10.0.0.2:443").Fragments(400)
	for _, frame := range fragments {
		k.run(t, kernelProgTcIngress, frame, nil)
	}
	if got, _ := k.samples(t); len(got) != 0 {
		t.Errorf("fragments gave %+v", got)
	}
}

// initial is a datagram that looks like a QUIC Initial packet to who cannot decrypt it.
func initial(first uint8, version uint32, size int) []byte {
	b := binary.BigEndian.AppendUint32([]byte{first}, version)
	return append(b, bytes.Repeat([]byte{7}, size-len(b))...)
}

// TestDatagramSamples copies the Initial datagrams of QUIC, and DHCP.
func TestDatagramSamples(t *testing.T) {
	const v1, v2 = 1, 0x6b3343cf
	first, second := initial(0xc3, v1, 1250), initial(0xd3, v2, 1250)
	handshake, short := initial(0xe3, v1, 1250), initial(0x43, v1, 50)
	small := initial(0xc3, v1, 300)
	type datagram struct {
		server bool
		data   []byte
	}
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: SampleQUIC | SampleDHCP | SampleHandshakes})
	for i, row := range []struct {
		name      string
		datagrams []datagram
		want      []sampled
	}{
		{"version 1", []datagram{{false, first}, {true, first}}, []sampled{{false, 0, first}, {true, 0, first}}},
		{"version 2", []datagram{{false, second}}, []sampled{{false, 0, second}}},
		{"type of the other version", []datagram{{false, initial(0xd3, v1, 1250)}, {true, initial(0xc3, v2, 1250)}}, nil},
		{"another version first", []datagram{{false, initial(0xc3, 99, 1250)}, {false, first}}, []sampled{{false, 0, first}}},
		{"small, from either end", []datagram{{false, small}, {true, small}}, []sampled{{true, 0, small}}},
		{
			"four of each end",
			[]datagram{{false, first}, {false, first}, {true, first}, {false, first}, {false, first}, {false, first}},
			[]sampled{{false, 0, first}, {false, 0, first}, {true, 0, first}, {false, 0, first}, {false, 0, first}},
		},
		{"before a handshake packet", []datagram{{false, first}, {false, handshake}}, []sampled{{false, 0, first}}},
		{"behind a handshake packet", []datagram{{true, handshake}, {true, first}}, []sampled{{true, 0, first}}},
		{"not behind a short header", []datagram{{false, short}, {false, first}}, nil},
		{"cut", []datagram{{false, initial(0xc3, v1, 2000)}}, []sampled{{false, 0, initial(0xc3, v1, 2000)[:1500]}}},
		{"other contents", []datagram{{false, make([]byte, 1250)}, {true, nil}}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			src := fmt.Sprint("10.0.0.1:", 40000+i)
			for _, d := range row.datagrams {
				from, to := src, server
				if d.server {
					from, to = to, from
				}
				k.run(t, kernelProgTcEgress, testnet.Datagram(from, to, d.data).Bytes(), nil)
			}
			got, _ := k.samples(t)
			checkSamples(t, got, row.want, src, server, flow.SampleDatagram)
		})
	}
	t.Run("super-packet", func(t *testing.T) {
		data := slices.Concat(first[:900], handshake[:900], second[:700])
		k.run(t, kernelProgTcEgress, testnet.Datagram("10.0.0.1:999", server, nil).Bytes(), nil)
		k.run(t, kernelProgTcEgress, testnet.Datagram(server, "10.0.0.1:999", data).Bytes(), &skb{GSOSize: 900, GSOSegs: 3, WireLen: 3000})
		got, _ := k.samples(t)
		checkSamples(t, got, []sampled{{true, 0, first[:900]}, {true, 0, second[:700]}}, "10.0.0.1:999", server, flow.SampleDatagram)
	})
}

// TestQUICHandshake copies the beginnings of Handshake datagrams too, where it is asked when they come.
func TestQUICHandshake(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: SampleQUIC | SampleQUICTimes})
	first, handshake := initial(0xc3, 1, 1250), initial(0xe3, 1, 300)
	for _, d := range [][]byte{handshake, first, first, first, first, first, handshake, initial(0x43, 1, 50), handshake} {
		k.run(t, kernelProgXdpIngress, testnet.Datagram(client, server, d).Bytes(), nil)
	}
	got, _ := k.samples(t)
	want := append(slices.Repeat([]sampled{{false, 0, first}}, 4), sampled{false, 0, handshake[:16]})
	checkSamples(t, got, want, client, server, flow.SampleDatagram)
}

// TestDHCP copies 64 datagrams of DHCP of each end in a second: all clients that have no address yet are one connection, and it
// does not end.
func TestDHCP(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Replay: true, Samples: SampleDHCP})
	const aSecond, most = 70, 64
	for _, ends := range [][2]string{
		{"0.0.0.0:68", "255.255.255.255:67"},
		{"10.0.0.1:67", "10.0.0.2:67"},
		{"10.0.0.3:68", "10.0.0.4:4011"},
		{"[fe80::1]:546", "[ff02::1:2]:547"},
	} {
		for n := range 3 * aSecond {
			data := []byte(strings.Repeat("x", 300+n))
			frame := testnet.Datagram(ends[0], ends[1], data).Bytes()
			atMs := 5000 + uint64(n/aSecond)*1000 + uint64(n%aSecond)
			if err := k.Replay(&Frame{frame, uint32(len(frame)), atMs * ms, 1}); err != nil {
				t.Fatal(err)
			}
			got, _ := k.samples(t)
			want := []sampled{{false, 0, data}}
			if n%aSecond >= most {
				want = nil
			}
			checkSamples(t, got, want, ends[0], ends[1], flow.SampleDatagram)
		}
	}
	k.run(t, kernelProgTcIngress, testnet.UDP("10.0.0.1:1068", "10.0.0.2:1067", 300).Bytes(), nil)
	if got, _ := k.samples(t); len(got) != 0 {
		t.Errorf("other ports gave %+v", got)
	}
}

// TestSampleOrigin tells which of the connections between the same ports, one after the other, a piece is of.
func TestSampleOrigin(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: SampleTLS})
	hello := record(22, 1, 512)
	for _, s := range []step{
		{false, 0, testnet.SYN, nil},
		says(false, 0, hello[:100]), says(false, 100, hello[100:]),
		{false, 50000, testnet.SYN, nil},
		says(false, 50000, hello),
	} {
		k.run(t, kernelProgXdpIngress, s.frame(client, server), nil)
	}
	got, _ := k.samples(t)
	var origins []uint32
	for _, s := range got {
		origins = append(origins, s.Origin-firstSequence)
	}
	if want := []uint32{1, 1, 50001}; !slices.Equal(origins, want) {
		t.Errorf("origins %d behind the first SYN, want %d", origins, want)
	}
}
