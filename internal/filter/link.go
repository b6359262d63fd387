package filter

// EtherTypes (IANA), and the numbers of the same protocols in PPP.
const (
	etherTypeIPv4   = 0x0800
	etherTypeARP    = 0x0806
	etherTypeRARP   = 0x8035
	etherTypeIPv6   = 0x86dd
	etherTypeMPLS   = 0x8847
	etherTypePPPoED = 0x8863
	etherTypePPPoES = 0x8864

	maxLength = 1500 // the greatest number in the EtherType's place that is an IEEE 802.3 length
)

// vlanTypes are the EtherTypes of tags: 802.1Q, 802.1ad, and one in use before that.
var vlanTypes = []uint32{0x8100, 0x88a8, 0x9100}

var pppProtocols = map[uint32]uint32{etherTypeIPv4: 0x0021, etherTypeIPv6: 0x0057, etherTypeMPLS: 0x0281}

// link is where a frame's headers are, as far as the expression has said: what is behind vlan, mpls or pppoes in the text
// is about what is behind that header in the frame.
type link struct {
	kind    uint32 // offset of the EtherType, or PPP protocol
	network uint32 // offset of what that announces; of what is behind the labels, if there are any
	labels  int    // MPLS labels before it
	ppp     bool
}

var ethernet = link{kind: 12, network: 14}

// protocol holds if the network protocol is the one with this EtherType.
func (l link) protocol(p *parser, at token, etherType uint32) condition {
	switch {
	case l.labels > 0: // a label announces nothing: the last of the stack is followed by what looks like IP
		version, ok := map[uint32]uint32{etherTypeIPv4: 0x40, etherTypeIPv6: 0x60}[etherType]
		if !ok {
			p.fail(at, "%s behind mpls: there, only ip and ip6 can be told", at)
		}
		return and{equal(masked(l.network-2, 1, 0x01), 1), equal(masked(l.network, 1, 0xf0), version)}
	case l.ppp:
		if number, ok := pppProtocols[etherType]; ok {
			etherType = number
		}
	}
	return equal(field(l.kind, 2), etherType)
}

// encapsulated reads what is behind vlan, mpls or pppoes, and moves the headers.
func (p *parser) encapsulated(t token) condition {
	if t.text == "vlan" && (p.link.ppp || p.link.labels > 0) {
		p.fail(t, "vlan behind pppoes or mpls is not supported")
	}
	l := p.link
	switch t.text {
	case "vlan":
		p.link.kind, p.link.network = l.kind+4, l.network+4
		return p.identified(member{field(l.kind, 2), vlanTypes}, "a VLAN id", 0xfff,
			func(id uint32) condition { return equal(masked(l.network, 2, 0xfff), id) })
	case "pppoes":
		p.link = link{kind: l.network + 6, network: l.network + 8, ppp: true}
		return p.identified(l.protocol(p, t, etherTypePPPoES), "a PPPoE session", 0xffff,
			func(id uint32) condition { return equal(masked(l.network, 4, 0xffff), id) })
	}
	p.link.network, p.link.labels = l.network+4, l.labels+1
	there := equal(masked(l.network-2, 1, 0x01), 0) // another label follows
	if l.labels == 0 {
		there = l.protocol(p, t, etherTypeMPLS)
	}
	return p.identified(there, "an MPLS label", 0xfffff,
		func(label uint32) condition { return equal(masked(l.network, 4, 0xfffff000), label<<12) })
}

// identified adds to a condition that a header has a number, if one is next.
func (p *parser) identified(there condition, what string, most uint32, has func(uint32) condition) condition {
	if t := p.peek(); !t.isNumber() {
		return there
	}
	return and{there, has(p.number(what, most))}
}
