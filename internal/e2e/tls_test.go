package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/internal/testbrain"
	"weir/internal/testnet"
)

const request = "GET / HTTP/1.1\r\nHost: " + serverName + "\r\nConnection: close\r\n\r\n"

// meeting is a TLS connection, and what its events should say of it.
type meeting struct {
	client, server string // addresses
	identity       testbrain.Identity
}

// host is a TLS server of Go's that notes whom it meets.
type host struct {
	certificate tls.Certificate
	mss         uint16 // that its clients announce

	mu  sync.Mutex
	met []meeting
}

// receive serves one request.
func (h *host) receive(conn *net.TCPConn) {
	defer conn.Close()
	var hello *tls.ClientHelloInfo
	secured := tls.Server(conn, &tls.Config{
		Certificates: []tls.Certificate{h.certificate}, NextProtos: []string{"http/1.1"},
		GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			hello = info
			return nil, nil
		},
	})
	defer secured.Close()
	if secured.Handshake() != nil {
		return
	}
	h.note(conn, hello, secured.ConnectionState())
	if _, err := http.ReadRequest(bufio.NewReader(secured)); err == nil {
		_, _ = io.WriteString(secured, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	}
}

// Extensions of a server's hello, in the order in which they are sent: by Go's TLS 1.2, and of TLS 1.3 by OpenSSL's too.
var (
	extensions12 = []uint16{35, 0xff01, 23, 16, 11, 0}
	extensions13 = []uint16{43, 51}
)

func (h *host) note(conn *net.TCPConn, hello *tls.ClientHelloInfo, state tls.ConnectionState) {
	m := meeting{
		conn.RemoteAddr().String(), conn.LocalAddr().String(),
		testbrain.Identity{
			JA4: ja4Of("t", hello), JA4S: ja4sOf("t", state.Version, state.CipherSuite, "00", extensions13...),
			TLSServerName: serverName, ALPN: hello.SupportedProtos[0], TLSVersion: "1.3", MSS: h.mss,
		},
	}
	if state.Version == tls.VersionTLS12 { // which says in plain text what was agreed upon
		m.identity.JA4S = ja4sOf("t", state.Version, state.CipherSuite, "h1", extensions12...)
		m.identity.ALPN, m.identity.TLSVersion = state.NegotiatedProtocol, "1.2"
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.met = append(h.met, m)
}

func (h *host) meetings() []meeting {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.met
}

// visitors are clients of different makes. Go's comes first.
var visitors = []func(t *testing.T, from *testnet.Namespace, addr string){
	func(t *testing.T, from *testnet.Namespace, addr string) { visitGo(t, from, addr) },
	func(t *testing.T, from *testnet.Namespace, addr string) {
		ip, port, _ := net.SplitHostPort(addr)
		run(t, from, "", "curl", "--silent", "--show-error", "--insecure", "--max-time", "10",
			"--resolve", fmt.Sprintf("%s:%s:[%s]", serverName, port, ip), fmt.Sprintf("https://%s:%s/", serverName, port))
	},
	func(t *testing.T, from *testnet.Namespace, addr string) {
		run(t, from, request, "openssl", "s_client", "-quiet", "-tls1_2", "-alpn", "h2,http/1.1",
			"-servername", serverName, "-connect", addr)
	},
}

// visitGo makes a request with Go's TLS, and returns where from and what was agreed upon.
func visitGo(t *testing.T, from *testnet.Namespace, addr string) (client string, state tls.ConnectionState) {
	t.Helper()
	err := from.Do(func() error {
		conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		secured := tls.Client(conn, &tls.Config{
			ServerName: serverName, InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"},
		})
		if _, err := io.WriteString(secured, request); err != nil {
			return err
		}
		client, state = conn.LocalAddr().String(), secured.ConnectionState()
		_, err = io.ReadAll(secured)
		return err
	})
	if err != nil {
		t.Fatalf("visit %s: %v", addr, err)
	}
	return client, state
}

// TestTLS has clients of three makes meet servers of two over IPv4, IPv6 and a VLAN, beside either of them and at either hook:
// the events of both directions say what the server understood.
func TestTLS(t *testing.T) {
	for _, row := range []struct {
		name, hook string
		atClient   bool
	}{
		{"XDP of the server", "xdp", false},
		{"tc of the server", "tc", false},
		{"XDP of the client", "xdp", true},
		{"tc of the client", "tc", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newPair(t)
			a, brain := p.watch(t, row.hook, row.atClient, "AGENT_BPF_FILTER=not net 10.7.0.0/24") // but behind a tag
			p.clientLink.AddVLAN(t, "tagged", "10.7.0.1/24", 7)
			p.serverLink.AddVLAN(t, "tagged", "10.7.0.2/24", 7)
			met := p.meetAll(t)
			a.terminate(t)
			checkMeetings(t, brain.Events(), met)
		})
	}
}

