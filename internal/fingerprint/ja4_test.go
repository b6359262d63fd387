package fingerprint

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// chromeHello has what Chrome 112 offered, GREASE and all.
func chromeHello() []byte {
	ciphers := []uint16{
		0x8a8a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035,
	}
	list := []extension{{code: 0x1a1a}}
	for _, code := range []uint16{0xff01, 0x0033, 0x002d, 0x0005, 0x4469, 0x0023, 0x001b, 0x0012, 0x000a, 0x0017, 0x000b, 0x0015} {
		list = append(list, extension{code: code})
	}
	list = append(list, schemes(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601), alpn("h2", "http/1.1"),
		versions(0x3a3a, VersionTLS13, VersionTLS12), serverName("www.example"), extension{code: 0xfafa})
	return clientHello(VersionTLS12, ciphers, list...)
}

func ja4Of(t testing.TB, body []byte, transport Transport) Fingerprint {
	t.Helper()
	hello, err := ParseClientHello(body)
	if err != nil {
		t.Fatal(err)
	}
	return JA4(&hello, transport)
}

func TestJA4(t *testing.T) {
	want := Fingerprint{
		Method: "ja4",
		Value:  "t13d1516h2_8daaf6152771_e5627efa2ab1",
		Raw: "t13d1516h2_002f,0035,009c,009d,1301,1302,1303,c013,c014,c02b,c02c,c02f,c030,cca8,cca9_" +
			"0005,000a,000b,000d,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01_0403,0804,0401,0503,0805,0501,0806,0601",
	}
	if got := ja4Of(t, chromeHello(), TCP); got != want {
		t.Errorf("fingerprint %+v, want %+v", got, want)
	}
}

func TestJA4Parts(t *testing.T) {
	many := slices.Repeat([]uint16{0xc02f}, 150)
	tests := []struct {
		name      string
		body      []byte
		transport Transport
		value     string // how it begins
		raw       string
	}{
		{"nothing", clientHello(VersionTLS10, nil), TCP, "t10i000000_000000000000_000000000000", "t10i000000__"},
		{
			"a name is not hashed", clientHello(VersionTLS10, []uint16{0x002f}, serverName("a")), TCP,
			"t10d010100_ba72b8082249_000000000000", "t10d010100_002f_",
		},
		{"an empty name", clientHello(VersionTLS12, nil, extension{code: 0}), TCP, "t12d000100_", "t12d000100__"},
		{"QUIC", clientHello(VersionTLS12, nil, versions(VersionTLS13)), QUIC, "q13i000100_", "q13i000100__002b"},
		{"only GREASE", clientHello(VersionTLS12, []uint16{0x1a1a}, versions(0x2a2a)), TCP, "t12i000100_", "t12i000100__002b"},
		{"SSL 3", clientHello(VersionSSL3, nil), TCP, "ts3i000000_", "ts3i000000__"},
		{"SSL 2", clientHello(VersionSSL2, nil), TCP, "ts2i000000_", "ts2i000000__"},
		{"TLS 1.1", clientHello(VersionTLS11, nil), TCP, "t11i000000_", "t11i000000__"},
		{"unknown version", clientHello(0x0399, nil), TCP, "t00i000000_", "t00i000000__"},
		{"more than 99", clientHello(VersionTLS12, many), TCP, "t12i990000_", "t12i990000_" + strings.Repeat(",c02f", 150)[1:] + "_"},
		{
			"schemes in their order", clientHello(VersionTLS12, nil, schemes(0x0804, 0x5a5a, 0x0403)), TCP,
			"t12i000100_", "t12i000100__000d_0804,0403",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := ja4Of(t, test.body, test.transport)
			if !strings.HasPrefix(got.Value, test.value) || got.Raw != test.raw {
				t.Errorf("fingerprint %+v, want value %s… and raw %s", got, test.value, test.raw)
			}
		})
	}
}

func TestAppendALPN(t *testing.T) {
	for protocol, want := range map[string]string{
		"": "00", "h": "hh", "h2": "h2", "http/1.1": "h1", "dot": "dt", "\xab": "ab", "\xab\xcd": "ad", "0\xab": "3b", "01\xab\xcd": "3d",
		"0\xab\xcd1": "01", "-x": "28", "Zz": "Zz",
	} {
		if got := string(AppendALPN(nil, []byte(protocol))); got != want {
			t.Errorf("protocol %q is %q, want %q", protocol, got, want)
		}
	}
}

func TestIsGREASE(t *testing.T) {
	var found []uint16
	for code := range 1 << 16 {
		if IsGREASE(uint16(code)) {
			found = append(found, uint16(code))
		}
	}
	want := []uint16{
		0x0a0a, 0x1a1a, 0x2a2a, 0x3a3a, 0x4a4a, 0x5a5a, 0x6a6a, 0x7a7a, 0x8a8a, 0x9a9a, 0xaaaa, 0xbaba, 0xcaca, 0xdada, 0xeaea, 0xfafa,
	}
	if !slices.Equal(found, want) {
		t.Errorf("GREASE is %x, want %x (RFC 8701)", found, want)
	}
}

// A hello that is too long for one segment.
func TestJA4OfSegments(t *testing.T) {
	stream := records(contentHandshake, message(MessageClientHello, bigHello()), maxRecord)
	cut := func(from, to int) piece { return piece{uint64(from), string(stream[from:min(to, len(stream))])} }
	end := len(stream)
	for name, pieces := range map[string][]piece{
		"two":           {cut(0, 1400), cut(1400, end)},
		"three":         {cut(0, 700), cut(700, 1400), cut(1400, end)},
		"reordered":     {cut(1400, end), cut(700, 1400), cut(0, 700)},
		"retransmitted": {cut(0, 700), cut(0, 700), cut(700, 1400), cut(700, 1400), cut(1400, end)},
		"overlapping":   {cut(600, 1500), cut(0, 700), cut(1300, end)},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewStream(4096)
			for i, p := range pieces {
				var m Messages
				if _, err := m.Next(s.Bytes()); !errors.Is(err, ErrIncomplete) {
					t.Fatalf("before piece %d: error %v, want that it is incomplete", i, err)
				}
				s.Add(p.offset, []byte(p.data))
			}
			var m Messages
			message, err := m.Next(s.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			if got := ja4Of(t, message.Body, TCP); got.Raw != bigHelloJA4_r {
				t.Errorf("raw fingerprint %s, want %s", got.Raw, bigHelloJA4_r)
			}
		})
	}
}

// BenchmarkJA4 is from the stream to the fingerprint.
func BenchmarkJA4(b *testing.B) {
	stream := records(contentHandshake, message(MessageClientHello, chromeHello()), maxRecord)
	b.ReportAllocs()
	for b.Loop() {
		var m Messages
		message, err := m.Next(stream)
		if err != nil {
			b.Fatal(err)
		}
		hello, err := ParseClientHello(message.Body)
		if err != nil {
			b.Fatal(err)
		}
		JA4(&hello, TCP)
	}
}
