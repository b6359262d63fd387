package identify

import (
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/fingerprint"
	"weir/internal/flow"
)

func TestTLS(t *testing.T) {
	tests := []struct {
		name           string
		client, server *tls.Config
		methods        Methods
		want           []string
		facts          Facts
	}{
		{
			"TLS 1.3", &tls.Config{NextProtos: []string{"h2", "http/1.1"}}, &tls.Config{NextProtos: []string{"http/1.1"}},
			methodsOn("ja4", "ja4s", "ja4x"),
			[]string{"ja4", "ja4s"},
			Facts{TLSVersion: "1.3", ALPN: "h2"},
		},
		{
			"asked to try again", &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}},
			&tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}},
			methodsOn("ja4", "ja4s", "ja4x"),
			[]string{"ja4", "ja4s"},
			Facts{TLSVersion: "1.3"},
		},
		{
			"TLS 1.2", &tls.Config{NextProtos: []string{"h2", "http/1.1"}},
			&tls.Config{MaxVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
			methodsOn("ja4", "ja4s", "ja4x"),
			[]string{"ja4", "ja4s", "ja4x"},
			Facts{TLSVersion: "1.2", ALPN: "http/1.1"},
		},
		{
			"only JA4", &tls.Config{}, &tls.Config{MaxVersion: tls.VersionTLS12},
			methodsOn("ja4"),
			[]string{"ja4"},
			Facts{TLSVersion: "1.2"},
		},
		{"none", &tls.Config{}, &tls.Config{MaxVersion: tls.VersionTLS12}, nil, nil, Facts{TLSVersion: "1.2"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.facts.ServerName = "www.example"
			test.facts.SawClientHello, test.facts.SawServerHello = true, true
			streams := handshake(t, test.client, test.server)
			for _, size := range []int{1 << 16, 1400, 700, 100, 1} {
				c := NewConversation(test.methods)
				samples := append(piecesOf(0, streams[0], size), piecesOf(1, streams[1], size)...)
				if got := feed(t, c, samples...); !slices.Equal(got, test.want) {
					t.Errorf("in segments of %d bytes: fingerprints %v, want %v", size, got, test.want)
				}
				if c.Facts() != test.facts {
					t.Errorf("in segments of %d bytes: facts %+v, want %+v", size, c.Facts(), test.facts)
				}
				if n := c.holds(); n > 0 {
					t.Errorf("in segments of %d bytes: %d bytes are still held", size, n)
				}
				if got := feed(t, c, samples...); got != nil {
					t.Errorf("in segments of %d bytes: fingerprints %v of the same again", size, got)
				}
			}
		})
	}
}

// TestClientCertificates: a client whose hello was answered may show who it is, or say hello once more.
func TestClientCertificates(t *testing.T) {
	retry := &tls.Config{CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP384}}
	for name, row := range map[string]struct {
		client, server *tls.Config
		methods        Methods
		want           []string
	}{
		"TLS 1.2":       {&tls.Config{}, &tls.Config{MaxVersion: tls.VersionTLS12}, methodsOn("ja4", "ja4x"), []string{"ja4", "ja4x"}},
		"not asked for": {&tls.Config{}, &tls.Config{MaxVersion: tls.VersionTLS12}, methodsOn("ja4"), []string{"ja4"}},
		"TLS 1.3":       {&tls.Config{}, &tls.Config{}, methodsOn("ja4", "ja4x"), []string{"ja4"}},
		"hello again":   {retry, &tls.Config{CurvePreferences: []tls.CurveID{tls.CurveP384}}, methodsOn("ja4", "ja4x"), []string{"ja4"}},
	} {
		t.Run(name, func(t *testing.T) {
			row.client.Certificates = []tls.Certificate{certificate(t)}
			row.server.ClientAuth = tls.RequestClientCert
			stream := handshake(t, row.client, row.server)[0]
			hello := 5 + int(stream[3])<<8 + int(stream[4])
			c := NewConversation(row.methods)
			got := feed(t, c, flow.Sample{Data: stream[:hello]}, flow.Sample{Offset: uint32(hello), Data: stream[hello:]})
			if !slices.Equal(got, row.want) {
				t.Errorf("fingerprints %v, want %v", got, row.want)
			}
			if n := c.holds(); n > 0 {
				t.Errorf("%d bytes are still held", n)
			}
		})
	}
}

