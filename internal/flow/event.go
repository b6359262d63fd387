// Package flow holds the words that every part of weir shares: the connection and its record as the kernel hands it
// over, the FlowEvent that the Brain receives, and how it is written. It is pure: no I/O, no clock, no goroutines.
package flow

import (
	"net/netip"
	"time"
)

// Event is a FlowEvent: one direction of a connection or, where Reverse is set, a whole connection told from its
// source's side.
type Event struct {
	ID        EventID
	Src, Dst  netip.AddrPort // ports are 0 where the protocol has none; ICMP type*256+code stands in Dst's
	Protocol  uint8          // IANA protocol number
	Direction Direction
	Interface string
	Hostname  string

	Start, End time.Time // wall clock, of the first and the last packet
	Counts
	EndReason    EndReason
	Initiator    Opened
	SamplingRate uint32 // one in so many packets was counted; 1 is all of them
	VLAN         uint16 // id of the outermost tag, where VLANs are kept apart; else 0
	Netns        string // name of the network namespace, "" for the agent's own

	// What the connection was found in, with TunnelNone for nothing. The outer addresses are those that Src and Dst are
	// behind.
	TunnelKind         TunnelKind
	TunnelID           uint32
	OuterSrc, OuterDst netip.Addr

	Identity *Identity // who is talking over the connection; nil if nothing is known of that

	Reverse *Counts // what Dst sent to Src, in the shape "connection"
}

// Counts is what one direction sent.
type Counts struct {
	Packets  uint64
	Bytes    uint64 // layer 2 frame bytes
	TCPFlags uint16 // IPFIX tcpControlBits, RFC 7125
}

// Opened says whether an event's source opened the connection.
type Opened uint8

// The values of Opened.
const (
	OpenedUnknown Opened = iota
	OpenedBySrc
	OpenedByDst
)

// EventID is unique to an event, and the same when the event is made again of the same record, as by an agent that takes up
// the work of one that was killed.
type EventID struct {
	Instance uint64 // of the ring that the record was in: no two rings of any two hosts have the same
	Sequence uint64 // grows: where in the ring the record stood, a multiple of 8; 1 more for the record's last event
}

// EndsRecord says whether the event is the last of its record.
func (id EventID) EndsRecord() bool { return id.Sequence&1 != 0 }
