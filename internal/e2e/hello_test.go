package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	serverName   = "who.example"
	extensionSNI = 0  // RFC 6066
	extensionALP = 16 // RFC 7301
)

// ja4Of makes the fingerprint of a hello as Go's TLS server read it. transport is "t" or "q".
func ja4Of(transport string, hello *tls.ClientHelloInfo) string {
	name, protocol := "i", "00"
	if hello.ServerName != "" {
		name = "d"
	}
	if len(hello.SupportedProtos) > 0 {
		first := hello.SupportedProtos[0]
		protocol = first[:1] + first[len(first)-1:]
	}
	extensions := slices.DeleteFunc(slices.Clone(hello.Extensions), func(e uint16) bool {
		return e == extensionSNI || e == extensionALP
	})
	schemes := make([]uint16, len(hello.SignatureSchemes))
	for i, scheme := range hello.SignatureSchemes {
		schemes[i] = uint16(scheme)
	}
	return fmt.Sprintf("%s%s%s%02d%02d%s_%s_%s",
		transport, versionOf(slices.Max(hello.SupportedVersions)), name, len(hello.CipherSuites), len(hello.Extensions), protocol,
		hashOf(sortedHex(hello.CipherSuites)), hashOf(sortedHex(extensions)+"_"+hexOf(schemes)))
}

// ja4sOf makes the fingerprint of a server's hello with such extensions. protocol is that of its ALPN, if it is in the hello.
func ja4sOf(transport string, version, cipher uint16, protocol string, extensions ...uint16) string {
	return fmt.Sprintf("%s%s%02d%s_%04x_%s",
		transport, versionOf(version), len(extensions), protocol, cipher, hashOf(hexOf(extensions)))
}

func versionOf(version uint16) string {
	return map[uint16]string{tls.VersionTLS12: "12", tls.VersionTLS13: "13"}[version]
}

func sortedHex(numbers []uint16) string { return hexOf(slices.Sorted(slices.Values(numbers))) }

func hexOf(numbers []uint16) string {
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = fmt.Sprintf("%04x", n)
	}
	return strings.Join(texts, ",")
}

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])[:12]
}

// credentials are a server's certificate and key, also as files.
type credentials struct {
	tls.Certificate
	certFile, keyFile string
}

func newCredentials(t *testing.T) credentials {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{serverName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return credentials{
		tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		writePEM(t, filepath.Join(dir, "cert.pem"), "CERTIFICATE", der),
		writePEM(t, filepath.Join(dir, "key.pem"), "PRIVATE KEY", pkcs8),
	}
}

func writePEM(t *testing.T, path, kind string, der []byte) string {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// greetings are the hellos of Go's TLS as they are sent, and their fingerprints.
type greetings struct {
	hello, answer []byte // TLS records
	ja4, ja4s     string
}

// greet has a client meet a server. The key exchange makes the hellos long or short.
func greet(t *testing.T, exchange tls.CurveID) (g greetings) {
	t.Helper()
	self := newCredentials(t)
	var said, answered bytes.Buffer
	var hello *tls.ClientHelloInfo
	ours, theirs := net.Pipe()
	var serving sync.WaitGroup
	serving.Go(func() {
		_ = tls.Server(tapped{theirs, &said}, &tls.Config{
			Certificates: []tls.Certificate{self.Certificate},
			GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
				hello = info
				return nil, nil
			},
		}).Handshake() // the client says whether it succeeds
		theirs.Close()
	})
	client := tls.Client(tapped{ours, &answered}, &tls.Config{
		ServerName: serverName, InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{exchange},
	})
	err := client.Handshake()
	ours.Close()
	serving.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return greetings{
		firstRecord(said.Bytes()), firstRecord(answered.Bytes()), ja4Of("t", hello),
		ja4sOf("t", tls.VersionTLS13, client.ConnectionState().CipherSuite, "00", extensions13...),
	}
}

// firstRecord cuts the first TLS record off (RFC 8446, section 5.1).
func firstRecord(stream []byte) []byte {
	const header = 5
	return stream[:header+int(stream[3])<<8+int(stream[4])]
}

// tapped is a connection of which what is read is kept.
type tapped struct {
	net.Conn
	read io.Writer
}

func (r tapped) Read(b []byte) (int, error) { return io.TeeReader(r.Conn, r.read).Read(b) }
