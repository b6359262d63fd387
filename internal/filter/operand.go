package filter

import (
	enc "encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

func bigEndian(b []byte) uint32 { return enc.BigEndian.Uint32(b) }

// parseMAC returns the first two bytes of an address, and the other four.
func parseMAC(text string) (address [2]uint32) {
	for i, pair := range strings.FieldsFunc(text, func(r rune) bool { return r == ':' || r == '-' }) {
		n, _ := strconv.ParseUint(pair, 16, 8) // fails for nothing that was scanned as an address
		part := &address[min(i/2, 1)]
		*part = *part<<8 | uint32(n)
	}
	return address
}

// portNumbers reads a port, or a range of them, whose ends may stand in either order.
func (p *parser) portNumbers(t token, kind string) (low, high uint32) {
	first, last, isRange := strings.Cut(t.text, "-")
	if _, named := services[t.text]; kind == "port" || named || !isRange {
		low = p.portNumber(t)
		return low, low
	}
	low = p.portNumber(token{word, first, t.column})
	high = p.portNumber(token{word, last, t.column})
	return min(low, high), max(low, high)
}

func (p *parser) portNumber(t token) uint32 {
	if number, ok := services[t.text]; ok {
		return number
	}
	if !t.isNumber() {
		p.fail(t, "%s is no port: give its number", t)
		return 0
	}
	return p.parseNumber(t, "a port", 65535)
}

// ipv4 reads an address, or a net with a mask, a prefix length, or parts left out.
func (p *parser) ipv4(t token, kind string) (address, mask uint32) {
	address, mask = p.dotted(t)
	if t.isNumber() && kind == "net" { // the bytes that are there are the first
		for mask = ^uint32(0); address != 0 && address>>24 == 0; {
			address, mask = address<<8, mask<<8
		}
	} else if t.isNumber() {
		mask = ^uint32(0)
	}
	if slash, ok := p.accept("/"); ok {
		mask = ^uint32(0) << (32 - p.number("a prefix length", 32))
		p.checkNet(slash, kind, address&^mask != 0)
	} else if keyword, ok := p.accept("mask"); ok {
		mask, _ = p.dotted(p.next())
		p.checkNet(keyword, kind, address&^mask != 0)
	}
	return address, mask
}

// dotted reads an address of one to four numbers of a byte each, the last of which may be left out and are then not in
// the mask, or a number as a whole.
func (p *parser) dotted(t token) (address, mask uint32) {
	if t.isNumber() {
		return p.parseNumber(t, "an address", 1<<32-1), ^uint32(0)
	}
	parts := strings.Split(t.text, ".")
	shift := 32
	for _, part := range parts {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil || t.kind != word || shift == 0 {
			p.fail(t, "%s is no address; names are not looked up", t)
			return 0, 0
		}
		shift -= 8
		address |= uint32(n) << shift
	}
	return address, ^uint32(0) << shift
}

// ipv6 reads an address, or a net with a prefix length.
func (p *parser) ipv6(t token, kind string) netip.Prefix {
	address, err := netip.ParseAddr(t.text)
	if err != nil {
		p.fail(t, "%s is no address", t)
	}
	length := uint32(128)
	if slash, ok := p.accept("/"); ok {
		length = p.number("a prefix length", 128)
		prefix := netip.PrefixFrom(address, int(length))
		p.checkNet(slash, kind, prefix.Masked() != prefix)
	}
	return netip.PrefixFrom(address, int(length))
}

// checkNet looks at a net whose mask begins at a token.
func (p *parser) checkNet(at token, kind string, beyond bool) {
	switch {
	case kind != "net":
		p.fail(at, "a mask behind an address that is no net: net is wanted before it")
	case beyond:
		p.fail(at, "the address has bits that are not in the mask")
	}
}
