package fingerprint

import (
	"bytes"
	"errors"
	"testing"
)

var zeroRandom = string(make([]byte, randomBytes))

func TestParseClientHello(t *testing.T) {
	hello, err := ParseClientHello(clientHello(VersionTLS12, []uint16{0x1301, 0xc02f}, serverName("www.example"),
		alpn("h2", "http/1.1"), versions(0x7a7a, VersionTLS13, VersionTLS12), schemes(0x0403)))
	if err != nil {
		t.Fatal(err)
	}
	if string(hello.ServerName) != "www.example" || string(hello.ALPN) != "h2" {
		t.Errorf("server name %q and protocol %q", hello.ServerName, hello.ALPN)
	}
	if hello.Version != VersionTLS12 || hello.HighestVersion() != VersionTLS13 {
		t.Errorf("version %x, highest %x", hello.Version, hello.HighestVersion())
	}
	if !bytes.Equal(hello.Ciphers, codes(0x1301, 0xc02f)) || !bytes.Equal(hello.SignatureAlgorithms, codes(0x0403)) {
		t.Errorf("ciphers %x, signature algorithms %x", hello.Ciphers, hello.SignatureAlgorithms)
	}
}

func TestClientHelloWithoutExtensions(t *testing.T) {
	body := clientHello(VersionTLS10, []uint16{0x002f})
	for _, body := range [][]byte{body, body[:len(body)-2]} { // none, and no place for them
		hello, err := ParseClientHello(body)
		if err != nil {
			t.Fatal(err)
		}
		if hello.HighestVersion() != VersionTLS10 || hello.ServerName != nil || hello.ALPN != nil {
			t.Errorf("version %x, server name %q, protocol %q", hello.HighestVersion(), hello.ServerName, hello.ALPN)
		}
	}
}

func TestMalformedClientHello(t *testing.T) {
	whole := clientHello(VersionTLS12, []uint16{0x1301}, serverName("www.example"), alpn("h2"))
	withoutExtensions := len(clientHello(VersionTLS12, []uint16{0x1301})) - 2
	for n := range whole {
		if _, err := ParseClientHello(whole[:n]); !errors.Is(err, ErrMalformed) && n != withoutExtensions {
			t.Errorf("cut to %d bytes: error %v, want that it is malformed", n, err)
		}
	}
	tests := map[string]extension{
		"an extension behind its end":   {ExtensionALPN, append(alpn("h2").contents, 0)},
		"a list longer than its place":  {ExtensionSignatureAlgorithms, []byte{0, 4, 4, 3}},
		"versions without their length": {ExtensionSupportedVersions, nil},
	}
	for name, e := range tests {
		if _, err := ParseClientHello(clientHello(VersionTLS12, nil, e)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: error %v, want that it is malformed", name, err)
		}
	}
	if _, err := ParseClientHello(append(whole, 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a byte behind: error %v, want that it is malformed", err)
	}
}

func TestParseServerHello(t *testing.T) {
	tests := []struct {
		name string
		body []byte
		want ServerHello
	}{
		{"TLS 1.2", serverHello(zeroRandom, 0xc02f, alpn("h2")), ServerHello{Version: VersionTLS12, Cipher: 0xc02f, ALPN: []byte("h2")}},
		{
			"TLS 1.3", serverHello(zeroRandom, 0x1301, extension{ExtensionSupportedVersions, codes(VersionTLS13)}),
			ServerHello{Version: VersionTLS13, Cipher: 0x1301},
		},
		{
			"asking again", serverHello(helloRetry, 0x1301, extension{ExtensionSupportedVersions, codes(VersionTLS13)}),
			ServerHello{Version: VersionTLS13, Cipher: 0x1301},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseServerHello(test.body)
			if err != nil {
				t.Fatal(err)
			}
			if got.Version != test.want.Version || got.Cipher != test.want.Cipher || !bytes.Equal(got.ALPN, test.want.ALPN) {
				t.Errorf("parsed as %+v, want %+v", got, test.want)
			}
			if _, err := ParseServerHello(test.body[:len(test.body)-1]); !errors.Is(err, ErrMalformed) {
				t.Errorf("without its last byte: error %v, want that it is malformed", err)
			}
		})
	}
}

func TestParseCertificates(t *testing.T) {
	chain := func(n int) []byte { return vector(3, bytes.Repeat(vector(3, []byte("DER")), n)) }
	for _, n := range []int{0, 1, 3, maxCertificates} {
		got, err := ParseCertificates(chain(n))
		if err != nil || len(got) != n {
			t.Errorf("%d certificates and error %v, want %d", len(got), err, n)
		}
		for _, der := range got {
			if string(der) != "DER" {
				t.Errorf("certificate %q", der)
			}
		}
	}
	for name, body := range map[string][]byte{
		"too many":          chain(maxCertificates + 1),
		"cut":               chain(2)[:10],
		"a length too long": vector(3, []byte{0xff, 0xff, 0xff, 1}),
		"a byte behind":     append(chain(1), 0),
	} {
		if _, err := ParseCertificates(body); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: error %v, want that it is malformed", name, err)
		}
	}
}
