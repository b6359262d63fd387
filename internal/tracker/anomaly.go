package tracker

import (
	"fmt"
	"slices"
	"strconv"
)

// Facts is what the rules of anomalies need to know besides the Connection.
type Facts struct {
	ClientHello bool // a TLS ClientHello was seen, over TCP or in QUIC
	ServerHello bool // a TLS ServerHello was seen
	HTTP        bool // a request head of HTTP/1 was seen, not encrypted
	SSH         bool // SSH was seen
	HTTPSampled bool // HTTP is looked for, so that none seen means none sent
	Ended       bool // the connection is over, and what the server sent was looked at

	BadReason      string // why a fingerprint is on the list of bad ones; "" if that is not known
	NewFingerprint string // the one that was first seen here, with its method; "" if that is not known
	UsualMSS       uint16 // of the network and the connection's IP version, in bytes; 0 if that is not known
}

// rule is an anomaly. describe returns "" if the connection does not have it.
type rule struct {
	name     string
	describe func(c *Connection, f *Facts) string
}

var rules = []rule{
	{"known_bad", knownBad},
	{"first_seen", firstSeen},
	{"fingerprint_changed", fingerprintChanged},
	{"tls_on_plain_port", tlsOnPlainPort},
	{"plain_on_tls_port", plainOnTLSPort},
	{"reverse_ssh", reverseSSH},
	{"unusual_tunnel", unusualTunnel},
	{"unanswered_hello", unansweredHello},
}

// Rules returns the names of all anomalies.
func Rules() []string {
	names := make([]string, len(rules))
	for i := range rules {
		names[i] = rules[i].name
	}
	return names
}

// Evaluate adds to Anomalies what is odd about the connection and was not yet found, and returns the names of those rules.
// Each rule is found once per connection.
func (c *Connection) Evaluate(f *Facts) []string {
	var found []string
	for i := range rules {
		if c.raised&(1<<i) != 0 {
			continue
		}
		if description := rules[i].describe(c, f); description != "" {
			c.raised |= 1 << i
			c.Anomalies = append(c.Anomalies, description)
			found = append(found, rules[i].name)
		}
	}
	return found
}

func knownBad(c *Connection, f *Facts) string {
	if !c.IsKnownBad {
		return ""
	}
	return detailed("known-bad fingerprint", f.BadReason)
}

func firstSeen(c *Connection, f *Facts) string {
	if !c.IsNew {
		return ""
	}
	return detailed("fingerprint first seen on this network", f.NewFingerprint)
}

func detailed(description, detail string) string {
	if detail == "" {
		return description
	}
	return description + ": " + quote(detail)
}

// stableTypes have one value for the whole of a connection. The others do not: JA4S has a second one after a
// HelloRetryRequest (RFC 8446, section 4.1.4), JA4X one for each certificate, JA4H for each request, JA4SSH for each window.
var stableTypes = []string{"ja4", "ja4t"}

func fingerprintChanged(c *Connection, _ *Facts) string {
	for _, fpType := range stableTypes {
		if n := len(c.Fingerprints[fpType]); n > 1 {
			last := c.Fingerprints[fpType][n-2:]
			before, after := quote(last[0].Value), quote(last[1].Value)
			return fmt.Sprintf("%s changed within the connection: %s, then %s", fpType, before, after)
		}
	}
	return ""
}

// plainPorts have protocols without TLS. Those where TLS may begin later, by STARTTLS or the like, are not among them:
// FTP (21), SMTP (25, 587), POP3 (110), IMAP (143), LDAP (389), XMPP (5222), the databases.
var plainPorts = []uint16{22, 23, 43, 53, 79, 80, 8000, 8080}

// tlsOnPlainPort leaves out what follows plain HTTP on the same connection: that is how a proxy's CONNECT looks (RFC 9110,
// section 9.3.6). It does not judge where HTTP is not looked for.
func tlsOnPlainPort(c *Connection, f *Facts) string {
	if !f.ClientHello || f.HTTP || !f.HTTPSampled || !slices.Contains(plainPorts, c.DstPort) {
		return ""
	}
	return fmt.Sprintf("TLS on port %d, where another protocol is expected", c.DstPort)
}

// tlsPorts have protocols that begin with TLS at once: HTTPS (443, 8443), SMTP (465), NNTP (563), LDAP (636), DNS (853), FTP
// (990), IMAP (993), POP3 (995), SIP (5061), MQTT (8883).
var tlsPorts = []uint16{443, 465, 563, 636, 853, 990, 993, 995, 5061, 8443, 8883}

func plainOnTLSPort(c *Connection, f *Facts) string {
	var protocol string
	switch {
	case !slices.Contains(tlsPorts, c.DstPort):
		return ""
	case f.SSH:
		protocol = "SSH"
	case f.HTTP:
		protocol = "HTTP without TLS"
	default:
		return ""
	}
	return fmt.Sprintf("%s on port %d, where TLS is expected", protocol, c.DstPort)
}

func reverseSSH(c *Connection, _ *Facts) string {
	if c.SSHSessionType != "Reverse SSH Session" {
		return ""
	}
	return "the SSH session is typed from the server's side: reverse SSH"
}

func unusualTunnel(c *Connection, f *Facts) string {
	v6 := c.isIPv6()
	own := findLink(uint16(c.MSSValue), v6)
	if own == nil || !own.tunnel || f.UsualMSS == 0 || int(f.UsualMSS) == c.MSSValue {
		return ""
	}
	if usual := findLink(f.UsualMSS, v6); usual != nil && usual.tunnel {
		return ""
	}
	return fmt.Sprintf("MSS %d as in a tunnel (%s), where the network's is %d", c.MSSValue, c.TunnelIndicator, f.UsualMSS)
}

func unansweredHello(_ *Connection, f *Facts) string {
	if !f.Ended || !f.ClientHello || f.ServerHello {
		return ""
	}
	return "TLS ClientHello without a ServerHello"
}

// longestQuote is the most bytes of a text from outside that a description repeats.
const longestQuote = 128

// quote makes a text from outside safe to show: what is not printable ASCII is escaped, and what is too long cut.
func quote(text string) string {
	cut := ""
	if len(text) > longestQuote {
		text, cut = text[:longestQuote], "…"
	}
	quoted := strconv.QuoteToASCII(text)
	return quoted[1:len(quoted)-1] + cut
}