// watch starts weir beside the server or the client, to tell of TLS.
func (p pair) watch(t *testing.T, hook string, atClient bool, settings ...string) (*agent, *testbrain.Brain) {
	t.Helper()
	link := p.serverLink
	if atClient {
		link = p.clientLink
	}
	brain := brainIn(t, link.Namespace, testbrain.Options{})
	return start(t, link.Namespace, append(settings, "AGENT_INTERFACE="+link.Name, "AGENT_INGRESS_HOOK="+hook,
		"AGENT_FINGERPRINTS=ja4,ja4s", "AGENT_ENDPOINT_URL="+brain.URL())...), brain
}

// meetAll has every visitor visit a server of Go's over every path, and Go's client one of OpenSSL's.
func (p pair) meetAll(t *testing.T) (met []meeting) {
	t.Helper()
	type path struct {
		listen string
		mss    uint16
	}
	self := newCredentials(t)
	for _, path := range []path{{"10.9.0.2:0", 1460}, {"[fd09::2]:0", 1440}, {"10.7.0.2:0", 1460}} {
		h := &host{certificate: self.Certificate, mss: path.mss}
		addr := p.listen(t, path.listen, h.receive)
		for _, visit := range visitors {
			visit(t, p.client, addr)
		}
		here := h.meetings()
		if len(here) != len(visitors) {
			t.Fatalf("%d visits to %s, want %d", len(here), addr, len(visitors))
		}
		met = append(met, here...)
	}
	port := p.serveOpenSSL(t, self)
	for addr, like := range map[string]meeting{"10.9.0.2:" + port: met[0], "[fd09::2]:" + port: met[len(visitors)]} {
		client, state := visitGo(t, p.client, addr)
		m := meeting{client, addr, like.identity} // the same hello
		m.identity.JA4S = ja4sOf("t", state.Version, state.CipherSuite, "00", extensions13...)
		met = append(met, m)
	}
	return met
}

// serveOpenSSL runs a server of OpenSSL's until the test ends, and returns its port.
func (p pair) serveOpenSSL(t *testing.T, self credentials) (port string) {
	t.Helper()
	cmd := exec.Command(tool(t, "openssl"), "s_server", "-accept", "0", "-www", "-cert", self.certFile, "-key", self.keyFile)
	printed := background(t, p.server, cmd)
	testnet.Eventually(t, "openssl s_server listens", func() bool {
		_, after, found := strings.Cut(printed.String(), "ACCEPT [::]:")
		port, _, _ = strings.Cut(after, "\n")
		return found && strings.Contains(after, "\n")
	})
	return port
}

// checkMeetings compares the events of both directions of each connection with what they should say.
func checkMeetings(t *testing.T, events []testbrain.Event, met []meeting) {
	t.Helper()
	want := map[string]testbrain.Identity{}
	for _, m := range met {
		want[flowID(m.client, m.server)], want[flowID(m.server, m.client)] = m.identity, m.identity
	}
	seen := map[string]bool{}
	for _, e := range events {
		got := e.Identity
		if got.HandshakeRTT <= 0 || got.HandshakeRTT > 10 {
			t.Errorf("flow %s took %f s for its handshake", e.FlowID, got.HandshakeRTT)
		}
		got.HandshakeRTT = 0
		if !reflect.DeepEqual(got, want[e.FlowID]) {
			t.Errorf("flow %s: %+v, want %+v", e.FlowID, got, want[e.FlowID])
		}
		seen[e.FlowID] = true
	}
	if len(seen) != len(want) {
		t.Errorf("events of %d flows, want %d", len(seen), len(want))
	}
}
