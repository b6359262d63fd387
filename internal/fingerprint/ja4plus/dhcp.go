package ja4plus

import (
	"encoding/binary"
	"fmt"
	"slices"

	"weir/internal/fingerprint"
)

// dhcp is what JA4D and JA4D6 tell of a message.
type dhcp struct {
	kind      string // name of the message type
	size      int    // maximum size of a message (DHCPv4), or bytes of the client's identifier (DHCPv6)
	requests  bool   // the client asks for an address that it names
	named     bool   // it says its domain name
	options   []byte // their codes in order, with hyphens between them
	requested []byte // those that the client asks for
}

// longestDHCP bounds a fingerprint, in bytes: those of real clients and servers have up to 200, a datagram full of options thousands.
const longestDHCP = 512

// fingerprint returns the form that both versions share, as in disco0000in_61-55_1-3-6-42.
func (d *dhcp) fingerprint(method string) fingerprint.Fingerprint {
	value := fmt.Sprintf("%s%04d%c%c_%s_%s", d.kind, min(d.size, 9999),
		flag(d.requests, 'i'), flag(d.named, 'd'), orNone(d.options), orNone(d.requested))
	if len(value) > longestDHCP {
		return fingerprint.Fingerprint{}
	}
	return fingerprint.Fingerprint{Method: method, Value: value}
}

// messageName returns the name of a message type, or its number if it has none.
func messageName(names []string, kind uint8) string {
	if kind == 0 || int(kind) > len(names) {
		return fmt.Sprintf("%05d", kind)
	}
	return names[kind-1]
}

// messageNames are those of DHCPv4, from type 1 on (IANA, BOOTP and DHCP Parameters).
var messageNames = []string{
	"disco", "offer", "reqst", "decln", "dpack", "dpnak", "relse", "infor", "frenw",
	"lqery", "lunas", "lunkn", "lactv", "blklq", "lqdon", "actlq", "lqsta", "dhtls",
}

// The options of DHCPv4 that the method looks into (RFC 2132, RFC 4702).
const (
	dhcpPad         = 0
	dhcpRequestedIP = 50
	dhcpOverload    = 52
	dhcpMessageType = 53
	dhcpRequestList = 55
	dhcpMaxSize     = 57
	dhcpFQDN        = 81
	dhcpEnd         = 255
)

// JA4D returns the fingerprint of a DHCPv4 message (RFC 2131), which is the payload of a datagram.
func JA4D(message []byte) fingerprint.Fingerprint {
	const name, file, header, cookie = 44, 108, 236, "\x63\x82\x53\x63"
	if len(message) < header+len(cookie) || string(message[header:][:len(cookie)]) != cookie {
		return fingerprint.Fingerprint{}
	}
	d := dhcp{kind: messageName(messageNames, 0)}
	if !d.options4(message[header+len(cookie):], message[name:file], message[file:header]) {
		return fingerprint.Fingerprint{}
	}
	return d.fingerprint("ja4d")
}

// options4 reads options as far as their end. The option that says so puts more of them into fields that are not needed for a
// server's name or a file's (RFC 2132, section 9.3): they count in its place.
func (d *dhcp) options4(rest []byte, fields ...[]byte) bool {
	for len(rest) > 0 && rest[0] != dhcpEnd {
		if rest[0] == dhcpPad {
			rest = rest[1:]
			continue
		}
		if len(rest) < 2 || int(rest[1]) > len(rest)-2 {
			return false
		}
		code, value := rest[0], rest[2:][:rest[1]]
		rest = rest[2+len(value):]
		d.option4(code, value)
		if code == dhcpOverload && len(value) == 1 {
			if !d.overloaded(value[0], fields) {
				return false
			}
			fields = nil
		}
	}
	return true
}

// overloaded reads the options in a server's name and a file's, of which the first two bits say that they hold some.
func (d *dhcp) overloaded(which byte, fields [][]byte) bool {
	const inFile, inName = 1, 2
	for i, bit := range []byte{inName, inFile} {
		if i < len(fields) && which&bit != 0 && !d.options4(fields[i]) {
			return false
		}
	}
	return true
}

// option4 keeps what an option of DHCPv4 says.
func (d *dhcp) option4(code uint8, value []byte) {
	switch code {
	case dhcpMessageType:
		if len(value) == 1 {
			d.kind = messageName(messageNames, value[0])
		}
		return
	case dhcpRequestedIP:
		d.requests = true
		return
	case dhcpFQDN:
		const flags = 3
		d.named = d.named || len(value) > flags
		return
	case dhcpMaxSize:
		if len(value) == 2 {
			d.size = int(binary.BigEndian.Uint16(value))
		}
	case dhcpRequestList:
		for _, requested := range value {
			d.requested = appendNumber(d.requested, uint64(requested))
		}
	}
	d.options = appendNumber(d.options, uint64(code))
}

