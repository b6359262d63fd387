package filter

import (
	"net/netip"

	"golang.org/x/net/bpf"
)

// direction says which of two ends is meant.
type direction int

const (
	either direction = iota
	both
	source
	destination
)

func (d direction) of(src, dst condition) condition {
	switch d {
	case source:
		return src
	case destination:
		return dst
	case both:
		return and{src, dst}
	default:
		return or{src, dst}
	}
}

// ends reports whether a field of the header behind the link layer is such, at one offset for the source and at another
// for the destination.
func (p *parser) ends(d direction, src, dst uint32, such func(at uint32) condition) condition {
	return d.of(such(p.link.network+src), such(p.link.network+dst))
}

// named is the primitive of a protocol alone.
func (p *parser) named(t token) condition {
	if etherType, ok := etherTypes[t.text]; ok {
		return p.link.protocol(p, t, etherType)
	}
	number, ok := ipProtocols[t.text]
	if !ok {
		p.fail(t, "%s alone says nothing: host, proto, broadcast, multicast or [ is wanted behind it", t)
		return never
	}
	return p.ipProtocol(t, ipOf[t.text], number)
}

// ipProtocol holds for packets of an IP protocol in one version of IP, or, with "", in either.
func (p *parser) ipProtocol(at token, ip string, number uint32) condition {
	ipv4 := func() condition {
		return and{p.link.protocol(p, at, etherTypeIPv4), equal(field(p.link.network+9, 1), number)}
	}
	ipv6 := func() condition { // of the extension headers, only a fragment header is looked behind
		const fragment = 44
		next := field(p.link.network+6, 1)
		return and{p.link.protocol(p, at, etherTypeIPv6), or{
			equal(next, number),
			and{equal(next, fragment), equal(field(p.link.network+40, 1), number)},
		}}
	}
	switch ip {
	case "ip":
		return ipv4()
	case "ip6":
		return ipv6()
	default:
		return or{ipv4(), ipv6()}
	}
}

// cast is broadcast or multicast, at the link layer or in a version of IP.
func (p *parser) cast(t token, protocol string) condition {
	first := field(0, 1)
	switch {
	case protocol == "ip" && t.text == "multicast":
		return and{
			p.link.protocol(p, t, etherTypeIPv4),
			comparison{bpf.JumpGreaterOrEqual, field(p.link.network+16, 1), constant(224)},
		}
	case protocol == "ip":
		p.fail(t, "ip broadcast is not supported: it depends on each interface's mask")
	case protocol == "ip6" && t.text == "multicast":
		return and{p.link.protocol(p, t, etherTypeIPv6), equal(field(p.link.network+24, 1), 0xff)}
	case !isLink(protocol) && protocol != "":
		p.fail(t, "%s cannot stand behind %q", t, protocol)
	case p.link.ppp:
		p.fail(t, "%s behind pppoes is not supported", t)
	case t.text == "multicast":
		return equal(binary{bpf.ALUOpAnd, first, constant(1)}, 1)
	}
	return and{equal(field(2, 4), 0xffffffff), equal(field(0, 2), 0xffff)}
}

// lengthLimit is less or greater, which include their limit.
func (p *parser) lengthLimit(t token) condition {
	test := bpf.JumpLessOrEqual
	if t.text == "greater" {
		test = bpf.JumpGreaterOrEqual
	}
	return comparison{test, length{}, constant(p.number("a length in bytes", 1<<32-1))}
}

// qualified is an address, a port or a number, with its qualifiers.
func (p *parser) qualified(t token, q qualifiers) condition {
	if t.kind == end || t.kind == operator {
		p.fail(t, "%s, where an operand is wanted", t)
		return never
	}
	switch q.kind {
	case "host", "net":
		return p.address(t, q)
	case "port", "portrange":
		return p.port(t, q)
	case "proto":
		return p.proto(t, q)
	default:
		p.fail(t, "%s needs a qualifier before it, such as host, net or port", t)
		return never
	}
}

// proto is a protocol by its number or name.
func (p *parser) proto(t token, q qualifiers) condition {
	names, most := ipProtocols, uint32(255)
	switch {
	case isLink(q.protocol):
		names, most = etherTypes, 0xffff
	case q.protocol != "" && q.protocol != "ip" && q.protocol != "ip6":
		p.fail(t, "proto cannot stand behind %q", q.protocol)
		return never
	}
	number, ok := names[t.text]
	if !ok || t.isNumber() {
		if !t.isNumber() {
			p.fail(t, "%s is no protocol that is known here: give its number", t)
			return never
		}
		number = p.parseNumber(t, "a protocol", most)
	}
	if !isLink(q.protocol) {
		return p.ipProtocol(t, q.protocol, number)
	}
	if number <= maxLength || number == 0x809b || number == 0x80f3 || p.link.ppp {
		p.fail(t, "only EtherTypes are supported, and none of AppleTalk, nor behind pppoes")
	}
	return p.link.protocol(p, t, number)
}

