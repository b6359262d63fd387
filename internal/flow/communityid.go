package flow

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
)

// What an ICMP type is answered by, or answers. Community ID orders these pairs like the ports of a connection; every
// other type is one-way. Sources: RFC 792, 950, 1256 (ICMP); RFC 4861, 2710, 4620, 6275 (ICMPv6).
var (
	icmpCounterparts = map[uint8]uint8{
		0: 8, 8: 0, // echo
		9: 10, 10: 9, // router discovery
		13: 14, 14: 13, // timestamp
		15: 16, 16: 15, // information
		17: 18, 18: 17, // address mask
	}
	icmpv6Counterparts = map[uint8]uint8{
		128: 129, 129: 128, // echo
		130: 131, 131: 130, // multicast listener query and report
		133: 134, 134: 133, // router discovery
		135: 136, 136: 135, // neighbor discovery
		139: 140, 140: 139, // node information
		144: 145, 145: 144, // home agent address discovery
	}
)

// AppendCommunityID appends to dst the Community ID, version 1 with seed 0, of a flow between two endpoints: 30 bytes,
// "1:" and a base64 SHA-1. Both directions of a connection have the same ID, except for the one-way types of ICMP.
//
// As in every weir flow, an ICMP or ICMPv6 flow has its type*256+code in the destination's port. IPv4-mapped addresses
// count as IPv4, ports only for TCP, UDP and SCTP. It does not allocate if dst has room.
//
// Source: github.com/corelight/community-id-spec.
func AppendCommunityID(dst []byte, from, to netip.AddrPort, protocol uint8) []byte {
	from = netip.AddrPortFrom(plainAddr(from.Addr()), from.Port())
	to = netip.AddrPortFrom(plainAddr(to.Addr()), to.Port())
	hasPorts, oneWay := true, false
	switch protocol {
	case protocolTCP, protocolUDP, protocolSCTP:
	case protocolICMP:
		from, to, oneWay = icmpEnds(from, to, icmpCounterparts)
	case protocolICMPv6:
		from, to, oneWay = icmpEnds(from, to, icmpv6Counterparts)
	default:
		hasPorts = false
	}
	if !oneWay && to.Compare(from) < 0 {
		from, to = to, from
	}

	// Seed, addresses, protocol, padding, ports: in network byte order, 40 bytes with IPv6.
	var buf [40]byte
	in := append(buf[:0], 0, 0)
	in = appendAddrBytes(in, from.Addr())
	in = appendAddrBytes(in, to.Addr())
	in = append(in, protocol, 0)
	if hasPorts {
		in = binary.BigEndian.AppendUint16(in, from.Port())
		in = binary.BigEndian.AppendUint16(in, to.Port())
	}
	sum := sha1.Sum(in)
	return base64.StdEncoding.AppendEncode(append(dst, "1:"...), sum[:])
}

// icmpEnds puts the type and its counterpart, or for a one-way type the code, where ports stand.
func icmpEnds(from, to netip.AddrPort, counterparts map[uint8]uint8) (netip.AddrPort, netip.AddrPort, bool) {
	kind, code := uint8(to.Port()>>8), uint8(to.Port())
	second, twoWay := counterparts[kind]
	if !twoWay {
		second = code
	}
	from = netip.AddrPortFrom(from.Addr(), uint16(kind))
	to = netip.AddrPortFrom(to.Addr(), uint16(second))
	return from, to, !twoWay
}

// plainAddr is a as the wire has it: IPv4-mapped is IPv4, and there is no zone.
func plainAddr(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func appendAddrBytes(dst []byte, a netip.Addr) []byte {
	if a.Is4() {
		b := a.As4()
		return append(dst, b[:]...)
	}
	b := a.As16()
	return append(dst, b[:]...)
}
