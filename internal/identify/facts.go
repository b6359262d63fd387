package identify

import (
	"weir/internal/fingerprint"
	"weir/internal/fingerprint/ja4plus"
)

// Facts are what a connection says of itself. Names are printable ASCII, of 255 bytes at most; what is not known is empty.
type Facts struct {
	ServerName string // that the client asked for
	ALPN       string // protocol that the server chose, or else the first that the client offered
	TLSVersion string // that the server chose, or else the highest that the client offered: "1.3", "1.2", "1.1", "1.0", "SSLv3"

	SawClientHello, SawServerHello bool

	CarriesSSH  bool
	CarriesHTTP bool // HTTP/1, in plain text
}

// clientHello notes what a client says, and returns its fingerprint.
func (c *Conversation) clientHello(body []byte, transport fingerprint.Transport, timeNs uint64) ([]Found, error) {
	hello, err := fingerprint.ParseClientHello(body)
	if err != nil {
		return nil, err
	}
	c.facts.SawClientHello = true
	c.facts.ServerName = printable(hello.ServerName)
	if !c.facts.SawServerHello {
		c.facts.ALPN, c.facts.TLSVersion = printable(hello.ALPN), versionNames[hello.HighestVersion()]
	}
	if !c.methods["ja4"] {
		return nil, nil
	}
	return found(nil, fingerprint.JA4(&hello, transport), timeNs), nil
}

// serverHello notes what a server says, and returns its fingerprint.
func (c *Conversation) serverHello(body []byte, transport fingerprint.Transport, timeNs uint64) ([]Found, error) {
	hello, err := fingerprint.ParseServerHello(body)
	if err != nil {
		return nil, err
	}
	c.facts.SawServerHello = true
	c.facts.TLSVersion = versionNames[hello.Version]
	if hello.ALPN != nil { // from TLS 1.3 on it is encrypted
		c.facts.ALPN = printable(hello.ALPN)
	}
	if !c.methods["ja4s"] {
		return nil, nil
	}
	return found(nil, ja4plus.JA4S(&hello, transport), timeNs), nil
}

var versionNames = map[uint16]string{
	fingerprint.VersionTLS13: "1.3", fingerprint.VersionTLS12: "1.2", fingerprint.VersionTLS11: "1.1", fingerprint.VersionTLS10: "1.0",
	fingerprint.VersionSSL3: "SSLv3",
}

// printable returns a name, or nothing if it has a byte that no name should have.
func printable(name []byte) string {
	const longest = 255 // of DNS and of ALPN
	if len(name) > longest {
		return ""
	}
	for _, b := range name {
		if b <= ' ' || b > '~' {
			return ""
		}
	}
	return string(name)
}
