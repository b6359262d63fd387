package ja4plus

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"weir/internal/fingerprint"
)

// element is one in DER, with a length of one byte or two.
func element(tag byte, parts ...string) string {
	contents := strings.Join(parts, "")
	length := string([]byte{byte(len(contents))})
	if len(contents) >= 0x80 {
		length = string([]byte{0x82, byte(len(contents) >> 8), byte(len(contents))})
	}
	return string([]byte{tag}) + length + contents
}

func attribute(identifier string) string {
	return element(tagSequence, element(tagObjectIdentifier, identifier), element(0x0c, "value"))
}

// The parts of a certificate that the method passes over.
var (
	version   = element(tagVersion, element(tagInteger, "\x02"))
	serial    = element(tagInteger, "\x01")
	algorithm = element(tagSequence, element(tagObjectIdentifier, "\x2b\x65\x70"))
	validity  = element(tagSequence, element(0x17, "260101000000Z"), element(0x17, "270101000000Z"))
	publicKey = element(tagSequence, algorithm, element(0x03, strings.Repeat("k", 130)))
)

// name is made of sets, each of some attributes.
func name(sets ...[]string) string {
	var all []string
	for _, set := range sets {
		var attributes []string
		for _, identifier := range set {
			attributes = append(attributes, attribute(identifier))
		}
		all = append(all, element(tagSet, attributes...))
	}
	return element(tagSequence, all...)
}

func extensions(identifiers ...string) string {
	var all []string
	for _, identifier := range identifiers {
		all = append(all, element(tagSequence, element(tagObjectIdentifier, identifier), element(0x04, "value")))
	}
	return element(tagExtensions, element(tagSequence, all...))
}

func certificate(parts ...string) string {
	return element(tagSequence, element(tagSequence, parts...), algorithm, element(0x03, "signature"))
}

// described is a certificate whose fingerprint the description of the method works out.
func described() string {
	issuer := name([]string{"\x55\x04\x03"}, []string{"\x55\x04\x06"}, []string{"\x55\x04\x08"}, []string{"\x55\x04\x0a"})
	return certificate(version, serial, algorithm, issuer, validity, issuer, publicKey,
		extensions("\x55\x1d\x0f", "\x55\x1d\x25", "\x55\x1d\x11"))
}

func TestJA4X(t *testing.T) {
	expect(t, JA4X([]byte(described())), fingerprint.Fingerprint{
		Method: "ja4x",
		Value:  "96a6439c8f5c_96a6439c8f5c_aae71e8db6d7",
		Raw:    "550403,550406,550408,55040a_550403,550406,550408,55040a_551d0f,551d25,551d11",
	})
}

// between is a certificate of version 3 with the names of issuer and subject, and what follows the key.
func between(issuer, subject string, rest ...string) string {
	parts := []string{version, serial, algorithm, issuer, validity, subject, publicKey}
	return certificate(append(parts, rest...)...)
}

func TestJA4XRaw(t *testing.T) {
	const cn, o, jurisdiction = "\x55\x04\x03", "\x55\x04\x0a", "\x2b\x06\x01\x04\x01\x82\x37\x3c\x02\x01\x03"
	a, b, both := name([]string{cn}), name([]string{o}), name([]string{cn}, []string{o})
	alternative := extensions("\x55\x1d\x11")
	for label, test := range map[string]struct{ certificate, raw string }{
		"version 1":          {certificate(serial, algorithm, both, validity, b, publicKey), "550403,55040a_55040a_"},
		"two in a set":       {between(name([]string{cn, o}), a), "550403,55040a_550403_"},
		"empty names":        {between(name(), name(), alternative), "__551d11"},
		"long identifiers":   {between(name([]string{jurisdiction}), a), "2b0601040182373c020103_550403_"},
		"unique identifiers": {between(a, b, element(0x81, "i"), element(0x82, "s"), alternative), "550403_55040a_551d11"},
		"more behind it":     {between(a, b) + "more", "550403_55040a_"},
		"no serial":          {certificate(version, algorithm, a, validity, b, publicKey), ""},
		"no key":             {certificate(version, serial, algorithm, a, validity, b), ""},
		"an attribute less":  {between(element(tagSequence, element(tagSet, element(tagSequence))), b), ""},
		"no identifier":      {between(name([]string{""}), b), ""},
		"no extensions":      {between(a, b, element(tagExtensions)), ""},
		"indefinite length":  {"\x30\x80" + described() + "\x00\x00", ""},
		"4 bytes of length":  {"\x30\x84\x00\x00\x00\x01\x30", ""},
		"a long tag":         {"\x3f\x81\x01\x00", ""},
		"nothing":            {"", ""},
	} {
		t.Run(label, func(t *testing.T) {
			if got := JA4X([]byte(test.certificate)).Raw; got != test.raw {
				t.Errorf("got %q, want %q", got, test.raw)
			}
		})
	}
}

// TestJA4XCutShort cuts a certificate at every byte before the signature, which is not read.
func TestJA4XCutShort(t *testing.T) {
	whole := described()
	for end := range whole {
		if got := JA4X([]byte(whole[:end])); got != (fingerprint.Fingerprint{}) {
			t.Errorf("of %d bytes of %d: %+v", end, len(whole), got)
		}
	}
}

// TestJA4XOfAnother reads a certificate that crypto/x509 made.
func TestJA4XOfAnother(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Unix(1<<31, 0), BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		Subject:     pkix.Name{Country: []string{"GB"}, Organization: []string{"weir"}, CommonName: "test"},
		DNSNames:    []string{"weir.example"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	made, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(made)
	if err != nil {
		t.Fatal(err)
	}
	identifiers := slices.Collect(func(yield func(asn1.ObjectIdentifier) bool) {
		for _, extension := range parsed.Extensions {
			if !yield(extension.Id) {
				return
			}
		}
	})
	if len(identifiers) < 4 {
		t.Fatalf("the certificate has the extensions %v", identifiers)
	}
	want := "550406,55040a,550403_550406,55040a,550403_" + encoded(t, identifiers)
	if got := JA4X(made).Raw; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// encoded lists identifiers as the method does.
func encoded(t *testing.T, identifiers []asn1.ObjectIdentifier) string {
	t.Helper()
	var list []byte
	for _, identifier := range identifiers {
		encoding, err := asn1.Marshal(identifier)
		if err != nil {
			t.Fatal(err)
		}
		bad := false
		list = appendIdentifier(list, der{rest: encoding, bad: &bad})
	}
	return string(list)
}

func FuzzX509(f *testing.F) {
	f.Add([]byte(described()))
	f.Add([]byte(between(name(), name())))
	f.Add([]byte("\x30\x83\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, certificate []byte) {
		costsNoMore(t, certificate, JA4X)
	})
}