// port is a port or a range of them, of TCP, UDP and SCTP unless one is named. In fragments but the first there are none.
func (p *parser) port(t token, q qualifiers) condition {
	numbers := []uint32{ipProtocols["tcp"], ipProtocols["udp"], ipProtocols["sctp"]}
	switch q.protocol {
	case "":
	case "tcp", "udp", "sctp":
		numbers = []uint32{ipProtocols[q.protocol]}
	default:
		p.fail(t, "%s cannot stand behind %q", q.kind, q.protocol)
		return never
	}
	low, high := p.portNumbers(t, q.kind)
	within := func(a value) condition {
		if low == high {
			return equal(a, low)
		}
		return and{
			comparison{bpf.JumpGreaterOrEqual, a, constant(low)}, comparison{bpf.JumpLessOrEqual, a, constant(high)},
		}
	}
	n := p.link.network
	atIPv4 := func(index uint32) condition { return within(load{n, constant(index), 2, true}) }
	return or{
		all(p.link.protocol(p, t, etherTypeIPv4), member{field(n+9, 1), numbers}, p.firstFragment(),
			q.direction.of(atIPv4(0), atIPv4(2))),
		all(p.link.protocol(p, t, etherTypeIPv6), member{field(n+6, 1), numbers},
			p.ends(q.direction, 40, 42, func(at uint32) condition { return within(field(at, 2)) })),
	}
}

// firstFragment holds for an IPv4 packet that has its transport header.
func (p *parser) firstFragment() condition { return equal(masked(p.link.network+6, 2, 0x1fff), 0) }

// address is a host or a net, in IPv4, IPv6 or Ethernet.
func (p *parser) address(t token, q qualifiers) condition {
	switch {
	case t.kind == mac:
		return p.hostMAC(t, q)
	case isLink(q.protocol):
		p.fail(t, "%s is no Ethernet address, such as 02:00:00:00:00:01", t)
		return never
	case t.kind == ipv6:
		return p.hostIPv6(t, q)
	default:
		return p.hostIPv4(t, q)
	}
}

func (p *parser) hostMAC(t token, q qualifiers) condition {
	switch {
	case !isLink(q.protocol):
		p.fail(t, "an Ethernet address needs ether before host, src or dst")
	case q.kind != "host":
		p.fail(t, "an Ethernet address is a host, no net")
	case p.link.ppp:
		p.fail(t, "Ethernet addresses behind pppoes are not supported")
	}
	address := parseMAC(t.text)
	at := func(offset uint32) condition {
		return and{equal(field(offset+2, 4), address[1]), equal(field(offset, 2), address[0])}
	}
	return q.direction.of(at(6), at(0))
}

func (p *parser) hostIPv4(t token, q qualifiers) condition {
	address, mask := p.ipv4(t, q.kind)
	in := func(ip string, src, dst uint32) condition {
		return and{p.link.protocol(p, t, etherTypes[ip]), p.ends(q.direction, src, dst, func(at uint32) condition {
			return equal(masked(at, 4, mask), address)
		})}
	}
	switch {
	case q.protocol == "" && p.link.labels == 0:
		return anyOf(in("ip", 12, 16), in("arp", 14, 24), in("rarp", 14, 24))
	case q.protocol == "" || q.protocol == "ip":
		return in("ip", 12, 16)
	case q.protocol == "arp" || q.protocol == "rarp":
		return in(q.protocol, 14, 24)
	default:
		p.fail(t, "an IPv4 address cannot stand behind %q", q.protocol)
		return never
	}
}

func (p *parser) hostIPv6(t token, q qualifiers) condition {
	prefix := p.ipv6(t, q.kind)
	if q.protocol != "" && q.protocol != "ip6" {
		p.fail(t, "an IPv6 address cannot stand behind %q", q.protocol)
	}
	such := func(at uint32) condition { return inPrefix(at, prefix) }
	return and{p.link.protocol(p, t, etherTypeIPv6), p.ends(q.direction, 8, 24, such)}
}

// inPrefix holds if the 16 bytes at an offset are an address within an IPv6 prefix.
func inPrefix(at uint32, prefix netip.Prefix) condition {
	bytes := prefix.Addr().As16()
	var words []condition
	for i, bits := 0, prefix.Bits(); bits > 0; i, bits = i+4, bits-32 {
		mask := ^uint32(0) << max(0, 32-bits)
		words = append(words, equal(masked(at+uint32(i), 4, mask), bigEndian(bytes[i:])))
	}
	if len(words) == 0 {
		return always
	}
	return all(words...)
}

// accessed is the value of an accessor such as tcp[13], given what is in the brackets, and what must hold for it.
func (p *parser) accessed(t token, at load, guard condition) (value, condition) {
	n := p.link.network
	number, hasNumber := ipProtocols[t.text]
	etherType, hasType := etherTypes[t.text]
	switch {
	case isLink(t.text) && !p.link.ppp:
		return at, guard
	case hasType:
		at.base = n
		return at, all(guard, p.link.protocol(p, t, etherType))
	case number == ipProtocols["icmp6"]:
		at.base = n + 40
		return at, all(guard, p.link.protocol(p, t, etherTypeIPv6), equal(field(n+6, 1), number))
	case hasNumber && t.text != "ah" && t.text != "esp": // in IPv4 only, as libpcap
		at.base, at.overIPv4 = n, true
		return at, all(guard, p.ipProtocol(t, "ip", number), p.firstFragment())
	default:
		p.fail(t, "the bytes of %s cannot be looked at", t)
		return at, guard
	}
}