// messageNames6 are those of DHCPv6, from type 1 on (IANA, DHCPv6 Parameters).
var messageNames6 = []string{
	"solct", "advrt", "reqst", "confm", "renew", "rebnd", "reply", "relse", "decln", "recon", "inreq", "rlayf", "rlayr",
	"query", "qrply", "qdone", "qdata", "rereq", "rrply", "v4qry", "v4res", "acqry", "sttls", "bdudp", "brply", "poreq",
	"pores", "urqst", "ureqa", "udone", "conne", "connr", "dconn", "state", "conta", "arinf", "arrep",
}

// The options of DHCPv6 that the method looks into (RFC 8415; RFC 4704; RFC 5007; RFC 7598), and its messages.
const (
	dhcp6ClientID      = 1
	dhcp6IANonTemp     = 3
	dhcp6IATemp        = 4
	dhcp6Address       = 5
	dhcp6OptionRequest = 6
	dhcp6RelayMessage  = 9
	dhcp6IAPrefixes    = 25
	dhcp6Prefix        = 26
	dhcp6FQDN          = 39
	dhcp6LeaseQuery    = 44
	dhcp6ClientData    = 45
	dhcp6MapE          = 94
	dhcp6MapT          = 95
	dhcp6Lightweight   = 96

	dhcp6Solicit      = 1
	dhcp6Advertise    = 2
	dhcp6Request      = 3
	dhcp6Renew        = 5
	dhcp6Rebind       = 6
	dhcp6Reply        = 7
	dhcp6RelayForward = 12
	dhcp6RelayReply   = 13
)

// dhcp6Fixed are the bytes that come before the options within an option.
var dhcp6Fixed = map[uint16]int{
	dhcp6IANonTemp: 12, dhcp6IATemp: 4, dhcp6Address: 24, dhcp6IAPrefixes: 12, dhcp6Prefix: 25,
	dhcp6LeaseQuery: 17, dhcp6ClientData: 0, dhcp6MapE: 0, dhcp6MapT: 0, dhcp6Lightweight: 0,
}

// dhcp6Depth is how deep options may lie in each other: a message behind as many relays as there may be (RFC 8415, section
// 7.6), and an address within an association within it, of a client that it tells of.
const dhcp6Depth = 8 + 4

// JA4D6 returns the fingerprint of a DHCPv6 message (RFC 8415), which is the payload of a datagram. Options within options
// count as they come.
func JA4D6(message []byte) fingerprint.Fingerprint {
	var d dhcp
	if !d.message6(message, dhcp6Depth) {
		return fingerprint.Fingerprint{}
	}
	d.kind = messageName(messageNames6, message[0])
	return d.fingerprint("ja4d6")
}

func (d *dhcp) message6(message []byte, depth int) bool {
	header := 4 // type and transaction
	if len(message) > 0 && (message[0] == dhcp6RelayForward || message[0] == dhcp6RelayReply) {
		header = 34 // type, hops and two addresses
	}
	return len(message) >= header && d.options6(message[header:], message[0], depth)
}

// options6 reads the options of a message of some kind.
func (d *dhcp) options6(rest []byte, kind uint8, depth int) bool {
	const header = 4
	for len(rest) > 0 {
		if depth == 0 || len(rest) < header {
			return false
		}
		code, length := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		if rest = rest[header:]; length > len(rest) || !d.option6(code, rest[:length], kind, depth) {
			return false
		}
		rest = rest[length:]
	}
	return true
}

// option6 keeps what an option of DHCPv6 says, and reads the options within it.
func (d *dhcp) option6(code uint16, value []byte, kind uint8, depth int) bool {
	d.options = appendNumber(d.options, uint64(code))
	switch code {
	case dhcp6ClientID:
		if d.size == 0 {
			d.size = len(value)
		}
	case dhcp6FQDN:
		const flags = 1
		d.named = d.named || mayName(kind) && len(value) > flags && isDomain(value[flags:])
	case dhcp6OptionRequest:
		for requested := range slices.Chunk(value[:len(value)&^1], 2) {
			d.requested = appendNumber(d.requested, uint64(binary.BigEndian.Uint16(requested)))
		}
	case dhcp6RelayMessage:
		return d.message6(value, depth-1)
	}
	d.requests = d.requests || code == dhcp6IATemp
	fixed, nests := dhcp6Fixed[code]
	return !nests || len(value) >= fixed && d.options6(value[fixed:], kind, depth-1)
}

// mayName says whether messages of a kind may hold the client's name: what asks for addresses, and the answers (RFC 4704,
// sections 5 and 6). In others it is passed over.
func mayName(kind uint8) bool {
	switch kind {
	case dhcp6Solicit, dhcp6Advertise, dhcp6Request, dhcp6Renew, dhcp6Rebind, dhcp6Reply:
		return true
	}
	return false
}

// isDomain says whether labels (RFC 1035, section 3.1) are the beginning of a domain name, or a name below the root of more than
// one. Windows sends its host name as it is, which is neither.
func isDomain(name []byte) bool {
	labels := 0
	for ; len(name) > 0; labels++ {
		length := int(name[0])
		if length == 0 {
			return labels > 1
		}
		if length >= len(name) {
			return false
		}
		name = name[1+length:]
	}
	return labels > 0
}
