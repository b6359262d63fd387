package testnet

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
)

// TCP control bits (RFC 9293, section 3.1).
const (
	FIN uint8 = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// Numbers that frames carry: EtherTypes, and IP protocols and IPv6 extension headers (IANA).
const (
	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
	etherTypeVLAN = 0x8100 // IEEE 802.1Q
	etherTypeQinQ = 0x88a8 // IEEE 802.1ad

	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58

	HopByHop           = 0
	Routing            = 43
	Authentication     = 51 // length in units of 4 bytes less 2 (RFC 4302), where the others have 8 less 1
	DestinationOptions = 60
	Mobility           = 135

	fragmentHeader = 44
	padN           = 1 // option that fills (RFC 8200, section 4.2)
)

const none = -1 // no checksum

// Packet describes a frame. Its methods return a changed copy, so that the rows of a table can vary one another; Bytes
// writes it with every length and checksum right. For malformed frames, change the bytes.
type Packet struct {
	srcMAC, dstMAC net.HardwareAddr
	tags           []uint16
	etherType      uint16
	src, dst       netip.Addr // not valid if the frame is not IP
	protocol       uint8
	ipOptions      int
	extensions     [][]byte // the first byte is the header's own number until Bytes puts the next one's
	body           []byte   // what follows IP, or Ethernet
	checksumAt     int      // in body
}

// UDP is a datagram with a payload of so many bytes between "10.0.0.1:1000" and such, or "[fd00::1]:1000".
func UDP(src, dst string, payload int) Packet { return Datagram(src, dst, make([]byte, payload)) }

// Datagram is UDP with a payload that matters.
func Datagram(src, dst string, payload []byte) Packet {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	header := binary.BigEndian.AppendUint16(ports(s, d), uint16(8+len(payload)))
	return ip(s.Addr(), d.Addr(), protocolUDP, slices.Concat(header, []byte{0, 0}, payload), 6)
}

// TCP is a segment with a payload of so many bytes, and no options.
func TCP(src, dst string, flags uint8, payload int) Packet {
	return Segment{Sequence: 1, Flags: flags, Window: 0xffff, Payload: make([]byte, payload)}.Packet(src, dst)
}

// Segment is TCP with a header and a payload that matter (RFC 9293, section 3.1). Options have a multiple of 4 bytes, up to 40.
type Segment struct {
	Sequence uint32
	Flags    uint8
	Window   uint16
	Options  []byte
	Payload  []byte
}

// Packet is the segment on its way.
func (s Segment) Packet(src, dst string) Packet {
	from, to := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	header := binary.BigEndian.AppendUint32(ports(from, to), s.Sequence)
	header = append(header, 0, 0, 0, 0, uint8(5+len(s.Options)/4)<<4, s.Flags) // acknowledgement 0
	header = binary.BigEndian.AppendUint16(header, s.Window)
	return ip(from.Addr(), to.Addr(), protocolTCP, slices.Concat(header, make([]byte, 4), s.Options, s.Payload), 16)
}

// ICMP is a message with so many bytes after its type, code and checksum: ICMPv6 if the addresses are IPv6.
func ICMP(src, dst string, kind, code uint8, payload int) Packet {
	s, d := netip.MustParseAddr(src), netip.MustParseAddr(dst)
	protocol := uint8(protocolICMP)
	if s.Is6() {
		protocol = protocolICMPv6
	}
	return ip(s, d, protocol, append([]byte{kind, code, 0, 0}, make([]byte, payload)...), 2)
}

// IP is a packet of any protocol between two addresses without ports.
func IP(src, dst string, protocol uint8, body []byte) Packet {
	return ip(netip.MustParseAddr(src), netip.MustParseAddr(dst), protocol, body, none)
}

// Ethernet is a frame of any EtherType.
func Ethernet(etherType uint16, body []byte) Packet {
	return Packet{
		srcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, dstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
		etherType: etherType, body: body, checksumAt: none,
	}
}

func ip(src, dst netip.Addr, protocol uint8, body []byte, checksumAt int) Packet {
	p := Ethernet(0, body)
	p.src, p.dst, p.protocol, p.checksumAt = src, dst, protocol, checksumAt
	return p
}

func ports(src, dst netip.AddrPort) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, src.Port()), dst.Port())
}

// MACs sets the Ethernet addresses; 02:00:00:00:00:01 to 02:00:00:00:00:02 unless set.
func (p Packet) MACs(src, dst net.HardwareAddr) Packet {
	p.srcMAC, p.dstMAC = src, dst
	return p
}

// VLAN adds tags, outermost first. The last is IEEE 802.1Q, those before it are 802.1ad. Each is the whole tag control
// information: the VLAN id, and the priority in the upper bits.
func (p Packet) VLAN(tags ...uint16) Packet {
	p.tags = tags
	return p
}

// IPOptions adds options of so many bytes to IPv4: a multiple of 4, at most 40.
func (p Packet) IPOptions(size int) Packet {
	p.ipOptions = size
	return p
}

