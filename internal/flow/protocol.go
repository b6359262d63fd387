package flow

import "strconv"

// The IANA protocol numbers that this package treats specially.
const (
	protocolICMP   = 1
	protocolTCP    = 6
	protocolUDP    = 17
	protocolICMPv6 = 58
	protocolSCTP   = 132
)

var protocolNames = nameProtocols()

// ProtocolName returns the name of an IP protocol as FlowEvents carry it: a short name without a hyphen (a hyphen
// separates the parts of flow_id) for the protocols that networks see, the decimal number for every other. It does
// not allocate.
//
// Numbers and names are those of IANA's Assigned Internet Protocol Numbers, save where Linux users know a protocol by
// another one: 4 is IPIP (IANA: IPv4), 58 ICMPv6 (IPv6-ICMP) and 89 OSPF (OSPFIGP). 94, which IANA calls IPIP, stays a
// number.
func ProtocolName(p uint8) string { return protocolNames[p] }

func nameProtocols() [256]string {
	names := [256]string{
		protocolICMP:   "ICMP",
		2:              "IGMP",
		4:              "IPIP",
		protocolTCP:    "TCP",
		protocolUDP:    "UDP",
		33:             "DCCP",
		41:             "IPv6",
		46:             "RSVP",
		47:             "GRE",
		50:             "ESP",
		51:             "AH",
		protocolICMPv6: "ICMPv6",
		88:             "EIGRP",
		89:             "OSPF",
		97:             "ETHERIP",
		103:            "PIM",
		108:            "IPComp",
		112:            "VRRP",
		113:            "PGM",
		115:            "L2TP",
		protocolSCTP:   "SCTP",
		136:            "UDPLite",
		139:            "HIP",
		143:            "Ethernet",
	}
	for p := range names {
		if names[p] == "" {
			names[p] = strconv.Itoa(p)
		}
	}
	return names
}
