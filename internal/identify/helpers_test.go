package identify

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"weir/internal/flow"
)

// recorder is an end of a connection that remembers what was written to it.
type recorder struct {
	net.Conn
	sent []byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.sent = append(r.sent, b...)
	return r.Conn.Write(b)
}

// pair returns two sockets that are connected with each other.
func pair(t testing.TB) (ends [2]*recorder) {
	t.Helper()
	sockets, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, socket := range sockets {
		file := os.NewFile(uintptr(socket), "socketpair")
		conn, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		_ = file.Close() // conn has its own
		t.Cleanup(func() { _ = conn.Close() })
		ends[i] = &recorder{Conn: conn}
	}
	return ends
}

// handshake returns what a client (first) and a server send to shake hands.
func handshake(t testing.TB, client, server *tls.Config) [2][]byte {
	t.Helper()
	ends := pair(t)
	client.ServerName, client.InsecureSkipVerify = "www.example", true
	server.Certificates = []tls.Certificate{certificate(t)}
	done := make(chan error, 1)
	go func() { done <- tls.Server(ends[1], server).Handshake() }()
	if err := tls.Client(ends[0], client).Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return [2][]byte{ends[0].sent, ends[1].sent}
}

// certificate is one that the server signed itself.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// methodsOn are those named.
func methodsOn(names ...string) Methods {
	methods := Methods{}
	for _, name := range names {
		methods[name] = true
	}
	return methods
}

// piecesOf cuts a stream into segments.
func piecesOf(end uint8, stream []byte, size int) []flow.Sample {
	var samples []flow.Sample
	for at := 0; at < len(stream); at += size {
		samples = append(samples, flow.Sample{
			End: end, Offset: uint32(at), Data: stream[at:min(at+size, len(stream))], TimeNs: uint64(at + 1),
		})
	}
	return samples
}

// feed gives samples to a conversation, and returns the methods of the fingerprints that come of them.
func feed(t testing.TB, c *Conversation, samples ...flow.Sample) []string {
	t.Helper()
	var methods []string
	for _, s := range samples {
		list, err := c.Sample(&s)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			if f.TimeNs != s.TimeNs {
				t.Errorf("%s is of %d ns, want that of the sample which completed it, %d", f.Method, f.TimeNs, s.TimeNs)
			}
			methods = append(methods, f.Method)
		}
	}
	return methods
}

// holds returns how many bytes of samples a conversation keeps.
func (c *Conversation) holds() int {
	n := 0
	for _, d := range c.streams {
		if d.pieces != nil {
			n += len(d.pieces.Bytes())
		}
	}
	return n
}