// Extension adds an IPv6 extension header of so many bytes, a multiple of 8, filled with padding. Headers come in the
// order in which they are added.
func (p Packet) Extension(number uint8, size int) Packet {
	h := make([]byte, size)
	h[0] = number
	switch number {
	case Authentication:
		h[1] = uint8(size/4 - 2)
	case Routing: // type 0 with no segments left
		h[1] = uint8(size/8 - 1)
	default:
		h[1], h[2], h[3] = uint8(size/8-1), padN, uint8(size-4)
	}
	p.extensions = append(slices.Clip(p.extensions), h)
	return p
}

// Bytes writes the frame.
func (p Packet) Bytes() []byte {
	if !p.src.IsValid() {
		return append(p.ethernet(p.etherType), p.body...)
	}
	return p.network(p.transport(), 0)
}

// Fragments writes the packet as IP fragments, each but the last with size bytes, a multiple of 8, of what follows IP.
func (p Packet) Fragments(size int) [][]byte {
	const more, id = 1, 0xbeef
	var frames [][]byte
	for body, offset := p.transport(), 0; offset < len(body); offset += size {
		part := body[offset:min(offset+size, len(body))]
		q, units := p, uint16(offset/8)
		if p.src.Is4() { // RFC 791: more fragments is bit 13
			if offset+size < len(body) {
				units |= more << 13
			}
			frames = append(frames, q.network(part, id<<16|uint32(units)))
			continue
		}
		field := units << 3 // RFC 8200, section 4.5
		if offset+size < len(body) {
			field |= more
		}
		h := binary.BigEndian.AppendUint16([]byte{fragmentHeader, 0}, field)
		h = binary.BigEndian.AppendUint32(h, id)
		q.extensions = append(slices.Clip(p.extensions), h)
		frames = append(frames, q.network(part, 0))
	}
	return frames
}

func (p Packet) ethernet(etherType uint16) []byte {
	b := slices.Concat(p.dstMAC, p.srcMAC)
	for i, tag := range p.tags {
		tpid := uint16(etherTypeQinQ)
		if i == len(p.tags)-1 {
			tpid = etherTypeVLAN
		}
		b = binary.BigEndian.AppendUint16(b, tpid)
		b = binary.BigEndian.AppendUint16(b, tag)
	}
	return binary.BigEndian.AppendUint16(b, etherType)
}

// network puts Ethernet and IP before body. fragment is the second 32-bit word of an IPv4 header.
func (p Packet) network(body []byte, fragment uint32) []byte {
	if p.src.Is4() {
		b := p.ethernet(etherTypeIPv4)
		return append(append(b, p.ipv4(len(body), fragment)...), body...)
	}
	b := p.ethernet(etherTypeIPv6)
	return append(append(b, p.ipv6(len(body))...), body...)
}

// ipv4 is the header, RFC 791.
func (p Packet) ipv4(bodyLen int, fragment uint32) []byte {
	size := 20 + p.ipOptions
	h := []byte{4<<4 | uint8(size/4), 0}
	h = binary.BigEndian.AppendUint16(h, uint16(size+bodyLen))
	h = binary.BigEndian.AppendUint32(h, fragment)
	h = append(h, 64, p.protocol, 0, 0)
	h = slices.Concat(h, p.src.AsSlice(), p.dst.AsSlice(), bytes.Repeat([]byte{1}, p.ipOptions)) // option 1: no operation
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return h
}

// ipv6 is the header with its extension headers, RFC 8200.
func (p Packet) ipv6(bodyLen int) []byte {
	next := p.protocol
	extensions := []byte{}
	for _, e := range slices.Backward(p.extensions) {
		number := e[0]
		extensions = slices.Concat([]byte{next}, e[1:], extensions)
		next = number
	}
	h := binary.BigEndian.AppendUint16([]byte{6 << 4, 0, 0, 0}, uint16(len(extensions)+bodyLen))
	h = append(h, next, 64)
	return slices.Concat(h, p.src.AsSlice(), p.dst.AsSlice(), extensions)
}

// transport is the body with its checksum.
func (p Packet) transport() []byte {
	body := slices.Clone(p.body)
	if p.checksumAt == none {
		return body
	}
	covered := body
	if p.protocol != protocolICMP { // the pseudo-header, RFC 9293 section 3.1 and RFC 8200 section 8.1
		covered = slices.Concat(p.src.AsSlice(), p.dst.AsSlice(), []byte{0, p.protocol})
		covered = binary.BigEndian.AppendUint16(covered, uint16(len(body)))
		covered = append(covered, body...)
	}
	sum := checksum(covered)
	if sum == 0 && p.protocol == protocolUDP {
		sum = 0xffff // RFC 768: 0 says that there is none
	}
	binary.BigEndian.PutUint16(body[p.checksumAt:], sum)
	return body
}

// checksum is the Internet checksum of bytes among which its own place holds zero (RFC 1071).
func checksum(b []byte) uint16 { return ^fold(sum(b)) }

func sum(b []byte) uint64 {
	var total uint64
	for ; len(b) > 1; b = b[2:] {
		total += uint64(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		total += uint64(b[0]) << 8
	}
	return total
}

func fold(total uint64) uint16 {
	for total > 0xffff {
		total = total&0xffff + total>>16
	}
	return uint16(total)
}
