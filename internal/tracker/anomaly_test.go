package tracker_test

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"weir/internal/tracker"
)

type anomalyCase struct {
	name  string
	port  uint16 // the server's
	know  func(c *tracker.Connection)
	facts tracker.Facts
	rule  string // "" for none
	want  string
}

func nothing(*tracker.Connection) {}

func fingerprints(fpType string, values ...string) func(*tracker.Connection) {
	return func(c *tracker.Connection) {
		for i, value := range values {
			c.AddFingerprint(fpType, value, start, uint64(i))
		}
	}
}

func mss(value uint16) func(*tracker.Connection) {
	return func(c *tracker.Connection) { c.SetMSS(value) }
}

// portCases are those of protocols on ports of others.
func portCases() []anomalyCase {
	const onPlain, onTLS = "tls_on_plain_port", "plain_on_tls_port"
	hello := tracker.Facts{ClientHello: true, HTTPSampled: true}
	cases := []anomalyCase{
		{"TLS of a proxy", 8080, nothing, tracker.Facts{ClientHello: true, HTTP: true, HTTPSampled: true}, "", ""},
		{"TLS where a proxy is not seen", 8080, nothing, tracker.Facts{ClientHello: true}, "", ""},
		{"TLS on a port of TLS", 443, nothing, hello, "", ""},
		{"TLS on any port", 4433, nothing, hello, "", ""},
		{"HTTP on a port of HTTP", 80, nothing, tracker.Facts{HTTP: true}, "", ""},
		{"SSH on a port of SSH", 22, nothing, tracker.Facts{SSH: true}, "", ""},
		{"nothing seen", 443, nothing, tracker.Facts{}, "", ""},
	}
	for _, port := range []uint16{21, 25, 110, 143, 389, 587} {
		cases = append(cases, anomalyCase{"TLS after STARTTLS", port, nothing, hello, "", ""})
	}
	for _, port := range []uint16{22, 23, 53, 80, 8080} {
		want := fmt.Sprintf("TLS on port %d, where another protocol is expected", port)
		cases = append(cases, anomalyCase{"TLS on a port without", port, nothing, hello, onPlain, want})
	}
	for _, port := range []uint16{443, 853, 993, 8443} {
		cases = append(
			cases,
			anomalyCase{
				"SSH on a port of TLS", port, nothing,
				tracker.Facts{SSH: true},
				onTLS,
				fmt.Sprintf("SSH on port %d, where TLS is expected", port),
			},
			anomalyCase{
				"HTTP on a port of TLS", port, nothing,
				tracker.Facts{HTTP: true},
				onTLS,
				fmt.Sprintf("HTTP without TLS on port %d, where TLS is expected", port),
			},
		)
	}
	return cases
}

// fingerprintCases are those of what is known of fingerprints.
func fingerprintCases() []anomalyCase {
	const changed, aThenB = "fingerprint_changed", " changed within the connection: a, then b"
	bad := func(c *tracker.Connection) { c.IsKnownBad = true }
	isNew := func(c *tracker.Connection) { c.IsNew = true }
	newHello := tracker.Facts{NewFingerprint: "ja4 t13d1516h2_a_b"}
	return []anomalyCase{
		{"known bad", 443, bad, tracker.Facts{BadReason: "Sliver"}, "known_bad", "known-bad fingerprint: Sliver"},
		{"known bad, nobody says why", 443, bad, tracker.Facts{}, "known_bad", "known-bad fingerprint"},
		{"a reason without a finding", 443, nothing, tracker.Facts{BadReason: "Sliver"}, "", ""},
		{"a fingerprint that is not new", 443, nothing, newHello, "", ""},
		{"new", 443, isNew, tracker.Facts{}, "first_seen", "fingerprint first seen on this network"},
		{"new hello", 443, isNew, newHello, "first_seen", "fingerprint first seen on this network: ja4 t13d1516h2_a_b"},
		{"one hello", 443, fingerprints("ja4", "a", "a"), tracker.Facts{}, "", ""},
		{"two hellos", 443, fingerprints("ja4", "a", "b"), tracker.Facts{}, changed, "ja4" + aThenB},
		{"two SYNs", 443, fingerprints("ja4t", "a", "b"), tracker.Facts{}, changed, "ja4t" + aThenB},
		{"two requests", 80, fingerprints("ja4h", "a", "b"), tracker.Facts{}, "", ""},
		{"an answer after a retry", 443, fingerprints("ja4s", "a", "b"), tracker.Facts{}, "", ""},
	}
}

