package ja4plus

import (
	"fmt"

	"weir/internal/fingerprint"
	"weir/internal/flow"
)

// JA4L returns how far the client is from where its packets were seen: half of the microseconds from the SYN-ACK to its
// acknowledgement, and the time to live of the client's SYN, as in 11_128. There is none unless the whole handshake was seen.
func JA4L(h flow.Handshake) fingerprint.Fingerprint {
	if !complete(h) {
		return fingerprint.Fingerprint{}
	}
	return latency("ja4l", h.SYNACK.TimeNs, h.ACKNs, h.SYN.TTL)
}

// JA4LS returns how far the server is from where its packets were seen: half of the microseconds from the SYN to the
// SYN-ACK, and the time to live of the SYN-ACK, as in 1759_42. There is none unless the whole handshake was seen.
func JA4LS(h flow.Handshake) fingerprint.Fingerprint {
	if !complete(h) {
		return fingerprint.Fingerprint{}
	}
	return latency("ja4ls", h.SYN.TimeNs, h.SYNACK.TimeNs, h.SYNACK.TTL)
}

// complete reports whether each packet of a TCP handshake was seen, in order.
func complete(h flow.Handshake) bool {
	return h.SYN.TimeNs > 0 && h.SYN.TimeNs <= h.SYNACK.TimeNs && h.SYNACK.TimeNs <= h.ACKNs
}

// latency takes both times in whole microseconds, as those have them who tell no nanoseconds.
func latency(method string, fromNs, toNs uint64, ttl uint8) fingerprint.Fingerprint {
	const half, microsecond = 2, 1000
	return fingerprint.Fingerprint{Method: method, Value: fmt.Sprintf("%d_%d", (toNs/microsecond-fromNs/microsecond)/half, ttl)}
}
