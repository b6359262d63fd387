package datapath

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"weir/internal/flow"
)

// What weir reads at the most (bpf/deep.h).
const (
	windowMax     = 256 // bytes of headers
	tagsMax       = 3
	labelsMax     = 4
	extensionsMax = 8
)

// counted is what the entry of a frame should say.
type counted struct {
	key   flow.Key
	from  int // which end of the key sent it
	flags uint16
}

// uncounted is a reason as the ledger names it.
type uncounted string

func (u uncounted) Error() string { return string(u) }

const (
	notIP       uncounted = "not_ip"
	truncated   uncounted = "truncated"
	malformed   uncounted = "malformed"
	unsupported uncounted = "unsupported"
)

// datagram is what fragments have in common (RFC 791 section 3.2; RFC 8200 section 4.5, without the protocol).
type datagram struct {
	src, dst netip.Addr
	id       uint32
	protocol uint8
}

// transport is what a packet's fragments belong to.
type transport struct {
	protocol         uint8
	srcPort, dstPort uint16
}

// oracle says what the kernel should make of frames. It reads them in its own way: gopacket decodes each header, and the
// oracle holds to weir's rules about which header is next, which lengths are right, and what a frame without all of a
// header is. It remembers the datagrams of which it saw the first fragment.
type oracle struct {
	datagrams map[datagram]transport
}

// reading is the way through one frame.
type reading struct {
	rest     []byte // of what weir reads
	beyond   bool   // the frame has more than that
	src, dst netip.Addr
	transport
	payload  int // bytes that IP still promises
	fragment bool
	later    bool // a fragment that is not the first
	id       uint32
	flags    uint16
}

// anyLength is what an IP header promises that says no length: that of a super-packet of more than 64 KiB.
const anyLength = 1 << 30

// judge returns what the kernel should count of a frame, or as an error the reason why it should not.
func (o *oracle) judge(frame []byte) (counted, error) {
	r := reading{rest: frame[:min(len(frame), windowMax)], beyond: len(frame) > windowMax}
	if err := r.read(); err != nil {
		return counted{}, err
	}
	if r.fragment {
		o.relate(&r)
	}
	ends := [2]netip.AddrPort{
		netip.AddrPortFrom(r.src.Unmap(), r.srcPort), netip.AddrPortFrom(r.dst.Unmap(), r.dstPort),
	}
	src, dst := r.src.As16(), r.dst.As16()
	order := cmp.Or(bytes.Compare(src[:], dst[:]), cmp.Compare(r.srcPort, r.dstPort))
	if order <= 0 {
		return counted{flow.Key{Ends: ends, Protocol: r.protocol}, 0, r.flags}, nil
	}
	ends[0], ends[1] = ends[1], ends[0]
	return counted{flow.Key{Ends: ends, Protocol: r.protocol}, 1, r.flags}, nil
}

// relate gives a later fragment what the first one said.
func (o *oracle) relate(r *reading) {
	d := datagram{src: r.src, dst: r.dst, id: r.id}
	if r.src.Is4() {
		d.protocol = r.protocol
	}
	if !r.later {
		o.datagrams[d] = r.transport
	} else if known, ok := o.datagrams[d]; ok {
		r.transport = known
	}
}

// take takes the next header of so many bytes.
func (r *reading) take(n int) ([]byte, error) {
	if n > len(r.rest) {
		if r.beyond {
			return nil, unsupported
		}
		return nil, truncated
	}
	header := r.rest[:n]
	r.rest = r.rest[n:]
	return header, nil
}

// peek returns the next byte and leaves it.
func (r *reading) peek() (byte, error) {
	before := r.rest
	b, err := r.take(1)
	if err != nil {
		return 0, err
	}
	r.rest = before
	return b[0], nil
}

func (r *reading) read() error {
	etherType, err := r.link()
	if err != nil {
		return err
	}
	switch etherType {
	case layers.EthernetTypeIPv4:
		err = r.ipv4()
	case layers.EthernetTypeIPv6:
		err = r.ipv6()
	default:
		err = notIP
	}
	if err != nil || r.later {
		return err
	}
	return r.ports()
}

