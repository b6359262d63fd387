package tracker

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// primaryTypes is the order in which a connection's fingerprints are shown: what names the client's program first, then
// what names the server's, then what names systems and distances.
var primaryTypes = []string{
	"ja4", "ja4h", "ja4ssh", "ja4x", "ja4s", "ja4d", "ja4d6", "ja4t", "ja4ts", "ja4l", "ja4ls",
}

// Connection is what is known of one connection: its counters, and the fingerprints of those who speak over it.
//
// It belongs to the goroutine that owns its Tracker. Anybody else gets a Snapshot.
type Connection struct {
	ID       string // as of MakeKey
	SrcIP    string // of the end that opened the connection or, while that is not known, that was first seen to speak
	SrcPort  uint16
	DstIP    string
	DstPort  uint16
	Protocol string // in lower case: "tcp", "udp"

	FirstSeen   time.Time
	LastSeen    time.Time
	PacketCount uint64
	ByteCount   uint64 // layer 2 frame bytes

	// Fingerprints holds, by type in lower case ("ja4", "ja4s", "ja4h", …), the first 100 and the latest 900 values, of
	// which 512 bytes, in the order in which they were seen, without repetitions in a row. RawFPs holds the unhashed forms
	// likewise. Of a Tracker's connection, either is nil while there are none, and there are fewer if those of all take too much.
	Fingerprints map[string][]FingerprintEvent
	RawFPs       map[string][]FingerprintEvent

	IdentifiedApp   string // what a database of fingerprints calls the client's program
	IsKnownBad      bool   // a fingerprint is on the list of bad ones
	IsNew           bool   // first-seen fingerprint on this network
	MSSValue        int    // that the opener announced, in bytes; 0 if that is not known
	TunnelIndicator string // what the MSS says of a tunnel on the way, as by Tunnel

	// SSHSessionType is one of "Interactive SSH Session", "Reverse SSH Session", "SSH File Transfer", "SSH File Transfer
	// (Upload)" and "Unknown", and "" if the connection is not known to be of SSH.
	SSHSessionType string

	Anomalies []string // descriptions of what Evaluate found, in order

	raised uint32 // the rules that are in Anomalies, a bit for each
	size   int    // about how many bytes the histories take
	room   *room  // for those of all connections of the Tracker; nil of a connection that is in none
}

// NewConnection returns a connection of a 5-tuple that nothing has been counted of yet.
func NewConnection(srcIP string, srcPort uint16, dstIP string, dstPort uint16, proto string, ts time.Time) *Connection {
	return &Connection{
		ID:    MakeKey(srcIP, srcPort, dstIP, dstPort, proto),
		SrcIP: srcIP, SrcPort: srcPort,
		DstIP: dstIP, DstPort: dstPort,
		Protocol:  strings.ToLower(proto),
		FirstSeen: ts, LastSeen: ts,
		Fingerprints: make(map[string][]FingerprintEvent),
		RawFPs:       make(map[string][]FingerprintEvent),
	}
}

// LatestFingerprint returns the last value of a type, or "" if there is none.
func (c *Connection) LatestFingerprint(fpType string) string { return c.latest(fpType).Value }

// LatestPacketNum returns which packet of the connection completed the last value of a type, or 0 if there is none.
func (c *Connection) LatestPacketNum(fpType string) uint64 { return c.latest(fpType).PacketNum }

func (c *Connection) latest(fpType string) FingerprintEvent {
	history := c.Fingerprints[strings.ToLower(fpType)]
	if len(history) == 0 {
		return FingerprintEvent{}
	}
	return history[len(history)-1]
}

// PrimaryFingerprint returns the last value of the type that says most, JA4 before all others, and "", "" if there is
// none. Types that weir does not know come last, by name.
func (c *Connection) PrimaryFingerprint() (fpType, fingerprint string) {
	if len(c.Fingerprints) == 0 {
		return "", ""
	}
	for _, fpType := range primaryTypes {
		if value := c.LatestFingerprint(fpType); value != "" {
			return fpType, value
		}
	}
	fpType = slices.Min(slices.Collect(maps.Keys(c.Fingerprints)))
	return fpType, c.LatestFingerprint(fpType)
}

// SetMSS notes the maximum segment size that the opener announced (RFC 9293, option 2), and what it says of a tunnel.
func (c *Connection) SetMSS(mss uint16) {
	c.MSSValue = int(mss)
	c.TunnelIndicator = Tunnel(mss, c.isIPv6())
}

// Split has c begin anew, because others have taken the ports of its ends, and returns what it was until then. Only what was
// counted goes on, which is of the 5-tuple.
func (c *Connection) Split() *Connection {
	former := *c
	former.room = nil
	c.grow(-c.size)
	c.Fingerprints, c.RawFPs, c.Anomalies, c.raised = nil, nil, nil, 0
	c.IdentifiedApp, c.SSHSessionType, c.TunnelIndicator, c.MSSValue = "", "", "", 0
	c.IsKnownBad, c.IsNew = false, false
	return &former
}

// Absorb takes back what Split returned, but for what the ends said of themselves, where one record tells of both. No
// anomalies were looked for since.
func (c *Connection) Absorb(former *Connection) {
	later, laterRaw := c.Fingerprints, c.RawFPs
	c.grow(former.size - c.size)
	c.Fingerprints, c.RawFPs = former.Fingerprints, former.RawFPs
	c.extend(&c.Fingerprints, later)
	c.extend(&c.RawFPs, laterRaw)
	c.Anomalies, c.raised = former.Anomalies, former.raised
	c.IsKnownBad, c.IsNew = c.IsKnownBad || former.IsKnownBad, c.IsNew || former.IsNew
}

func (c *Connection) isIPv6() bool {
	addr, err := netip.ParseAddr(c.SrcIP)
	return err == nil && addr.Unmap().Is6()
}

// Snapshot returns a deep copy, which any goroutine may read.
func (c *Connection) Snapshot() *Connection {
	s := *c
	s.room = nil
	s.Fingerprints = copyHistories(c.Fingerprints)
	s.RawFPs = copyHistories(c.RawFPs)
	s.Anomalies = slices.Clone(c.Anomalies)
	return &s
}
