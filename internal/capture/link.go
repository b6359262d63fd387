package capture

import "encoding/binary"

// LinkType says what packets of an interface begin with (https://www.tcpdump.org/linktypes.html).
type LinkType uint16

// The link types that are read.
const (
	LinkNull     LinkType = 0 // BSD loopback: the address family, in the byte order of who captured
	LinkEthernet LinkType = 1
	LinkRawOld   LinkType = 12  // raw IP, as Linux, BSD and others
	LinkRawBSD   LinkType = 14  // and OpenBSD number it in their own files
	LinkRaw      LinkType = 101 // IPv4 or IPv6, as the first four bits say
	LinkLoop     LinkType = 108 // OpenBSD loopback: the address family, big-endian
	LinkCooked   LinkType = 113 // Linux, of the interface "any"
	LinkIPv4     LinkType = 228
	LinkIPv6     LinkType = 229
	LinkCooked2  LinkType = 276 // Linux, likewise, with the interface
)

const (
	ethernetHeader = 14
	cookedHeader   = 16
	cooked2Header  = 20
	familyHeader   = 4

	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
	etherTypeNone = 0 // not IP
)

// frame returns the kept bytes as an Ethernet frame, or false if the link type is not read. The made-up header takes the place
// of the last bytes of the link's own, and of the room before it.
func (p *raw) frame() ([]byte, bool) {
	start, etherType, ok := p.linkHeader()
	if !ok {
		return nil, false
	}
	end := ethernetHeader + int(min(p.captured, FrameBytes))
	if end < start+ethernetHeader { // it was cut in the link's header
		start, end, etherType = 0, ethernetHeader, etherTypeIPv4
		clear(p.data[:])
	}
	binary.BigEndian.PutUint16(p.data[start+ethernetHeader-2:], etherType)
	// Some kernels take no test run of a header alone. A zero behind it makes no header, and no other fate.
	return p.data[start:max(end, start+ethernetHeader+1)], true
}

// linkHeader returns how long the link's own header is, and the EtherType of what follows it. ok is false for a link type that
// is not read.
func (p *raw) linkHeader() (length int, etherType uint16, ok bool) {
	data := p.data[ethernetHeader:]
	switch p.link {
	case LinkEthernet:
		return ethernetHeader, binary.BigEndian.Uint16(data[ethernetHeader-2:]), true
	case LinkRaw, LinkRawOld, LinkRawBSD:
		if data[0]>>4 == 6 {
			return 0, etherTypeIPv6, true
		}
		return 0, etherTypeIPv4, true // or malformed
	case LinkIPv4:
		return 0, etherTypeIPv4, true
	case LinkIPv6:
		return 0, etherTypeIPv6, true
	case LinkCooked:
		return cookedHeader, binary.BigEndian.Uint16(data[cookedHeader-2:]), true
	case LinkCooked2:
		return cooked2Header, binary.BigEndian.Uint16(data), true
	case LinkNull, LinkLoop:
		return familyHeader, familyEtherType(data), true
	}
	return 0, 0, false
}

// familyEtherType reads an address family, which is below 256, in any byte order.
func familyEtherType(family []byte) uint16 {
	switch max(family[0], family[3]) {
	case 2:
		return etherTypeIPv4
	case 10, 24, 28, 30: // Linux, NetBSD and OpenBSD, FreeBSD, macOS
		return etherTypeIPv6
	}
	return etherTypeNone
}