// link reads what stands in front of IP.
func (r *reading) link() (layers.EthernetType, error) {
	header, err := r.take(14)
	if err != nil {
		return 0, err
	}
	var ethernet layers.Ethernet
	must(ethernet.DecodeFromBytes(header, gopacket.NilDecodeFeedback))
	etherType := ethernet.EthernetType
	for tags := 0; etherType == layers.EthernetTypeDot1Q || etherType == layers.EthernetTypeQinQ; tags++ {
		if tags == tagsMax {
			return 0, unsupported
		}
		if header, err = r.take(4); err != nil {
			return 0, err
		}
		var tag layers.Dot1Q
		must(tag.DecodeFromBytes(header, gopacket.NilDecodeFeedback))
		etherType = tag.Type
	}
	switch etherType {
	case layers.EthernetTypePPPoESession:
		return r.pppoe()
	case layers.EthernetTypeMPLSUnicast, layers.EthernetTypeMPLSMulticast:
		return r.mpls()
	}
	return etherType, nil
}

// pppoe reads a session header: version 1, type 1, code 0 (RFC 2516 section 4), and two bytes of PPP's protocol, which
// gopacket would take compressed to one as well (RFC 1661 section 6.5); PPPoE has none of that (RFC 2516 section 7).
func (r *reading) pppoe() (layers.EthernetType, error) {
	header, err := r.take(8)
	if err != nil {
		return 0, err
	}
	session := decode[*layers.PPPoE](append(slices.Clone(header[:4]), 0, 0), layers.LayerTypePPPoE) // its length is not read
	if session.Version != 1 || session.Type != 1 || session.Code != layers.PPPoECodeSession {
		return 0, malformed
	}
	switch layers.PPPType(binary.BigEndian.Uint16(header[6:])) {
	case layers.PPPTypeIPv4:
		return layers.EthernetTypeIPv4, nil
	case layers.PPPTypeIPv6:
		return layers.EthernetTypeIPv6, nil
	}
	return 0, notIP
}

// mpls reads a stack of labels. What is below shows in its first four bits (RFC 4928).
func (r *reading) mpls() (layers.EthernetType, error) {
	for range labelsMax {
		header, err := r.take(4)
		if err != nil {
			return 0, err
		}
		if !decode[*layers.MPLS](header, layers.LayerTypeMPLS).StackBottom {
			continue
		}
		first, err := r.peek()
		if err != nil {
			return 0, err
		}
		switch first >> 4 {
		case 4:
			return layers.EthernetTypeIPv4, nil
		case 6:
			return layers.EthernetTypeIPv6, nil
		}
		return 0, notIP
	}
	return 0, unsupported
}

// ipv4 reads the header and passes over its options, which gopacket would judge.
func (r *reading) ipv4() error {
	fixed, err := r.take(20)
	if err != nil {
		return err
	}
	size, total := int(fixed[0]&0xf)*4, int(binary.BigEndian.Uint16(fixed[2:]))
	if fixed[0]>>4 != 4 || size < 20 || total != 0 && total < size {
		return malformed
	}
	if _, err := r.take(size - 20); err != nil {
		return err
	}
	noOptions := append([]byte{0x45}, fixed[1:]...)
	var ip layers.IPv4
	must(ip.DecodeFromBytes(noOptions, gopacket.NilDecodeFeedback))
	r.src, r.dst = address(ip.SrcIP), address(ip.DstIP)
	r.protocol = uint8(ip.Protocol)
	r.payload = total - size
	if total == 0 {
		r.payload = anyLength
	}
	r.later = ip.FragOffset > 0
	r.fragment = r.later || ip.Flags&layers.IPv4MoreFragments != 0
	r.id = uint32(ip.Id)
	return nil
}

// ipv6 reads the header and its extension headers. gopacket refuses a packet that says no length.
func (r *reading) ipv6() error {
	header, err := r.take(40)
	if err != nil {
		return err
	}
	var ip layers.IPv6
	_ = ip.DecodeFromBytes(header, gopacket.NilDecodeFeedback)
	if ip.Version != 6 {
		return malformed
	}
	r.src, r.dst = address(ip.SrcIP), address(ip.DstIP)
	r.protocol = uint8(ip.NextHeader)
	r.payload = int(ip.Length)
	if ip.Length == 0 {
		r.payload = anyLength
	}
	for n := 0; r.extends(); n++ {
		if n == extensionsMax {
			return unsupported
		}
		size, err := r.extension()
		if err != nil {
			return err
		}
		if r.payload -= size; r.payload < 0 {
			return malformed
		}
	}
	return nil
}

// extends says whether an extension header is next. A mobility message that nothing follows is the payload.
func (r *reading) extends() bool {
	switch layers.IPProtocol(r.protocol) {
	case layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Routing, layers.IPProtocolIPv6Fragment,
		layers.IPProtocolAH, layers.IPProtocolIPv6Destination:
		return !r.later
	case 135:
		next, err := r.peek()
		return !r.later && (err != nil || next != uint8(layers.IPProtocolNoNextHeader))
	}
	return false
}

