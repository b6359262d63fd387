package ja4plus

import (
	"testing"

	"weir/internal/fingerprint"
)

func TestJA4S(t *testing.T) {
	for name, test := range map[string]struct {
		hello      fingerprint.ServerHello
		transport  fingerprint.Transport
		value, raw string
	}{
		"TLS 1.2": {fingerprint.ServerHello{
			Version: fingerprint.VersionTLS12, Cipher: 0xc030,
			Extensions: []byte("\x00\x05\x00\x00\x00\x17\x00\x00\xff\x01\x00\x01\x00\x00\x00\x00\x00"),
		}, fingerprint.TCP, "t120400_c030_4e8089b08790", "t120400_c030_0005,0017,ff01,0000"},
		"QUIC": {fingerprint.ServerHello{
			Version: fingerprint.VersionTLS13, Cipher: 0x1301,
			Extensions: []byte("\x00\x33\x00\x00\x00\x2b\x00\x00"),
		}, fingerprint.QUIC, "q130200_1301_234ea6891581", "q130200_1301_0033,002b"},
		"a protocol chosen": {fingerprint.ServerHello{
			Version: fingerprint.VersionTLS12, Cipher: 0xcca9, ALPN: []byte("h2"),
			Extensions: []byte("\x00\x00\x00\x00\xff\x01\x00\x01\x00\x00\x0b\x00\x00\x00\x10\x00\x05\x00\x03\x02h2"),
		}, fingerprint.TCP, "t1204h2_cca9_1428ce7b4018", "t1204h2_cca9_0000,ff01,000b,0010"},
		"no extensions": {
			fingerprint.ServerHello{Version: fingerprint.VersionSSL3, Cipher: 0x0005},
			fingerprint.TCP, "ts30000_0005_000000000000", "ts30000_0005_",
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := fingerprint.Fingerprint{Method: "ja4s", Value: test.value, Raw: test.raw}
			expect(t, JA4S(&test.hello, test.transport), want)
		})
	}
}
