package ja4plus

import (
	"encoding/binary"

	"weir/internal/fingerprint"
)

// QUICHandshake gathers when the packets of a QUIC handshake were seen, for JA4L and JA4LS. The zero value has seen none.
type QUICHandshake struct {
	// Nanoseconds on one clock; 0 if not seen.
	asked    uint64 // first Initial packet of the client
	answered uint64 // first Initial packet of the server
	proved   uint64 // last Handshake packet of the server before the client's
	finished uint64 // first Handshake packet of the client

	clientTTL, serverTTL uint8
}

// Observe takes a datagram in the order of its connection, of which 5 bytes suffice: from the client or from the server, its
// time to live or hop limit, and when it was seen in nanoseconds. Of several packets in one datagram the first counts.
func (q *QUICHandshake) Observe(datagram []byte, fromClient bool, ttl uint8, timeNs uint64) {
	switch packetType(datagram) {
	case quicInitial:
		switch {
		case fromClient && q.asked == 0:
			q.asked, q.clientTTL = timeNs, ttl
		case !fromClient && q.answered == 0:
			q.answered, q.serverTTL = timeNs, ttl
		}
	case quicHandshake:
		switch {
		case q.finished > 0:
		case fromClient:
			q.finished = timeNs
		default:
			q.proved = timeNs
		}
	}
}

// JA4L returns how far the client is, as JA4L of a TCP handshake: half of the microseconds from the server's last Handshake
// packet to the client's first.
func (q *QUICHandshake) JA4L() fingerprint.Fingerprint {
	if !q.complete() {
		return fingerprint.Fingerprint{}
	}
	return latency("ja4l", q.proved, q.finished, q.clientTTL)
}

// JA4LS returns how far the server is: half of the microseconds from one Initial packet to the other.
func (q *QUICHandshake) JA4LS() fingerprint.Fingerprint {
	if !q.complete() {
		return fingerprint.Fingerprint{}
	}
	return latency("ja4ls", q.asked, q.answered, q.serverTTL)
}

// complete reports whether each of the four packets was seen, in order.
func (q *QUICHandshake) complete() bool {
	return q.asked > 0 && q.asked <= q.answered && q.answered <= q.proved && q.proved <= q.finished
}

// quicType is the type of a QUIC packet.
type quicType uint8

const (
	quicOther quicType = iota
	quicInitial
	quicHandshake
)

// packetType returns the type of the first packet in a datagram, by its long header (RFC 9000, section 17.2; RFC 9369,
// section 3.2).
func packetType(datagram []byte) quicType {
	const long, version1, version2 = 0x80, 1, 0x6b3343cf
	if len(datagram) < 5 || datagram[0]&long == 0 {
		return quicOther
	}
	kind := datagram[0] >> 4 & 3
	switch binary.BigEndian.Uint32(datagram[1:]) {
	case version1:
	case version2:
		kind-- // the same types, each one higher
	default:
		return quicOther
	}
	switch kind & 3 {
	case 0:
		return quicInitial
	case 2:
		return quicHandshake
	}
	return quicOther
}