// sessionCases are those of how a connection goes.
func sessionCases() []anomalyCase {
	ssh := func(session string) func(*tracker.Connection) {
		return func(c *tracker.Connection) { c.SSHSessionType = session }
	}
	const reversed = "the SSH session is typed from the server's side: reverse SSH"
	const tunnel = "MSS 1380 as in a tunnel (possible WireGuard), where the network's is 1460"
	const unanswered = "TLS ClientHello without a ServerHello"
	return []anomalyCase{
		{"reverse SSH", 22, ssh("Reverse SSH Session"), tracker.Facts{SSH: true}, "reverse_ssh", reversed},
		{"interactive SSH", 22, ssh("Interactive SSH Session"), tracker.Facts{SSH: true}, "", ""},
		{"a tunnel", 443, mss(1380), tracker.Facts{UsualMSS: 1460}, "unusual_tunnel", tunnel},
		{"a tunnel like all others", 443, mss(1380), tracker.Facts{UsualMSS: 1380}, "", ""},
		{"a tunnel among other tunnels", 443, mss(1380), tracker.Facts{UsualMSS: 1410}, "", ""},
		{"a tunnel in an unknown network", 443, mss(1380), tracker.Facts{}, "", ""},
		{"an access line", 443, mss(1452), tracker.Facts{UsualMSS: 1460}, "", ""},
		{"no tunnel", 443, mss(1460), tracker.Facts{UsualMSS: 1380}, "", ""},
		{"no answer", 443, nothing, tracker.Facts{ClientHello: true, Ended: true}, "unanswered_hello", unanswered},
		{"no answer yet", 443, nothing, tracker.Facts{ClientHello: true}, "", ""},
		{"an answer", 443, nothing, tracker.Facts{ClientHello: true, ServerHello: true, Ended: true}, "", ""},
		{"no TLS", 443, nothing, tracker.Facts{Ended: true}, "", ""},
	}
}

func TestEvaluate(t *testing.T) {
	tested := map[string]bool{}
	for _, tc := range slices.Concat(portCases(), fingerprintCases(), sessionCases()) {
		t.Run(fmt.Sprint(tc.name, " ", tc.port), func(t *testing.T) {
			tested[tc.rule] = true
			c := tracker.NewConnection(client, clientPort, server, tc.port, "tcp", start)
			tc.know(c)
			found := c.Evaluate(&tc.facts)
			if strings.Join(found, " ") != tc.rule || strings.Join(c.Anomalies, " ") != tc.want {
				t.Errorf("found %q, %q, want %q, %q", found, c.Anomalies, tc.rule, tc.want)
			}
			if again := c.Evaluate(&tc.facts); again != nil || len(c.Anomalies) != len(found) {
				t.Errorf("found %q again", again)
			}
		})
	}
	for _, rule := range tracker.Rules() {
		if !tested[rule] {
			t.Errorf("no case for %s", rule)
		}
	}
}

func TestRulesAreInTheDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../docs/known-fingerprints.md")
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		named = append(named, row[1])
	}
	if !slices.Equal(named, tracker.Rules()) {
		t.Errorf("the table has %q, want %q", named, tracker.Rules())
	}
}

// TestDescriptionsAreSafe lets texts from outside try to break a line of a log, or to fill it.
func TestDescriptionsAreSafe(t *testing.T) {
	hostile := "\x1b[2J\n\u202e\xff\"" + strings.Repeat("x", 10_000)
	c := newConnection()
	c.IsKnownBad, c.IsNew = true, true
	fingerprints("ja4", "a", hostile)(c)
	c.Evaluate(&tracker.Facts{BadReason: hostile, NewFingerprint: hostile})
	if len(c.Anomalies) != 3 {
		t.Fatalf("found %q, want three", c.Anomalies)
	}
	for _, description := range c.Anomalies {
		unsafe := strings.ContainsFunc(description, func(r rune) bool { return r != '…' && (r < ' ' || r > '~') })
		if unsafe || len(description) > 1000 || !strings.HasSuffix(description, "x…") {
			t.Errorf("the description %q has %d bytes, want printable ASCII, cut", description, len(description))
		}
	}
}
