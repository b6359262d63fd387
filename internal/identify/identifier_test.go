package identify

import (
	"crypto/tls"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"weir/internal/flow"
	"weir/internal/known"
)

var (
	lower  = netip.MustParseAddrPort("192.0.2.1:40000")
	higher = netip.MustParseAddrPort("192.0.2.2:443")
)

// fixture is an Identifier, and the time by its clock.
type fixture struct {
	*Identifier
	t     testing.TB
	nowNs uint64
}

// files are what is known beforehand.
type files struct {
	database, bad string
	learn         time.Duration
}

func newFixture(t testing.TB, of files, methods ...flow.Method) *fixture {
	t.Helper()
	f := &fixture{t: t, nowNs: uint64(time.Hour)}
	dir := t.TempDir()
	cfg := known.Config{Learn: of.learn, DatabasePath: filepath.Join(dir, "database"), BadPath: filepath.Join(dir, "bad")}
	for path, text := range map[string]string{cfg.DatabasePath: "Application,ja4,ja4s,ja4t\n" + of.database, cfg.BadPath: of.bad} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k, err := known.New(cfg, zap.NewNop(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Load(f.wall()); err != nil {
		t.Fatal(err)
	}
	f.Identifier, err = New(Config{
		Methods: methods, Connections: 4096, TCPIdle: time.Minute, OtherIdle: time.Minute, Known: k,
	}, func() (uint64, time.Time) { return f.nowNs, f.wall() }, prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) wall() time.Time { return time.Unix(1_000_000, int64(f.nowNs)) }

// key is a connection to a port of the higher end.
func keyTo(port uint16) flow.Key {
	return flow.Key{Ends: [2]netip.AddrPort{lower, netip.AddrPortFrom(higher.Addr(), port)}, Protocol: 6}
}

// send gives the streams of both ends, in segments of so many bytes.
func (f *fixture) send(k flow.Key, streams [2][]byte, size int) {
	for end, stream := range streams {
		for _, s := range piecesOf(uint8(end), stream, size) {
			s.Key, s.TimeNs = k, f.nowNs
			f.Sample(&s)
		}
	}
}

// ended is the last record of a connection that the lower end opened.
func (f *fixture) ended(k flow.Key) *flow.Record {
	half := flow.Half{Packets: 10, Bytes: 5000, FirstNs: f.nowNs, LastNs: f.nowNs}
	return &flow.Record{
		Key: k, Halves: [2]flow.Half{half, half}, Initiator: flow.InitiatorEnd0, EndReason: flow.EndFIN, SamplingRate: 1,
		Handshake: &flow.Handshake{
			SYN:    flow.Opening{TimeNs: f.nowNs, Window: 64240, TTL: 64, Options: []byte{1, 2, 4, 1460 >> 8, 1460 & 0xff}},
			SYNACK: flow.Opening{TimeNs: f.nowNs + 2000, Window: 65535, TTL: 60},
			ACKNs:  f.nowNs + 5000,
		},
	}
}

// goHellos are what Go's client and server say to each other by TLS 1.3.
func goHellos(t testing.TB) [2][]byte {
	t.Helper()
	return handshake(t, &tls.Config{NextProtos: []string{"h2"}}, &tls.Config{NextProtos: []string{"h2"}})
}

func TestDescribe(t *testing.T) {
	f := newFixture(t, files{learn: time.Hour}, flow.JA4, flow.JA4Raw, flow.JA4S, flow.JA4T, flow.JA4L)
	for _, size := range []int{1 << 16, 700} {
		f.send(keyTo(443), goHellos(t), size)
		got := *f.Describe(f.ended(keyTo(443)))
		ja4, raw, ja4s := got.Fingerprints[flow.JA4], got.Fingerprints[flow.JA4Raw], got.Fingerprints[flow.JA4S]
		if len(ja4) != 1 || !strings.HasPrefix(ja4[0], "t13d") || len(raw) != 1 || !strings.HasPrefix(raw[0], ja4[0][:10]) || len(ja4s) != 1 {
			t.Errorf("JA4 %q, raw %q, JA4S %q", ja4, raw, ja4s)
		}
		want := flow.Identity{
			ServerName: "www.example", ALPN: "h2", TLSVersion: "1.3", MSS: 1460, HandshakeRTT: 5 * time.Microsecond,
		}
		want.Fingerprints[flow.JA4], want.Fingerprints[flow.JA4Raw], want.Fingerprints[flow.JA4S] = ja4, raw, ja4s
		want.Fingerprints[flow.JA4T], want.Fingerprints[flow.JA4L] = []string{"64240_1-2_1460_00"}, []string{"1_64"}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("in segments of %d bytes:\n got %+v\nwant %+v", size, got, want)
		}
		if f.table.Count() != 0 || len(f.talks) != 0 || f.held != 0 || f.holding.Len() != 0 {
			t.Errorf("%d connections, %d talks with %d bytes are left", f.table.Count(), len(f.talks), f.held)
		}
	}
	if n := testutil.ToFloat64(f.metrics.fingerprints[flow.JA4]); n != 2 {
		t.Errorf("%v JA4 counted, want 2", n)
	}
	if n := testutil.ToFloat64(f.metrics.evicted); n != 0 {
		t.Errorf("%v connections counted as evicted", n)
	}
}

// TestDescribeNothing: a connection of which nothing was sampled costs nothing.
func TestDescribeNothing(t *testing.T) {
	f := newFixture(t, files{}, flow.JA4)
	f.send(keyTo(443), goHellos(t), 1<<16)
	r := f.ended(keyTo(80))
	r.Handshake = nil
	if got := f.Describe(r); got != nil {
		t.Errorf("described %+v", got)
	}
	if n := testing.AllocsPerRun(100, func() { f.Describe(r) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if got := newFixture(t, files{}).Describe(f.ended(keyTo(80))); got != nil {
		t.Errorf("described %+v, with no method on", got)
	}
}

// TestGoesOn: each part of a connection tells what is new or, if nothing is, the same again.
func TestGoesOn(t *testing.T) {
	f := newFixture(t, files{}, flow.JA4H)
	const one, two = "GET /one HTTP/1.1\r\nHost: a\r\n\r\n", "POST /two HTTP/1.1\r\nHost: a\r\n\r\n"
	const ja4h1, ja4h2 = "ge11nn010000", "po11nn010000"
	offset := 0
	for i, part := range []struct{ sent, want []string }{
		{[]string{one, one}, []string{ja4h1}},
		{nil, []string{ja4h1}},
		{[]string{two}, []string{ja4h2}},
		{[]string{one, two}, []string{ja4h1, ja4h2}},
	} {
		for _, text := range part.sent {
			f.Sample(&flow.Sample{Key: keyTo(80), Offset: uint32(offset), Data: []byte(text), TimeNs: f.nowNs})
			offset += len(text)
		}
		r := f.ended(keyTo(80))
		r.EndReason = flow.EndActive
		var got []string
		for _, value := range f.Describe(r).Fingerprints[flow.JA4H] {
			got = append(got, value[:len(ja4h1)])
		}
		if !slices.Equal(got, part.want) {
			t.Errorf("part %d: %q, want %q", i, got, part.want)
		}
	}
	if c := f.table.Find(keyTo(80)); c == nil || f.table.Count() != 1 || c.PacketCount != 4*20 || c.ByteCount != 4*10_000 {
		t.Errorf("%d connections, %+v, want the one that goes on, with all that its records counted", f.table.Count(), c)
	}
}

// TestPortsAgain: a connection between the ports of another one tells nothing of what that one said, but that it said something else.
func TestPortsAgain(t *testing.T) {
	f := newFixture(t, files{learn: time.Hour}, flow.JA4, flow.JA4S, flow.JA4T)
	first := goHellos(t)
	second := handshake(t, &tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{MaxVersion: tls.VersionTLS12})
	_, firstJA4S := ja4Of(t, first)
	secondJA4, secondJA4S := ja4Of(t, second)
	say := func(origin uint32, hellos [2][]byte) {
		for end, stream := range hellos {
			for _, s := range piecesOf(uint8(end), stream, 700) {
				s.Key, s.TimeNs, s.Origin = keyTo(443), f.nowNs, origin+uint32(end)
				f.Sample(&s)
			}
		}
	}
	say(1000, first)
	r := f.tunnelled(keyTo(443))
	r.EndReason = flow.EndActive
	if got := f.Describe(r); got.ALPN != "h2" || !slices.Equal(got.Fingerprints[flow.JA4S], []string{firstJA4S}) {
		t.Errorf("the first: %+v", got)
	}
	say(70000, second)
	got := f.Describe(f.ended(keyTo(443)))
	ja4, ja4s := got.Fingerprints[flow.JA4], got.Fingerprints[flow.JA4S]
	if !slices.Equal(ja4, []string{secondJA4}) || !slices.Equal(ja4s, []string{secondJA4S}) || got.ALPN != "" || got.TLSVersion != "1.2" {
		t.Errorf("the second: %+v", got)
	}
	if got.MSS != 1460 || got.Tunnel != "" || len(got.Fingerprints[flow.JA4T]) != 1 {
		t.Errorf("the second was opened by %+v", got)
	}
	if len(got.Anomalies) == 0 || !strings.HasPrefix(got.Anomalies[0], "ja4 changed within the connection") {
		t.Errorf("anomalies %q", got.Anomalies)
	}
}

// TestManyFingerprints keeps the latest of more than an event has room for.
func TestManyFingerprints(t *testing.T) {
	var c talk
	for i := range mostTold + 1 {
		c.add(flow.JA4SSH, string(rune('A'+i)))
	}
	if got := c.values[0].list; len(got) != mostTold || got[0] != "B" {
		t.Errorf("%q", got)
	}
}

// TestLongFingerprints keeps the latest of those that are too long for an event together.
func TestLongFingerprints(t *testing.T) {
	var c talk
	for _, letter := range []string{"A", "B", "C"} {
		c.add(flow.JA4HRaw, strings.Repeat(letter, mostToldBytes/2))
	}
	if got := c.values[0].list; len(got) != 2 || got[0][0] != 'B' {
		t.Errorf("%d values, want the latest two", len(got))
	}
	c.add(flow.JA4HRaw, strings.Repeat("D", mostToldBytes+1))
	if got := c.values[0].list; len(got) != 1 || got[0][0] != 'D' {
		t.Errorf("%d values, want the latest", len(got))
	}
}

// ja4Of returns the JA4 and JA4S that hellos have.
func ja4Of(t *testing.T, hellos [2][]byte) (ja4, ja4s string) {
	t.Helper()
	f := newFixture(t, files{}, flow.JA4, flow.JA4S)
	f.send(keyTo(443), hellos, 1<<16)
	got := f.Describe(f.ended(keyTo(443)))
	return got.Fingerprints[flow.JA4][0], got.Fingerprints[flow.JA4S][0]
}

// TestOnlyNamedDHCP: of the two versions of DHCP only that one is looked at whose method is on.
func TestOnlyNamedDHCP(t *testing.T) {
	message4 := append(make([]byte, 236), "\x63\x82\x53\x63\x35\x01\x01\xff"...)
	message6 := []byte{1, 0, 0, 1, 0, 8, 0, 2, 0, 0}
	for method, other := range map[flow.Method]flow.Method{flow.JA4D: flow.JA4D6, flow.JA4D6: flow.JA4D} {
		f := newFixture(t, files{learn: time.Hour}, method)
		for port, data := range map[uint16][]byte{67: message4, 547: message6} {
			k := keyTo(port)
			k.Protocol = 17
			f.Sample(&flow.Sample{Key: k, Kind: flow.SampleDatagram, Data: data, TimeNs: f.nowNs})
		}
		made, others := testutil.ToFloat64(f.metrics.fingerprints[method]), testutil.ToFloat64(f.metrics.fingerprints[other])
		if made != 1 || others != 0 {
			t.Errorf("%s: %v made, and %v of %s", method, made, others, other)
		}
	}
}

// TestClient: who says hello is the client, whoever was seen first.
func TestClient(t *testing.T) {
	f := newFixture(t, files{learn: time.Hour}, flow.JA4, flow.JA4S)
	hellos := goHellos(t)
	k := flow.Key{Ends: [2]netip.AddrPort{netip.AddrPortFrom(lower.Addr(), 80), netip.AddrPortFrom(higher.Addr(), 50000)}, Protocol: 6}
	f.send(k, [2][]byte{hellos[1], hellos[0]}, 1<<16)
	if c := f.table.Find(k); c.DstPort != 80 || c.SrcPort != 50000 {
		t.Errorf("from port %d to port %d", c.SrcPort, c.DstPort)
	}
}

func TestSSHSession(t *testing.T) {
	window := func(client, server, acks int) *flow.Lengths {
		l := &flow.Lengths{Key: keyTo(22), Acks: [2]uint32{uint32(acks), 0}}
		for range 100 {
			l.Payloads[0] = append(l.Payloads[0], uint16(client))
			l.Payloads[1] = append(l.Payloads[1], uint16(server))
		}
		return l
	}
	f := newFixture(t, files{learn: time.Hour}, flow.JA4SSH)
	const session = "Interactive SSH Session"
	for _, row := range []struct {
		window *flow.Lengths
		want   string
	}{{window(500, 500, 0), "Unknown"}, {window(36, 36, 70), session}, {window(500, 501, 0), session}} {
		f.Lengths(row.window)
		r := f.ended(keyTo(22))
		r.EndReason = flow.EndActive
		if got := f.Describe(r); got.SSHSession != row.want || len(got.Fingerprints[flow.JA4SSH]) != 1 {
			t.Errorf("session %q, %q, want %q", got.SSHSession, got.Fingerprints[flow.JA4SSH], row.want)
		}
	}
}

// TestSSHClient: the client is who opened the connection, also if its port is the lower one.
func TestSSHClient(t *testing.T) {
	for opener, want := range map[flow.Initiator]string{
		flow.InitiatorEnd0: "c36s100_c150s50_c0s0", flow.InitiatorEnd1: "c100s36_c50s150_c0s0", flow.InitiatorUnknown: "c36s100_c150s50_c0s0",
	} {
		f := newFixture(t, files{}, flow.JA4SSH)
		f.Lengths(&flow.Lengths{
			Key: keyTo(22), Opener: opener, Payloads: [2][]uint16{slices.Repeat([]uint16{36}, 150), slices.Repeat([]uint16{100}, 50)},
		})
		r := f.ended(keyTo(22))
		r.Initiator = opener
		if got := f.Describe(r).Fingerprints[flow.JA4SSH]; !slices.Equal(got, []string{want}) {
			t.Errorf("opened by %d: %q, want %q", opener, got, want)
		}
	}
}

// TestForgetting: what is idle, and what waits for too much more, leaves no memory behind.
func TestForgetting(t *testing.T) {
	f := newFixture(t, files{}, flow.JA4)
	hello := goHellos(t)[0]
	const connections = 4000
	for i := range connections { // 1 KiB of a hello, and a piece 12 KiB behind it
		for _, at := range []uint32{0, 12 << 10} {
			f.Sample(&flow.Sample{Key: keyTo(uint16(i)), Offset: at, Data: hello[:1024], TimeNs: f.nowNs})
		}
	}
	if f.held > maxHeld || f.held < maxHeld/2 || f.holding.Len() == 0 {
		t.Errorf("%d bytes are held of %d connections, want %d at most", f.held, f.holding.Len(), maxHeld)
	}
	if n := testutil.ToFloat64(f.metrics.noRoom); n != float64(connections-f.holding.Len()) {
		t.Errorf("%v connections were given up, and %d wait", n, f.holding.Len())
	}
	f.Tidy()
	f.nowNs += uint64(20 * time.Minute)
	f.Tidy()
	if f.table.Count() != 0 || len(f.talks) != 0 || f.held != 0 || f.holding.Len() != 0 {
		t.Errorf("%d connections, %d talks with %d bytes are left", f.table.Count(), len(f.talks), f.held)
	}
	if n := testutil.ToFloat64(f.metrics.evicted); n != connections {
		t.Errorf("%v connections were evicted, want %d", n, connections)
	}
}

func TestMalformedSample(t *testing.T) {
	f := newFixture(t, files{}, flow.JA4)
	hello := slices.Clone(goHellos(t)[0])
	hello[5+4+2+32] = 0xff // length of the session ID
	f.send(keyTo(443), [2][]byte{hello}, 1<<16)
	if n := testutil.ToFloat64(f.metrics.malformed); n != 1 {
		t.Errorf("%v counted, want 1", n)
	}
}

func TestAnnouncedMSS(t *testing.T) {
	for options, want := range map[string]uint16{
		"": 0, "\x02\x04\x05\xb4": 1460, "\x01\x03\x03\x07\x02\x04\x05\xb4": 1460, "\x00\x02\x04\x05\xb4": 0,
		"\x02\x04\x05": 0, "\x02": 0, "\x08\x00": 0, "\x02\x03\x05\x02\x04\x05\xb4": 1460, "\x08\xff": 0,
	} {
		if got := announcedMSS([]byte(options)); got != want {
			t.Errorf("%x: %d, want %d", options, got, want)
		}
	}
}

// BenchmarkIdentify is the way of one connection with TLS 1.3 from its samples to what its event says, with JA4 on.
func BenchmarkIdentify(b *testing.B) {
	f := newFixture(b, files{learn: time.Hour}, flow.JA4)
	hellos := goHellos(b)
	b.ReportAllocs()
	for b.Loop() {
		f.send(keyTo(443), hellos, 1400)
		f.Describe(f.ended(keyTo(443)))
	}
}

// BenchmarkIdentifyQUIC is BenchmarkIdentify for the client's first datagram of QUIC.
func BenchmarkIdentifyQUIC(b *testing.B) {
	f := newFixture(b, files{learn: time.Hour}, flow.JA4)
	client := datagram(b, "rfc9001-client.hex", 0)
	client.Key = keyTo(443)
	client.Key.Protocol = 17
	r := f.ended(client.Key)
	r.Handshake = nil
	b.ReportAllocs()
	for b.Loop() {
		f.Sample(&client)
		f.Describe(r)
	}
}

// BenchmarkDescribe is what the record of a connection costs of which there is no more than the handshake.
func BenchmarkDescribe(b *testing.B) {
	f := newFixture(b, files{learn: time.Hour}, flow.JA4)
	r := f.ended(keyTo(80))
	b.ReportAllocs()
	for b.Loop() {
		f.Describe(r)
	}
}
