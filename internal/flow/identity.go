package flow

import (
	"slices"
	"strconv"
	"time"
)

// Method is a kind of fingerprint that events carry: a method of JA4+, hashed, or the raw form of one.
type Method uint8

// The values of Method. The raw form of a method that hashes something is next to it.
const (
	JA4 Method = iota
	JA4Raw
	JA4S
	JA4SRaw
	JA4H
	JA4HRaw
	JA4X
	JA4XRaw
	JA4T
	JA4TS
	JA4L
	JA4LS
	JA4SSH
	JA4D
	JA4D6
	methods
)

var methodNames = [methods]string{
	"ja4", "ja4_r", "ja4s", "ja4s_r", "ja4h", "ja4h_r", "ja4x", "ja4x_r", "ja4t", "ja4ts", "ja4l", "ja4ls", "ja4ssh", "ja4d", "ja4d6",
}

// methodKeys are the names as members of an object.
var methodKeys = func() (keys [methods]string) {
	for i, name := range methodNames {
		keys[i] = `,"` + name + `":`
	}
	return keys
}()

// Methods returns every Method, in the order in which events carry them.
func Methods() []Method {
	all := make([]Method, methods)
	for i := range all {
		all[i] = Method(i)
	}
	return all
}

// MethodNamed returns the method of a name, or false if there is none.
func MethodNamed(name string) (Method, bool) {
	i := slices.Index(methodNames[:], name)
	return Method(max(i, 0)), i >= 0
}

// String returns the name that settings, FlowEvents and metrics have.
func (m Method) String() string {
	if m >= methods {
		return "unknown"
	}
	return methodNames[m]
}

// Hashed returns the method itself, or the one that a raw form is of.
func (m Method) Hashed() Method {
	switch m {
	case JA4Raw, JA4SRaw, JA4HRaw, JA4XRaw:
		return m - 1
	}
	return m
}

// Raw returns the raw form of a method, or false if there is none.
func (m Method) Raw() (Method, bool) {
	raw := m + 1
	return raw, raw < methods && raw.Hashed() == m
}

// Several says whether a connection can have several fingerprints of the method: one for each request, certificate, window of
// an SSH session or message of DHCP. Events carry them as arrays.
func (m Method) Several() bool {
	switch m.Hashed() {
	case JA4H, JA4X, JA4SSH, JA4D, JA4D6:
		return true
	}
	return false
}

// Identity is who is talking over a connection, as far as that is known: what is not is empty.
type Identity struct {
	// Fingerprints has them by Method, in the order in which they were seen. Of a method without several the last one counts.
	Fingerprints [methods][]string

	ServerName string // that the client asked for (RFC 6066, section 3)
	ALPN       string // protocol that the server chose or, if that is not known, the first that the client offered (RFC 7301)
	TLSVersion string // likewise: "1.3", "1.2", "1.1", "1.0", "SSLv3"

	App        string // what the database of fingerprints calls the program
	KnownBad   bool   // a fingerprint is on the list of bad ones
	New        bool   // a fingerprint was not seen on this network before
	MSS        uint16 // that the client announced, in bytes
	Tunnel     string // what the MSS says of one on the way
	SSHSession string // what the lengths of SSH's packets say of it

	HandshakeRTT time.Duration // from the SYN to the acknowledgement of the SYN-ACK, as seen here
	Anomalies    []string      // in words
}

// appendJSON appends the members of what is known, each with a comma in front.
func (i *Identity) appendJSON(dst []byte) []byte {
	for m, values := range i.Fingerprints {
		switch {
		case len(values) == 0:
		case Method(m).Several():
			dst = appendStrings(dst, methodKeys[m], values)
		default:
			dst = appendMember(dst, methodKeys[m], values[len(values)-1])
		}
	}
	dst = appendMember(dst, `,"tls_server_name":`, i.ServerName)
	dst = appendMember(dst, `,"alpn":`, i.ALPN)
	dst = appendMember(dst, `,"tls_version":`, i.TLSVersion)
	dst = appendMember(dst, `,"app":`, i.App)
	if i.KnownBad {
		dst = append(dst, `,"known_bad":true`...)
	}
	if i.New {
		dst = append(dst, `,"new_fingerprint":true`...)
	}
	if i.MSS != 0 {
		dst = append(dst, `,"mss":`...)
		dst = strconv.AppendUint(dst, uint64(i.MSS), 10)
	}
	dst = appendMember(dst, `,"tunnel":`, i.Tunnel)
	dst = appendMember(dst, `,"ssh_session":`, i.SSHSession)
	if micros := i.HandshakeRTT.Microseconds(); micros > 0 {
		dst = append(dst, `,"handshake_rtt":`...)
		dst = appendFloat(dst, float64(micros)/1e6)
	}
	return appendStrings(dst, `,"anomalies":`, i.Anomalies)
}

// appendMember appends a text under a key that is written as it is, unless it is empty.
func appendMember(dst []byte, key, text string) []byte {
	if text == "" {
		return dst
	}
	return appendString(append(dst, key...), text)
}

// appendStrings appends an array under a key that is written as it is, unless it is empty.
func appendStrings(dst []byte, key string, texts []string) []byte {
	if len(texts) == 0 {
		return dst
	}
	dst = append(dst, key...)
	separator := byte('[')
	for _, text := range texts {
		dst = appendString(append(dst, separator), text)
		separator = ','
	}
	return append(dst, ']')
}
