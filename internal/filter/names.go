package filter

import "slices"

// protocols can stand before other qualifiers.
var protocols = []string{
	"ether", "link", "ip", "ip6", "arp", "rarp",
	"tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "igrp", "pim", "vrrp", "carp", "ah", "esp",
}

func isLink(protocol string) bool { return protocol == "ether" || protocol == "link" }

var etherTypes = map[string]uint32{
	"ip": etherTypeIPv4, "ip6": etherTypeIPv6, "arp": etherTypeARP, "rarp": etherTypeRARP,
}

// ipProtocols are the numbers of protocols (IANA).
var ipProtocols = map[string]uint32{
	"icmp": 1, "igmp": 2, "tcp": 6, "igrp": 9, "udp": 17, "dccp": 33, "gre": 47, "esp": 50, "ah": 51, "icmp6": 58,
	"ipv6-icmp": 58, "ospf": 89, "pim": 103, "vrrp": 112, "carp": 112, "sctp": 132, "udplite": 136,
}

// ipOf is the version of IP that a protocol alone means; any if it is not here.
var ipOf = map[string]string{
	"icmp": "ip", "igmp": "ip", "igrp": "ip", "vrrp": "ip", "carp": "ip", "icmp6": "ip6",
}

// services are the ports that can be named: the same ones on every host, whatever its /etc/services says. A name means
// the number, in all protocols.
var services = map[string]uint32{
	"ftp-data": 20, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "domain": 53, "bootps": 67, "bootpc": 68, "tftp": 69,
	"http": 80, "kerberos": 88, "pop3": 110, "ntp": 123, "imap": 143, "snmp": 161, "snmp-trap": 162, "bgp": 179,
	"ldap": 389, "https": 443, "microsoft-ds": 445, "submissions": 465, "isakmp": 500, "syslog": 514, "submission": 587,
	"ldaps": 636, "domain-s": 853, "imaps": 993, "pop3s": 995, "mysql": 3306, "postgresql": 5432, "sip": 5060,
}

// constants can stand in arithmetic: offsets of fields, and their values.
var constants = map[string]uint32{
	"icmptype": 0, "icmpcode": 1, "icmp6type": 0, "icmp6code": 1, "tcpflags": 13,

	"tcp-fin": 0x01, "tcp-syn": 0x02, "tcp-rst": 0x04, "tcp-push": 0x08, "tcp-ack": 0x10, "tcp-urg": 0x20,
	"tcp-ece": 0x40, "tcp-cwr": 0x80,

	"icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5, "icmp-echo": 8,
	"icmp-routeradvert": 9, "icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12, "icmp-tstamp": 13,
	"icmp-tstampreply": 14, "icmp-ireq": 15, "icmp-ireqreply": 16, "icmp-maskreq": 17, "icmp-maskreply": 18,

	"icmp6-destinationunreach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3, "icmp6-parameterproblem": 4,
	"icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-multicastlistenerquery": 130,
	"icmp6-multicastlistenerreportv1": 131, "icmp6-multicastlistenerdone": 132, "icmp6-routersolicit": 133,
	"icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137,
	"icmp6-multicastlistenerreportv2": 143,
}

// unsupported are keywords of pcap-filter(7) that mean nothing here.
var unsupported = []string{
	"aarp", "action", "addr1", "addr2", "addr3", "addr4", "address1", "address2", "address3", "address4", "atalk", "byte",
	"clnp", "decnet", "es-is", "esis", "fddi", "gateway", "geneve", "ifindex", "ifname", "inbound", "ipx", "is-is", "isis",
	"iso", "lat", "llc", "mopdl", "moprc", "netbeui", "on", "outbound", "ppp", "protochain", "radio", "ra", "ta", "reason",
	"rnr", "rset", "rulenum", "ruleset", "sca", "slip", "srnr", "stp", "subrulenum", "tr", "type", "subtype",
	"dir", "wlan",
}

var others = []string{
	"host", "net", "port", "portrange", "proto", "src", "dst", "mask", "broadcast", "multicast", "less", "greater", "len",
	"vlan", "mpls", "pppoed", "pppoes",
}

// isKeyword reports whether a word is one of the language's, and so no operand.
func isKeyword(text string) bool {
	_, constant := constants[text]
	return constant || slices.Contains(protocols, text) || slices.Contains(others, text) ||
		slices.Contains(unsupported, text)
}
