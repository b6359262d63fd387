package ja4plus

import "weir/internal/fingerprint"

// QUICHandshake gathers when the packets of a QUIC handshake were seen, for JA4L and JA4LS. The zero value has seen none.
type QUICHandshake struct {
	// Nanoseconds on one clock; 0 if not seen.
	asked    uint64 // first Initial packet of the client
	answered uint64 // first Initial packet of the server
	proved   uint64 // last Handshake packet of the server before the client's
	finished uint64 // first Handshake packet of the client behind one of the server

	clientTTL, serverTTL uint8
}

// Observe takes a datagram in the order of its connection, of which 5 bytes suffice: who sent it, its time to live or hop
// limit, and when it was seen in nanoseconds. Of several packets in one datagram the first counts.
func (q *QUICHandshake) Observe(from fingerprint.Side, datagram []byte, ttl uint8, timeNs uint64) {
	switch kind := fingerprint.QUICTypeOf(datagram); {
	case kind == fingerprint.QUICInitial && from == fingerprint.Client && q.asked == 0:
		q.asked, q.clientTTL = timeNs, ttl
	case kind == fingerprint.QUICInitial && from == fingerprint.Server && q.answered == 0:
		q.answered, q.serverTTL = timeNs, ttl
	case kind != fingerprint.QUICHandshake || q.finished > 0:
	case from == fingerprint.Server:
		q.proved = timeNs
	case q.proved > 0:
		q.finished = timeNs
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
