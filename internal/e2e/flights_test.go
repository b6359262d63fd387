package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/testja4"
	"weir/internal/testnet"
)

// flights gathers what both ends of a TLS connection write, as the segments of a capture.
type flights struct {
	mu       sync.Mutex
	port     int
	sequence [2]uint32
	frames   []testnet.Captured
}

// end is one of a connection that gathers what is written to it.
type end struct {
	net.Conn
	flights *flights
	number  int
}

func (e *end) Write(b []byte) (int, error) {
	e.flights.send(e.number, testnet.ACK|testnet.PSH, b)
	return e.Conn.Write(b)
}

// send adds segments, each a moment after the one before it.
func (f *flights) send(from int, flags uint8, payload []byte) {
	const mss = 1400
	ends := [2]string{fmt.Sprint("10.0.0.1:", f.port), "10.0.0.2:443"}
	f.mu.Lock()
	defer f.mu.Unlock()
	for first := true; first || len(payload) > 0; first = false {
		s := testnet.Segment{Sequence: f.sequence[from], Flags: flags, Window: 1000, Payload: payload[:min(mss, len(payload))]}
		at := time.Duration(f.port)*time.Second + time.Duration(len(f.frames))*time.Microsecond
		f.frames = append(f.frames, testnet.Captured{At: at, Frame: s.Packet(ends[from], ends[1-from]).Bytes()})
		f.sequence[from] += uint32(len(s.Payload))
		if flags&testnet.SYN != 0 {
			f.sequence[from]++
		}
		payload = payload[len(s.Payload):]
	}
}

// shakeHands returns the capture of a handshake.
func shakeHands(t *testing.T, port int, client, server *tls.Config) []testnet.Captured {
	t.Helper()
	f := &flights{port: port}
	f.send(0, testnet.SYN, nil)
	f.send(1, testnet.SYN|testnet.ACK, nil)
	f.send(0, testnet.ACK, nil)
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "tls"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			defer conn.Close()
			err = tls.Server(&end{conn, f, 1}, server).HandshakeContext(t.Context())
		}
		done <- err
	}()
	conn, err := net.Dial("unix", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := tls.Client(&end{conn, f, 0}, client).HandshakeContext(t.Context()); err != nil {
		t.Fatalf("port %d: %v", port, err)
	}
	if err := <-done; err != nil {
		t.Fatalf("port %d: %v", port, err)
	}
	return f.frames
}

// signed returns a certificate of a name, with so many others behind it in its chain.
func signed(t *testing.T, name pkix.Name, chain int, template x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.Subject = big.NewInt(1), name
	certificate := tls.Certificate{PrivateKey: key}
	for i := range 1 + chain {
		parent := template
		parent.Subject = pkix.Name{Country: []string{"DE"}, Organization: []string{"a", "b"}, CommonName: strconv.Itoa(i)}
		der, err := x509.CreateCertificate(rand.Reader, &template, &parent, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		certificate.Certificate = append(certificate.Certificate, der)
		template = x509.Certificate{
			SerialNumber: big.NewInt(int64(i)), Subject: parent.Subject, IsCA: true, BasicConstraintsValid: true,
		}
	}
	return certificate
}

// TestTLSAgainstTshark shakes hands in many ways, and evaluates what tshark says of the messages.
func TestTLSAgainstTshark(t *testing.T) {
	latin := asn1.RawValue{Tag: asn1.TagT61String, Bytes: []byte{'x', 0xe9}}
	odd := pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "a"},
		{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "b"},
		{Type: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}, Value: latin},
		{Type: asn1.ObjectIdentifier{2, 999, 1}, Value: "c"},
	}}
	plain := signed(t, pkix.Name{CommonName: "a.example"}, 0, x509.Certificate{DNSNames: []string{"a.example"}})
	extra := []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte{5, 0}}}
	long := signed(t, odd, 5, x509.Certificate{ExtraExtensions: extra})
	none := signed(t, pkix.Name{}, 0, x509.Certificate{})
	tls10 := func(c tls.Certificate) *tls.Config {
		return &tls.Config{
			Certificates: []tls.Certificate{c}, MinVersion: tls.VersionTLS10, InsecureSkipVerify: true, ServerName: "a.example",
		}
	}
	var frames []testnet.Captured
	for i, change := range []func(client, server *tls.Config){
		func(_, _ *tls.Config) {},
		func(client, _ *tls.Config) { client.ServerName = "10.0.0.2" },
		func(_, server *tls.Config) { server.MaxVersion = tls.VersionTLS12 },
		func(_, server *tls.Config) { server.MaxVersion = tls.VersionTLS11 },
		func(client, _ *tls.Config) { client.MaxVersion = tls.VersionTLS10 },
		func(client, _ *tls.Config) { client.MinVersion = tls.VersionTLS13 },
		func(client, server *tls.Config) {
			client.NextProtos, server.NextProtos = []string{"h2", "x"}, []string{"x"}
		},
		func(client, server *tls.Config) {
			client.NextProtos, server.NextProtos, server.MaxVersion = []string{"x"}, []string{"x"}, tls.VersionTLS12
		},
		func(client, server *tls.Config) {
			client.NextProtos, server.NextProtos, server.MaxVersion = []string{"\xc3x"}, []string{"\xc3x"}, tls.VersionTLS12
		},
		func(client, server *tls.Config) {
			client.CurvePreferences, server.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP384}, []tls.CurveID{tls.CurveP384}
		},
		func(client, _ *tls.Config) {
			client.MaxVersion, client.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		},
		func(_, server *tls.Config) {
			server.MaxVersion, server.ClientAuth = tls.VersionTLS12, tls.RequireAnyClientCert
		},
		func(_, server *tls.Config) { server.ClientAuth = tls.RequireAnyClientCert },
	} {
		for j, certificate := range []tls.Certificate{plain, long, none} {
			client, server := tls10(long), tls10(certificate)
			change(client, server)
			frames = append(frames, shakeHands(t, 1024+10*i+j, client, server)...)
		}
	}
	sameAsTshark(t, testnet.Pcap(t, frames...), []string{"ja4", "ja4s", "ja4x"}, tlsValues)
}

