package flow

import (
	"net/netip"
	"time"
)

// Key names a connection: two endpoints and a protocol, whichever speaks. Ends[0] is the lower endpoint,
// comparing address bytes (IPv4 as v4-mapped) and then ports.
type Key struct {
	Ends     [2]netip.AddrPort
	Protocol uint8  // IANA protocol number
	Zone     uint16 // 0, or the kernel side's number for what keeps equal 5-tuples of separate networks apart
	Netns    uint8  // number of the network namespace: 0 is the agent's own
}

// Half holds what one direction of a connection counted since the last hand-over. Half i of a Record was sent by
// Ends[i] of its Key.
type Half struct {
	Packets  uint64
	Bytes    uint64 // layer 2 frame bytes
	FirstNs  uint64 // CLOCK_MONOTONIC, nanoseconds; 0 when Packets is 0
	LastNs   uint64 // CLOCK_MONOTONIC, nanoseconds
	TCPFlags uint16 // OR of the flags seen; IPFIX tcpControlBits, RFC 7125
	IfIndex  uint32 // the interface that owns the direction
}

// Record is a connection's counters as handed over by the kernel.
type Record struct {
	ID        EventID // of the first event that is made of it
	Key       Key
	VLAN      uint16  // id of the outermost tag, where VLANs are kept apart; else 0
	Tunnel    *Tunnel // that the connection was found in, where it is looked into; else nil
	Halves    [2]Half
	Initiator Initiator
	EndReason EndReason
	Handshake *Handshake // of a TCP connection, where it is wanted and was seen, in the first record; else nil

	SamplingRate uint32 // one in so many packets was counted; 1 is all of them
}

// Initiator says which end of a connection opened it (RFC 5103 biflowDirection).
type Initiator uint8

// The values of Initiator. A TCP connection that was open before its first packet was seen has no known initiator.
const (
	InitiatorUnknown Initiator = iota
	InitiatorEnd0
	InitiatorEnd1
)

// EndReason says why a record was handed over (compare IPFIX flowEndReason, RFC 5102).
type EndReason uint8

// The values of EndReason.
const (
	EndIdle     EndReason = iota // nothing seen for the protocol's idle timeout
	EndActive                    // the active timeout passed; the flow goes on
	EndFIN                       // closed by FIN in both directions, or in the only one seen
	EndRST                       // closed by a reset
	EndShutdown                  // the agent stopped
	endReasons
)

var endReasonNames = [endReasons]string{"idle", "active", "fin", "rst", "shutdown"}

// EndReasons returns every EndReason, in order.
func EndReasons() []EndReason {
	all := make([]EndReason, endReasons)
	for i := range all {
		all[i] = EndReason(i)
	}
	return all
}

// String returns the name that FlowEvents and metrics carry.
func (r EndReason) String() string {
	if r >= endReasons {
		return "unknown"
	}
	return endReasonNames[r]
}

// Closing names a connection that has just finished.
type Closing struct {
	Key   Key
	AtNs  uint64 // CLOCK_MONOTONIC, nanoseconds
	Reset bool   // by RST, not by FIN
}

// Limits say when an entry is due to be handed over.
type Limits struct {
	TCPIdle   time.Duration // nothing seen for so long: TCP
	OtherIdle time.Duration // nothing seen for so long: every other protocol
	Active    time.Duration // time since the first packet that was counted and not yet handed over
	Linger    time.Duration // nothing seen for so long on a closed connection

	// The same as TCPIdle and OtherIdle, if it is less, of connections with a single packet so far; 0: theirs.
	SingleIdle time.Duration
}
