package ja4plus

import (
	"testing"

	"weir/internal/fingerprint"
)

// seen is a datagram: who sent it, its first bytes, and when it was seen in microseconds.
type seen struct {
	from  byte // client or server
	start string
	us    uint64
}

const (
	initial1   = "\xc0\x00\x00\x00\x01"
	zeroRTT1   = "\xd0\x00\x00\x00\x01"
	handshake1 = "\xe0\x00\x00\x00\x01"
	initial2   = "\xd0\x6b\x33\x43\xcf"
	handshake2 = "\xf0\x6b\x33\x43\xcf"
	short      = "\x40\x00\x00\x00\x01"
)

func TestQUICLatency(t *testing.T) {
	for name, test := range map[string]struct {
		datagrams      []seen
		client, server string
	}{
		"version 1": {[]seen{
			{'c', initial1, 100},
			{'s', initial1, 18670},
			{'s', initial1, 22081},
			{'s', handshake1, 22415},
			{'s', handshake1, 22718},
			{'c', handshake1, 22944},
			{'c', handshake1, 24084},
			{'s', handshake1, 43531},
		}, "113_64", "9285_56"},
		"version 2": {[]seen{
			{'c', initial2, 100}, {'s', initial2, 300}, {'s', handshake2, 310}, {'c', handshake2, 330},
		}, "10_64", "100_56"},
		"the client goes on before the server's handshake": {[]seen{
			{'c', initial1, 1},
			{'c', zeroRTT1, 5},
			{'s', initial1, 21},
			{'c', initial1, 22},
			{'s', handshake1, 40},
			{'c', handshake1, 50},
		}, "5_64", "10_56"},
		"no Handshake packet of the server's": {[]seen{
			{'c', initial1, 1},
			{'s', initial1, 21},
			{'s', short, 22},
			{'c', handshake1, 40},
		}, "", ""},
		"the client's Handshake packet comes before the server's": {[]seen{
			{'c', initial1, 1},
			{'s', initial1, 21},
			{'c', handshake1, 40},
			{'s', handshake1, 50},
			{'c', handshake1, 70},
		}, "10_64", "10_56"},
		"no Initial of the client's": {[]seen{{'s', initial1, 21}, {'s', handshake1, 40}, {'c', handshake1, 50}}, "", ""},
		"another version": {[]seen{
			{'c', "\xc0\x00\x00\x00\x00", 1}, {'s', initial1, 21}, {'s', handshake1, 40}, {'c', handshake1, 50},
		}, "", ""},
		"cut short": {[]seen{{'c', "\xc0\x00", 1}, {'s', initial1, 21}, {'s', handshake1, 40}, {'c', handshake1, 50}}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var q QUICHandshake
			for _, d := range test.datagrams {
				if d.from == 'c' {
					q.Observe(fingerprint.Client, []byte(d.start), 64, d.us*us)
				} else {
					q.Observe(fingerprint.Server, []byte(d.start), 56, d.us*us)
				}
			}
			if got := q.JA4L().Value; got != test.client {
				t.Errorf("JA4L %q, want %q", got, test.client)
			}
			if got := q.JA4LS().Value; got != test.server {
				t.Errorf("JA4LS %q, want %q", got, test.server)
			}
		})
	}
	expect(t, new(QUICHandshake).JA4L(), fingerprint.Fingerprint{})
}
