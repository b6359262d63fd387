package datapath

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"weir/internal/flow"
	"weir/internal/testnet"
)

// TestLiveTLS samples a handshake between sockets, which comes in super-packets, in both directions on one interface.
func TestLiveTLS(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Samples: SampleHandshakes | SampleTLS})
	out, in := testnet.Veth(t,
		testnet.End{Namespace: testnet.NewNamespace(t), Name: "out", Addrs: []string{"10.0.0.1/24", "fd00::1/64"}},
		testnet.End{Namespace: testnet.NewNamespace(t), Name: "in", Addrs: []string{"10.0.0.2/24", "fd00::2/64"}})
	k.attach(t, in, IngressTC)
	k.attachTo(t, in, onLink(in), Egress, IngressTC)
	for _, addr := range []string{"10.0.0.2:9999", "[fd00::2]:9999"} {
		handshakeTLS(t, out, in, addr)
		samples, _ := k.samples(t)
		var streams [2][]byte
		for _, s := range samples {
			if int(s.Offset) == len(streams[s.End]) {
				streams[s.End] = append(streams[s.End], s.Data...)
			}
		}
		records, _ := k.records(t, k.SweepOut)
		if len(records) != 1 || records[0].Handshake == nil {
			t.Fatalf("records %+v, want one with a handshake", records)
		}
		opener := 0
		if records[0].Initiator == flow.InitiatorEnd1 {
			opener = 1
		}
		checkHello(t, streams[opener], 1)
		checkHello(t, streams[1-opener], 2)
		h := records[0].Handshake
		if h.SYN.TimeNs == 0 || h.SYN.TimeNs > h.SYNACK.TimeNs || h.SYNACK.TimeNs > h.ACKNs || h.Resent != nil ||
			len(h.SYN.Options) < 20 || len(h.SYNACK.Options) < 20 || h.SYN.Window == 0 || h.SYNACK.TTL != 64 {
			t.Errorf("handshake %+v", h)
		}
	}
	if l := k.ledger(t); l.SamplesFull+l.SamplesLimited != 0 {
		t.Errorf("%d and %d samples left out", l.SamplesFull, l.SamplesLimited)
	}
}

// checkHello holds that a stream is a TLS record with such a message, whole, and nothing else.
func checkHello(t *testing.T, stream []byte, message byte) {
	t.Helper()
	if len(stream) < 9 || stream[0] != 22 || stream[5] != message || len(stream) != 5+int(stream[3])<<8+int(stream[4]) {
		t.Errorf("%d bytes, beginning %x, want one record with message %d", len(stream), stream[:min(9, len(stream))], message)
	}
}

// handshakeTLS connects from one link to the other, and has the connection closed.
func handshakeTLS(t *testing.T, from, to *testnet.Link, addr string) {
	t.Helper()
	var listener net.Listener
	var client net.Conn
	if err := to.Namespace.Do(func() (err error) {
		listener, err = tls.Listen("tcp", addr, &tls.Config{Certificates: []tls.Certificate{certificate(t)}})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = conn.Write([]byte("x"))
			conn.Close()
		}
		served <- err
	}()
	if err := from.Namespace.Do(func() (err error) {
		client, err = net.DialTimeout("tcp", addr, 5*time.Second)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	secured := tls.Client(client, &tls.Config{InsecureSkipVerify: true, ServerName: "weir.example"})
	if _, err := secured.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// certificate returns one that is signed with its own key.
func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