func TestSegmentsOutOfOrder(t *testing.T) {
	streams := handshake(t, &tls.Config{}, &tls.Config{})
	hello := piecesOf(0, streams[0][:1500], 500) // Go's has 1.5 KB, with its keys for after quantum computers
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {0, 2, 2, 0, 1}, {1, 1, 0, 2}} {
		c := NewConversation(methodsOn("ja4"))
		var got []string
		for i, n := range order {
			if got != nil {
				t.Errorf("order %v: fingerprints %v before piece %d", order, got, i)
			}
			got = feed(t, c, hello[n])
		}
		if got != nil || c.Facts().SawClientHello { // the hello is longer than that
			t.Errorf("order %v: fingerprints %v of a part", order, got)
		}
		if got = feed(t, c, piecesOf(0, streams[0], 1500)[1:]...); !slices.Equal(got, []string{"ja4"}) {
			t.Errorf("order %v: fingerprints %v", order, got)
		}
	}
}

// What a proxy is told first, and what it then carries.
func TestPartsOfAStream(t *testing.T) {
	hello := handshake(t, &tls.Config{}, &tls.Config{})[0]
	const one = "GET /one HTTP/1.1\r\nHost: a\r\n\r\n"
	tests := []struct {
		name  string
		parts []string
		want  []string
		facts Facts
	}{
		{"SOCKS", []string{"\x05\x01\x00", "\x05\x01\x00\x01\x0a\x00\x00\x01\x01\xbb", string(hello)}, []string{"ja4"}, Facts{SawClientHello: true}},
		{
			"CONNECT",
			[]string{"CONNECT a:443 HTTP/1.1\r\n", "Host: a\r\n\r\n", string(hello)},
			[]string{"ja4h", "ja4"},
			Facts{SawClientHello: true, CarriesHTTP: true},
		},
		{"requests", []string{one, "POST /two HTTP/1.1\r\n", "Host: a\r\n\r\nbody", "more body", one}, []string{"ja4h", "ja4h", "ja4h"}, Facts{CarriesHTTP: true}},
		{"a method in two segments", []string{"GE", one[2:]}, []string{"ja4h"}, Facts{CarriesHTTP: true}},
		{"a response", []string{"HTTP/1.1 200 OK\r\n\r\n"}, nil, Facts{CarriesHTTP: true}},
		{"a request that is none", []string{"GET nothing\r\n\r\n", one}, []string{"ja4h"}, Facts{CarriesHTTP: true}},
		{"SSH", []string{"SSH-2.0-OpenSSH_9.2\r\n", one}, nil, Facts{CarriesSSH: true}},
		{"something else", []string{"\x00\x01", "220 mail.example ESMTP\r\n"}, nil, Facts{}},
		{"a head that does not end", slices.Repeat([]string{"GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("x", 2000)}, 20), nil, Facts{CarriesHTTP: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := NewConversation(methodsOn("ja4", "ja4h"))
			var got []string
			offset := 0
			for _, part := range test.parts {
				got = append(got, feed(t, c, flow.Sample{Offset: uint32(offset), Data: []byte(part)})...)
				offset += len(part)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("fingerprints %v, want %v", got, test.want)
			}
			facts := c.Facts()
			if facts.SawClientHello != test.facts.SawClientHello || facts.CarriesHTTP != test.facts.CarriesHTTP || facts.CarriesSSH != test.facts.CarriesSSH {
				t.Errorf("facts %+v, want %+v", facts, test.facts)
			}
			if n := c.holds(); n > maxStream {
				t.Errorf("%d bytes are held", n)
			}
		})
	}
}

func TestNamesThatAreNotPrintable(t *testing.T) {
	hello := handshake(t, &tls.Config{NextProtos: []string{"h2"}}, &tls.Config{NextProtos: []string{"h2"}})[0]
	text := strings.Replace(string(hello), "www.example", "www\x1b[31m\n\"x", 1)
	text = strings.Replace(text, "\x02h2", "\x02\x00\xff", 1)
	c := NewConversation(methodsOn("ja4"))
	if got := feed(t, c, flow.Sample{Data: []byte(text)}); !slices.Equal(got, []string{"ja4"}) {
		t.Fatalf("fingerprints %v", got)
	}
	if facts := c.Facts(); facts.ServerName != "" || facts.ALPN != "" {
		t.Errorf("names %q and %q", facts.ServerName, facts.ALPN)
	}
}

func TestMalformedTLS(t *testing.T) {
	streams := handshake(t, &tls.Config{}, &tls.Config{})
	const sessionID = 5 + 4 + 2 + 32 // offset of its length
	streams[0][sessionID] = 0xff
	c := NewConversation(methodsOn("ja4", "ja4s"))
	if list, err := c.Sample(&flow.Sample{Data: streams[0]}); err == nil || list != nil {
		t.Errorf("fingerprints %v and error %v of a hello that is malformed", list, err)
	}
	if got := feed(t, c, piecesOf(1, streams[1], 1000)...); !slices.Equal(got, []string{"ja4s"}) {
		t.Errorf("fingerprints %v of the other end", got)
	}
	if n := c.holds(); n > 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

// TestTheOtherEnd: what only one end should send does not count if the other sends it.
func TestTheOtherEnd(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	honest, forged := handshake(t, &tls.Config{}, &tls.Config{}), handshake(t, &tls.Config{MaxVersion: tls.VersionTLS12}, &tls.Config{})
	piece := func(end uint8, opener flow.Initiator, text []byte) flow.Sample {
		return flow.Sample{End: end, Opener: opener, Data: text, TimeNs: 1}
	}
	for name, row := range map[string]struct {
		before []flow.Sample
		forged flow.Sample
		after  []flow.Sample
		want   []string
	}{
		"a server says ClientHello": {
			[]flow.Sample{piece(0, 0, honest[0])}, piece(1, 0, forged[0]), nil, []string{"ja4"},
		},
		"it says so first": {
			nil, piece(1, flow.InitiatorEnd0, forged[0]), []flow.Sample{piece(0, flow.InitiatorEnd0, honest[0])}, []string{"ja4"},
		},
		"a client says ServerHello": {
			nil, piece(0, flow.InitiatorEnd0, forged[1]), []flow.Sample{piece(1, flow.InitiatorEnd0, honest[1])}, []string{"ja4s"},
		},
		"a server requests": {[]flow.Sample{piece(0, 0, []byte(request))}, piece(1, 0, []byte(request)), nil, []string{"ja4h"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewConversation(methodsOn("ja4", "ja4s", "ja4h"))
			got := feed(t, c, row.before...)
			facts := c.Facts()
			if list, err := c.Sample(&row.forged); !errors.Is(err, fingerprint.ErrMalformed) || list != nil || c.Facts() != facts {
				t.Errorf("fingerprints %v, error %v, facts %+v, want those before, %+v", list, err, c.Facts(), facts)
			}
			if got = append(got, feed(t, c, row.after...)...); !slices.Equal(got, row.want) {
				t.Errorf("fingerprints %v, want %v", got, row.want)
			}
		})
	}
}

// datagram is one of the packets in testdata.
func datagram(t testing.TB, name string, end uint8) flow.Sample {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	return flow.Sample{Kind: flow.SampleDatagram, End: end, Data: data, TimeNs: uint64(end) + 1}
}

func TestQUIC(t *testing.T) {
	for end := range uint8(2) { // of the client
		c := NewConversation(methodsOn("ja4", "ja4s"))
		client, server := datagram(t, "rfc9001-client.hex", end), datagram(t, "rfc9001-server.hex", 1-end)
		if _, err := c.Sample(&server); err == nil {
			t.Error("a server's packet was opened before its client's")
		}
		if got := feed(t, c, client, client, server, server); !slices.Equal(got, []string{"ja4", "ja4s"}) {
			t.Errorf("fingerprints %v", got)
		}
		want := Facts{
			ServerName: "example.com", ALPN: "alpn", TLSVersion: "1.3", SawClientHello: true, SawServerHello: true,
		}
		if c.Facts() != want {
			t.Errorf("facts %+v, want %+v", c.Facts(), want)
		}
		if c.quic.initials != nil {
			t.Error("what was read is still held")
		}
	}
}

func TestDatagramsThatOnlyLookLikeQUIC(t *testing.T) {
	c := NewConversation(methodsOn("ja4"))
	client := datagram(t, "rfc9001-client.hex", 0)
	for range maxFailed {
		forged := client
		forged.Data = append(slices.Clone(client.Data[:100]), make([]byte, 1100)...)
		if _, err := c.Sample(&forged); err == nil {
			t.Fatal("a forged packet was opened")
		}
	}
	if got := feed(t, c, client); got != nil {
		t.Errorf("fingerprints %v after so many failures", got)
	}
}

func TestHandshakeIsToldOnce(t *testing.T) {
	options := []byte{2, 4, 5, 180, 1, 3, 3, 7}
	h := flow.Handshake{
		SYN:    flow.Opening{TimeNs: 1_000_000, Window: 64240, TTL: 64, Options: options},
		SYNACK: flow.Opening{TimeNs: 3_000_000, Window: 65160, TTL: 56, Options: options},
	}
	c := NewConversation(methodsOn("ja4t", "ja4ts", "ja4l", "ja4ls"))
	names := func(list []Found) (out []string) {
		for _, f := range list {
			out = append(out, f.Method+"="+f.Value)
		}
		return out
	}
	want := []string{"ja4t=64240_2-1-3_1460_7", "ja4ts=65160_2-1-3_1460_7"}
	if got := names(c.Handshake(&h, flow.InitiatorEnd1)); !slices.Equal(got, want) {
		t.Errorf("fingerprints %v, want %v", got, want)
	}
	h.ACKNs = 3_200_000
	want = []string{"ja4ls=1000_56", "ja4l=100_64"}
	if got := names(c.Handshake(&h, flow.InitiatorEnd1)); !slices.Equal(got, want) {
		t.Errorf("then fingerprints %v, want %v", got, want)
	}
	if got := names(c.Handshake(&h, flow.InitiatorEnd1)); got != nil {
		t.Errorf("and then fingerprints %v", got)
	}
	if got := NewConversation(methodsOn("ja4")).Handshake(&h, flow.InitiatorEnd1); got != nil {
		t.Errorf("fingerprints %v with the methods off", got)
	}
}

func TestLengths(t *testing.T) {
	l := flow.Lengths{TimeNs: 7, Payloads: [2][]uint16{slices.Repeat([]uint16{76}, 150), slices.Repeat([]uint16{36}, 50)}, Acks: [2]uint32{3, 4}}
	l.Key.Ends = [2]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:22"), netip.MustParseAddrPort("192.0.2.2:50000")}
	for _, test := range []struct {
		by   flow.Initiator
		want string
	}{
		{flow.InitiatorUnknown, "c36s76_c50s150_c4s3"}, // by the ports
		{flow.InitiatorEnd1, "c36s76_c50s150_c4s3"},
		{flow.InitiatorEnd0, "c76s36_c150s50_c3s4"},
	} {
		c := NewConversation(methodsOn("ja4ssh"))
		c.Handshake(&flow.Handshake{}, test.by)
		got := c.Lengths(&l)
		if len(got) != 1 || got[0].Value != test.want || got[0].TimeNs != 7 || !c.Facts().CarriesSSH {
			t.Errorf("opened by %d: fingerprints %+v, want %s", test.by, got, test.want)
		}
	}
	c := NewConversation(nil)
	if got := c.Lengths(&l); got != nil || !c.Facts().CarriesSSH {
		t.Errorf("fingerprints %v with the method off, facts %+v", got, c.Facts())
	}
}

// FuzzConversation gives it samples of 4 bytes of end, offset and length, then data.
func FuzzConversation(f *testing.F) {
	hello := handshake(f, &tls.Config{}, &tls.Config{MaxVersion: tls.VersionTLS12})
	for end, stream := range hello {
		f.Add(append([]byte{byte(end), 0, 0, 255}, stream...))
	}
	var datagrams []byte
	for end, name := range []string{"rfc9001-client.hex", "rfc9001-server.hex", "another-client.hex"} {
		data := datagram(f, name, 0).Data
		data = append(data, make([]byte, -len(data)&7)...)
		datagrams = append(append(datagrams, byte(end&1|2), 0, 0, byte(len(data)/8)), data...)
	}
	f.Add(datagrams)
	f.Add([]byte("\x00\x00\x00\x05GET /\x01\x00\x00\x08SSH-2.0-\x00\x00\x05\xff HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		c := NewConversation(methodsOn("ja4", "ja4s", "ja4x", "ja4h", "ja4d", "ja4l"))
		for len(input) >= 4 {
			n := min(8*int(input[3]), len(input)-4)
			s := flow.Sample{
				End: input[0] & 1, Kind: flow.SampleKind(input[0] >> 1 & 1), Offset: uint32(input[1])<<8 | uint32(input[2]), Data: input[4:][:n],
			}
			input = input[4+n:]
			if c.Replaced(&s) {
				c = NewConversation(c.methods)
			}
			_, _ = c.Sample(&s)
			if held := c.holds(); held > 2*maxStream {
				t.Fatalf("%d bytes are held", held)
			}
		}
	})
}

// BenchmarkConversation is of one TLS connection: the samples of both hellos.
func BenchmarkConversation(b *testing.B) {
	streams := handshake(b, &tls.Config{}, &tls.Config{})
	samples := append(piecesOf(0, streams[0], 1400), piecesOf(1, streams[1], 1400)...)
	methods := methodsOn("ja4")
	b.ReportAllocs()
	for b.Loop() {
		c := NewConversation(methods)
		for i := range samples {
			if _, err := c.Sample(&samples[i]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(time.Second)/float64(b.Elapsed())*float64(b.N), "handshakes/s")
}
