package e2e

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"weir/internal/testbrain"
	"weir/internal/testnet"
)

const quicProtocol = "weir-test"

// quicTLS is the configuration of a client, and with credentials that of a server.
func quicTLS(self *credentials) *tls.Config {
	config := &tls.Config{ServerName: serverName, InsecureSkipVerify: true, NextProtos: []string{quicProtocol}}
	if self != nil {
		config.Certificates = []tls.Certificate{self.Certificate}
	}
	return config
}

// udpIn opens a UDP socket in a namespace until the test ends.
func udpIn(t *testing.T, in *testnet.Namespace, addr string) (conn *net.UDPConn) {
	t.Helper()
	err := in.Do(func() error {
		packets, err := net.ListenPacket("udp", addr)
		if err == nil {
			conn = packets.(*net.UDPConn)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// quicHost is a QUIC server that notes the hellos of its clients, by their addresses.
type quicHost struct {
	mu     sync.Mutex
	hellos map[string]*tls.ClientHelloInfo
}

func (h *quicHost) note(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hellos[hello.Conn.RemoteAddr().String()] = hello
	return nil, nil
}

// hello returns that of a client.
func (h *quicHost) hello(client net.Addr) *tls.ClientHelloInfo {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hellos[client.String()]
}

// serve echoes the first stream of each connection until the test ends.
func (h *quicHost) serve(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	self := newCredentials(t)
	config := quicTLS(&self)
	config.GetConfigForClient = h.note
	listener, err := quic.Listen(conn, config, &quic.Config{Versions: []quic.Version{quic.Version1, quic.Version2}})
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := listener.Accept(context.Background())
			if err != nil {
				return
			}
			served.Go(func() { echoStream(c) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		served.Wait()
	})
}

func echoStream(c *quic.Conn) {
	stream, err := c.AcceptStream(c.Context())
	if err != nil {
		return
	}
	_, _ = io.Copy(stream, stream)
	stream.Close()
	<-c.Context().Done() // the client closes
}

// talkQUIC has a client send something and read it again. It returns the cipher that was agreed upon.
func talkQUIC(t *testing.T, conn net.PacketConn, server net.Addr, version quic.Version) (cipher uint16) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := quic.Dial(ctx, conn, server, quicTLS(nil), &quic.Config{Versions: []quic.Version{version}})
	if err != nil {
		t.Fatalf("dial %s: %v", server, err)
	}
	defer func() { _ = c.CloseWithError(0, "") }()
	stream, err := c.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	const text = "hello"
	if _, err := io.WriteString(stream, text); err != nil {
		t.Fatal(err)
	}
	stream.Close()
	if got, err := io.ReadAll(stream); err != nil || string(got) != text {
		t.Fatalf("echo of %s is %q, %v", server, got, err)
	}
	return c.ConnectionState().TLS.CipherSuite
}

// TestQUIC has clients of both versions of QUIC talk over IPv4 and IPv6, with hellos that take two datagrams, beside either of the
// ends.
func TestQUIC(t *testing.T) {
	for _, row := range []struct {
		name, hook string
		atClient   bool
	}{{"XDP of the server", "xdp", false}, {"tc of the client", "tc", true}} {
		t.Run(row.name, func(t *testing.T) {
			p := newPair(t)
			a, brain := p.watch(t, row.hook, row.atClient)
			want := p.talkAllQUIC(t)
			a.terminate(t)
			got := map[string]testbrain.Identity{}
			for _, e := range brain.Events() {
				got[e.FlowID] = e.Identity
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("events %+v, want %+v", got, want)
			}
		})
	}
}

// talkAllQUIC makes QUIC connections, and returns what the events of each flow should say.
func (p pair) talkAllQUIC(t *testing.T) map[string]testbrain.Identity {
	t.Helper()
	want := map[string]testbrain.Identity{}
	for _, ends := range [][2]string{{"10.9.0.1:0", "10.9.0.2:0"}, {"[fd09::1]:0", "[fd09::2]:0"}} {
		host := quicHost{hellos: map[string]*tls.ClientHelloInfo{}}
		server := udpIn(t, p.server, ends[1])
		host.serve(t, server)
		for _, version := range []quic.Version{quic.Version1, quic.Version2} {
			client := udpIn(t, p.client, ends[0])
			cipher := talkQUIC(t, client, server.LocalAddr(), version)
			hello := host.hello(client.LocalAddr())
			identity := testbrain.Identity{
				JA4: ja4Of("q", hello), JA4S: ja4sOf("q", tls.VersionTLS13, cipher, "00", extensions13...),
				TLSServerName: serverName, ALPN: quicProtocol, TLSVersion: "1.3",
			}
			want[udpFlowID(client, server)], want[udpFlowID(server, client)] = identity, identity
		}
	}
	return want
}

func udpFlowID(src, dst *net.UDPConn) string {
	id := flowID(src.LocalAddr().String(), dst.LocalAddr().String())
	return id[:len(id)-len("TCP")] + "UDP"
}
