package e2e

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"weir/internal/fingerprint"
	"weir/internal/testnet"
)

// identity is what these tests read of a FlowEvent.
type identity struct {
	SrcPort      string   `json:"src_port"`
	DstPort      string   `json:"dst_port"`
	EndReason    string   `json:"end_reason"`
	JA4          string   `json:"ja4"`
	JA4S         string   `json:"ja4s"`
	JA4X         []string `json:"ja4x"`
	ServerName   string   `json:"tls_server_name"`
	TLSVersion   string   `json:"tls_version"`
	KnownBad     bool     `json:"known_bad"`
	New          bool     `json:"new_fingerprint"`
	MSS          int      `json:"mss"`
	HandshakeRTT float64  `json:"handshake_rtt"`
	Anomalies    []string `json:"anomalies"`
}

// recorded is a connection that remembers what was written to it.
type recorded struct {
	net.Conn
	sent []byte
}

func (r *recorded) Write(b []byte) (int, error) {
	r.sent = append(r.sent, b...)
	return r.Conn.Write(b)
}

// serveTLS answers over TLS up to some version at an address of the server's namespace, and returns which address that is.
func (p pair) serveTLS(t *testing.T, addr string, version uint16) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{MaxVersion: version}
	if err := p.server.Do(func() error {
		_ = server.Listener.Close() // of another namespace
		listener, err := net.Listen("tcp", addr)
		server.Listener = listener
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// greet shakes hands over TLS. It returns the client's port, and the JA4 of what it sent.
func (p pair) greet(t *testing.T, addr string) (port, ja4 string) {
	t.Helper()
	dialled, err := p.dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	conn := &recorded{Conn: dialled}
	client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: "www.example"})
	if err := errors.Join(client.Handshake(), client.Close()); err != nil {
		t.Fatal(err)
	}
	var messages fingerprint.Messages
	message, err := messages.Next(conn.sent)
	if err != nil {
		t.Fatal(err)
	}
	hello, err := fingerprint.ParseClientHello(message.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(conn.LocalAddr().(*net.TCPAddr).Port), fingerprint.JA4(&hello, fingerprint.TCP).Value
}

// identities waits for both events of the connection from a port, the client's first.
func (a *agent) identities(t *testing.T, port string) (both [2]identity) {
	t.Helper()
	testnet.Eventually(t, "both events are there", func() bool {
		found := 0
		for line := range strings.Lines(a.stdout.String()) {
			var e identity
			if !strings.HasSuffix(line, "\n") || json.Unmarshal([]byte(line), &e) != nil || e.EndReason == "active" {
				continue
			}
			switch port {
			case e.SrcPort:
				both[0] = e
				found++
			case e.DstPort:
				both[1] = e
				found++
			}
		}
		return found == 2
	})
	return both
}

// TestIdentity: both events of a connection tell who is talking, over IPv4 and IPv6, on any port.
func TestIdentity(t *testing.T) {
	p := newPair(t)
	a := start(t, p.server, "AGENT_INTERFACE=server", "AGENT_SEND_INTERVAL=100ms", "AGENT_CLOSE_LINGER=100ms",
		"AGENT_FINGERPRINTS=ja4,ja4s,ja4x,ja4h", "AGENT_FINGERPRINT_LEARN=1h")
	for name, row := range map[string]struct {
		addr         string
		mss          int
		version      uint16
		told         string
		certificates int
	}{
		"TLS 1.3":      {"10.9.0.2:0", 1460, tls.VersionTLS13, "1.3", 0},
		"TLS 1.2":      {"10.9.0.2:0", 1460, tls.VersionTLS12, "1.2", 1},
		"IPv6":         {"[fd09::2]:0", 1440, tls.VersionTLS13, "1.3", 0},
		"on port 8080": {"10.9.0.2:8080", 1460, tls.VersionTLS13, "1.3", 0},
	} {
		port, ja4 := p.greet(t, p.serveTLS(t, row.addr, row.version))
		for _, e := range a.identities(t, port) {
			if e.JA4 != ja4 || e.JA4S == "" || len(e.JA4X) != row.certificates || e.ServerName != "www.example" ||
				e.TLSVersion != row.told || e.MSS != row.mss || e.HandshakeRTT <= 0 || e.HandshakeRTT > 1 || e.New || e.KnownBad {
				t.Errorf("%s: %+v, want the JA4 %s, %d certificates, MSS %d", name, e, ja4, row.certificates, row.mss)
			}
			if strange := strings.HasSuffix(row.addr, "8080"); strange != (len(e.Anomalies) == 1) {
				t.Errorf("%s: anomalies %q", name, e.Anomalies)
			}
		}
	}
	for _, series := range []string{
		"weir_unaccounted_packets", `weir_samples_dropped_total{reason="ring_full"}`, `weir_fingerprint_failures_total{reason="malformed"}`,
	} {
		if n := a.metric(t, series); n != 0 {
			t.Errorf("%s is %v, want 0", series, n)
		}
	}
	a.terminate(t)
}

// TestKnownFingerprints: files say what is known, and are read again; what was seen is remembered over a restart.
func TestKnownFingerprints(t *testing.T) {
	p := newPair(t)
	server := p.serveTLS(t, "10.9.0.2:0", tls.VersionTLS13)
	_, ja4 := p.greet(t, server)
	dir := t.TempDir()
	bad, memory := filepath.Join(dir, "bad"), filepath.Join(dir, "memory")
	settings := []string{
		"AGENT_INTERFACE=server", "AGENT_SEND_INTERVAL=100ms", "AGENT_CLOSE_LINGER=100ms", "AGENT_FINGERPRINT_LEARN=0s",
		"AGENT_BAD_FINGERPRINTS=" + bad, "AGENT_FINGERPRINT_MEMORY=" + memory,
	}
	if err := os.WriteFile(bad, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a := start(t, p.server, settings...)
	port, _ := p.greet(t, server)
	if e := a.identities(t, port)[0]; !e.New || e.KnownBad {
		t.Errorf("at first: %+v, want that it is new", e)
	}
	if err := os.WriteFile(bad, []byte("ja4 "+ja4+" it is Go\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	testnet.Eventually(t, "the list is read again", func() bool { return a.metric(t, `weir_known_fingerprints{file="bad"}`) == 1 })
	port, _ = p.greet(t, server)
	if e := a.identities(t, port)[1]; e.New || !e.KnownBad || !slices.Equal(e.Anomalies, []string{"known-bad fingerprint: it is Go"}) {
		t.Errorf("on the list: %+v, want that it is bad and not new", e)
	}
	a.terminate(t)
	a = start(t, p.server, settings...)
	port, _ = p.greet(t, server)
	if e := a.identities(t, port)[0]; e.New || e.JA4 != ja4 {
		t.Errorf("after a restart: %+v, want that it is not new", e)
	}
}
