package identify

import (
	"encoding/binary"
	"time"

	"weir/internal/flow"
)

// announcedMSS returns the maximum segment size that the options of a SYN announce, in bytes, or 0 (RFC 9293, section 3.7.1).
func announcedMSS(options []byte) uint16 {
	const end, nothing, mss, mssLength = 0, 1, 2, 4
	for len(options) > 0 && options[0] != end {
		length := 1
		if options[0] != nothing {
			if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
				return 0
			}
			length = int(options[1])
		}
		if options[0] == mss && length == mssLength {
			return binary.BigEndian.Uint16(options[2:])
		}
		options = options[length:]
	}
	return 0
}

// roundTrip returns the time from the first SYN to the acknowledgement of the SYN-ACK as both were seen here, or 0 if they were
// not. It is the way to either end and back, wherever between them that is, and longer if a packet was lost.
func roundTrip(h *flow.Handshake) time.Duration {
	if h.SYN.TimeNs == 0 || h.SYNACK.TimeNs < h.SYN.TimeNs || h.ACKNs < h.SYNACK.TimeNs {
		return 0
	}
	return time.Duration(h.ACKNs - h.SYN.TimeNs)
}