func tlsValues(t *testing.T, file string) testja4.Values {
	t.Helper()
	fields := []string{
		"tcp.stream", "tls.handshake.type", "tls.handshake.version", "tls.handshake.ciphersuite", "tls.handshake.extension.type",
		"tls.handshake.extensions.supported_version", "tls.handshake.extensions_alpn_str", "tls.handshake.sig_hash_alg",
		"tls.handshake.sig_hash_alg_len", "tls.handshake.certificate",
	}
	values, seen := testja4.Values{}, map[string]bool{}
	for _, f := range testnet.Dissect(t, file, fields...) {
		for _, der := range f[9] {
			values.Add("ja4x", certificateValue(t, der))
		}
		if len(f[1]) == 0 || seen[f[0][0]+f[1][0]] || f[1][0] != "1" && f[1][0] != "2" {
			continue
		}
		seen[f[0][0]+f[1][0]] = true
		version := slices.Max(append(f[5], f[2][0]))
		start := "t" + map[string]string{"0x0301": "10", "0x0302": "11", "0x0303": "12", "0x0304": "13"}[version]
		var extensions []string
		for _, code := range f[4] {
			number, _ := strconv.Atoi(code)
			extensions = append(extensions, fmt.Sprintf("%04x", number))
		}
		ciphers := strings.Split(strings.ReplaceAll(strings.Join(f[3], " "), "0x", ""), " ")
		if f[1][0] == "2" {
			values.Add("ja4s", fmt.Sprintf("%s%02d%s_%s_%s", start, len(extensions), protocol(f[6]), ciphers[0], digest(extensions)))
			continue
		}
		named := "i"
		if slices.Contains(extensions, "0000") {
			named = "d"
		}
		start += fmt.Sprintf("%s%02d%02d%s", named, len(ciphers), len(extensions), protocol(f[6]))
		extensions = slices.DeleteFunc(extensions, func(e string) bool { return e == "0000" || e == "0010" })
		slices.Sort(ciphers)
		slices.Sort(extensions)
		rest := strings.Join(extensions, ",")
		if len(f[8]) > 0 { // the first list of schemes, in bytes; another one is for certificates
			length, _ := strconv.Atoi(f[8][0])
			rest += "_" + strings.ReplaceAll(strings.Join(f[7][:length/2], ","), "0x", "")
		}
		values.Add("ja4", start+"_"+digest(ciphers)+"_"+digest([]string{rest}))
	}
	return values
}

// protocol returns the two letters for the first of some protocols, of which one begins with a byte that is no letter.
func protocol(names []string) string {
	switch {
	case len(names) == 0:
		return "00"
	case names[0][0] >= 0x80 || names[0][0] == '\\':
		return "c8" // of c378
	}
	return names[0][:1] + names[0][len(names[0])-1:]
}

func digest(list []string) string {
	if len(list) == 0 {
		return "000000000000"
	}
	sum := sha256.Sum256([]byte(strings.Join(list, ",")))
	return hex.EncodeToString(sum[:6])
}

// certificateValue returns the JA4X of a certificate that tshark writes out, as crypto/x509 reads it.
func certificateValue(t *testing.T, der string) string {
	t.Helper()
	raw, err := hex.DecodeString(der)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	var extensions []string
	for _, e := range certificate.Extensions {
		extensions = append(extensions, identifier(t, e.Id))
	}
	issuer, subject := attributes(t, certificate.RawIssuer), attributes(t, certificate.RawSubject)
	return digest(issuer) + "_" + digest(subject) + "_" + digest(extensions)
}

func attributes(t *testing.T, raw []byte) (list []string) {
	t.Helper()
	var name pkix.RDNSequence
	if _, err := asn1.Unmarshal(raw, &name); err != nil {
		t.Fatal(err)
	}
	for _, set := range name {
		for _, attribute := range set {
			list = append(list, identifier(t, attribute.Type))
		}
	}
	return list
}

// identifier returns the contents of an object identifier in DER, as hexadecimal digits.
func identifier(t *testing.T, id asn1.ObjectIdentifier) string {
	t.Helper()
	der, err := asn1.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(der[2:])
}