// extension reads an extension header, whatever is in it, and returns its size.
func (r *reading) extension() (int, error) {
	if r.protocol == uint8(layers.IPProtocolIPv6Fragment) {
		return 8, r.fragmentHeader()
	}
	start, err := r.take(2)
	if err != nil {
		return 0, err
	}
	size := 8 + 8*int(start[1])
	if r.protocol == uint8(layers.IPProtocolAH) {
		size = 4 * (2 + int(start[1])) // RFC 4302 section 2.2
	}
	r.protocol = start[0]
	_, err = r.take(size - 2)
	return size, err
}

// fragmentHeader reads one. It means nothing where the fragment is the whole datagram (RFC 6946).
func (r *reading) fragmentHeader() error {
	header, err := r.take(8)
	if err != nil {
		return err
	}
	f := decode[*layers.IPv6Fragment](header, layers.LayerTypeIPv6Fragment)
	r.protocol = uint8(f.NextHeader)
	if f.FragmentOffset > 0 || f.MoreFragments {
		r.fragment, r.later, r.id = true, f.FragmentOffset > 0, f.Identification
	}
	return nil
}

// ports reads what names the two ends. A packet without the fixed part of its header contradicts itself, whether or not
// the frame has it.
func (r *reading) ports() error {
	sizes := map[layers.IPProtocol]int{
		layers.IPProtocolTCP: 20, layers.IPProtocolUDP: 8, layers.IPProtocolUDPLite: 8, layers.IPProtocolSCTP: 12,
		33: 12, layers.IPProtocolICMPv4: 8, layers.IPProtocolICMPv6: 4,
	}
	size := sizes[layers.IPProtocol(r.protocol)]
	if r.payload < size {
		return malformed
	}
	header, err := r.take(size)
	if err != nil {
		return err
	}
	switch layers.IPProtocol(r.protocol) {
	case layers.IPProtocolTCP:
		return r.tcp(header)
	case layers.IPProtocolUDP:
		var u layers.UDP
		_ = u.DecodeFromBytes(header, gopacket.NilDecodeFeedback) // its length is not weir's matter
		r.srcPort, r.dstPort = uint16(u.SrcPort), uint16(u.DstPort)
	case layers.IPProtocolUDPLite:
		u := decode[*layers.UDPLite](header, layers.LayerTypeUDPLite)
		r.srcPort, r.dstPort = uint16(u.SrcPort), uint16(u.DstPort)
	case layers.IPProtocolSCTP:
		var s layers.SCTP
		must(s.DecodeFromBytes(header, gopacket.NilDecodeFeedback))
		r.srcPort, r.dstPort = uint16(s.SrcPort), uint16(s.DstPort)
	case 33: // DCCP, RFC 4340 section 5.1
		r.srcPort, r.dstPort = binary.BigEndian.Uint16(header), binary.BigEndian.Uint16(header[2:])
	case layers.IPProtocolICMPv4:
		var i layers.ICMPv4
		must(i.DecodeFromBytes(header, gopacket.NilDecodeFeedback))
		r.dstPort = uint16(i.TypeCode)
	case layers.IPProtocolICMPv6:
		var i layers.ICMPv6
		must(i.DecodeFromBytes(header, gopacket.NilDecodeFeedback))
		r.dstPort = uint16(i.TypeCode)
	}
	return nil
}

// tcp reads the fixed part. Of the options only their length matters, which gopacket compares with the frame instead.
func (r *reading) tcp(header []byte) error {
	var t layers.TCP
	_ = t.DecodeFromBytes(header, gopacket.NilDecodeFeedback)
	if size := 4 * int(t.DataOffset); size < 20 || size > r.payload {
		return malformed
	}
	r.srcPort, r.dstPort = uint16(t.SrcPort), uint16(t.DstPort)
	r.flags = binary.BigEndian.Uint16(header[12:]) & 0x0fff // gopacket leaves out three of the bits
	return nil
}

func address(ip []byte) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr
}

// decode has gopacket decode one header. It complains of what follows, as nothing does.
func decode[L gopacket.Layer](header []byte, kind gopacket.LayerType) L {
	return gopacket.NewPacket(header, kind, gopacket.NoCopy).Layer(kind).(L)
}

// must is for headers that gopacket has to take.
func must(err error) {
	if err != nil {
		panic(err)
	}
}
