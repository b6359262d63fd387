package flow

import "time"

// SampleKind says what the bytes of a Sample are.
type SampleKind uint8

// The values of SampleKind.
const (
	SampleStream   SampleKind = iota // TCP payload, a piece of what End sent
	SampleDatagram                   // a UDP payload, whole
)

// Sample is what the kernel side copied of a packet, for its fingerprint.
type Sample struct {
	Key    Key
	Opener Initiator
	End    uint8 // the packet was sent by Key.Ends[End]
	Kind   SampleKind
	TTL    uint8  // or hop limit
	TimeNs uint64 // CLOCK_MONOTONIC, nanoseconds
	Origin uint32 // sequence number of the stream's first byte, by which connections between the same ports differ; 0 of a datagram
	Offset uint32 // where in the stream Data begins, from the first byte that End sent, or that was seen; 0 of a datagram
	Data   []byte // belongs to who hands it over
}

// Lengths is what an SSH connection sent in a window of so many packets with payload, over both directions.
type Lengths struct {
	Key      Key
	Opener   Initiator
	TimeNs   uint64      // CLOCK_MONOTONIC, nanoseconds, of the last packet
	Payloads [2][]uint16 // TCP payload bytes of each packet with payload, by end, in order; belongs to who hands it over
	Acks     [2]uint32   // packets that only acknowledge, by end
}

// Opening is what a SYN or SYN-ACK says of the system that sent it. TimeNs is 0 if none was seen.
type Opening struct {
	TimeNs  uint64 // CLOCK_MONOTONIC, nanoseconds, of the first of its kind
	Window  uint16 // as in the header, not scaled
	TTL     uint8  // or hop limit
	Options []byte // the TCP options as they were sent, up to 40 bytes
}

// Handshake is how a TCP connection was opened.
type Handshake struct {
	SYN, SYNACK Opening
	ACKNs       uint64          // when the opener first acknowledged the SYN-ACK; 0 if that was not seen
	Resent      []time.Duration // between one SYN-ACK and the next, in order
	Reset       time.Duration   // from the last SYN-ACK to the RST of a server that gave up; 0 if there was none
}
