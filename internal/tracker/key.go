package tracker

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"weir/internal/flow"
)

// key is a flow.Key as the kernel has it, without pointers: 40 bytes that a map compares and hashes in one go.
type key struct {
	addrs    [2][16]byte // IPv4 as v4-mapped, the lower end first
	ports    [2]uint16
	zone     uint16
	protocol uint8
	netns    uint8
}

var protocolNumbers = numberProtocols()

func numberProtocols() map[string]uint8 {
	const icmpv6 = 58
	numbers := map[string]uint8{"icmp6": icmpv6, "ipv6-icmp": icmpv6} // by libpcap, by IANA
	for p := range 256 {
		numbers[strconv.Itoa(p)] = uint8(p)
		numbers[protocolName(uint8(p))] = uint8(p)
	}
	return numbers
}

func protocolName(p uint8) string { return strings.ToLower(flow.ProtocolName(p)) }

// MakeKey builds the connection map key from a 5-tuple, such as "192.0.2.1:443-198.51.100.7:50123-tcp". Both directions
// of a connection have the same key: the lower end comes first, comparing address bytes (IPv4 as v4-mapped) and then
// ports. The protocol is one of flow.ProtocolName in any case, or a number. If it is not, or an address is none, the key is "".
//
// A connection of another zone or network namespace than 0 (flow.Key) has both behind its key: "…-tcp@7.1".
func MakeKey(srcIP string, srcPort uint16, dstIP string, dstPort uint16, proto string) string {
	k, _, ok := newKey(srcIP, srcPort, dstIP, dstPort, proto)
	if !ok {
		return ""
	}
	return k.String()
}

// newKey also returns which end of the key the source is.
func newKey(srcIP string, srcPort uint16, dstIP string, dstPort uint16, proto string) (k key, source uint8, ok bool) {
	src, srcErr := netip.ParseAddr(srcIP)
	dst, dstErr := netip.ParseAddr(dstIP)
	protocol, known := protocolNumbers[strings.ToLower(proto)]
	if srcErr != nil || dstErr != nil || !known {
		return key{}, 0, false
	}
	k = key{addrs: [2][16]byte{src.As16(), dst.As16()}, ports: [2]uint16{srcPort, dstPort}, protocol: protocol}
	return k, k.order(), true
}

// order puts the lower end first, and returns where the end is that was first.
func (k *key) order() uint8 {
	c := bytes.Compare(k.addrs[0][:], k.addrs[1][:])
	if c < 0 || c == 0 && k.ports[0] <= k.ports[1] {
		return 0
	}
	k.addrs[0], k.addrs[1] = k.addrs[1], k.addrs[0]
	k.ports[0], k.ports[1] = k.ports[1], k.ports[0]
	return 1
}

func flowKey(f *flow.Key) key {
	return key{
		addrs:    [2][16]byte{f.Ends[0].Addr().As16(), f.Ends[1].Addr().As16()},
		ports:    [2]uint16{f.Ends[0].Port(), f.Ends[1].Port()},
		zone:     f.Zone,
		protocol: f.Protocol,
		netns:    f.Netns,
	}
}

// parseKey reads what String wrote.
func parseKey(s string) (key, bool) {
	var k key
	s, network, hasNetwork := strings.Cut(s, "@")
	if hasNetwork {
		zone, netns, _ := strings.Cut(network, ".")
		z, zoneErr := strconv.ParseUint(zone, 10, 16)
		n, netnsErr := strconv.ParseUint(netns, 10, 8)
		if zoneErr != nil || netnsErr != nil {
			return key{}, false
		}
		k.zone, k.netns = uint16(z), uint8(n)
	}
	parts := strings.Split(s, "-")
	if len(parts) != 3 {
		return key{}, false
	}
	for i := range k.addrs {
		end, err := netip.ParseAddrPort(parts[i])
		if err != nil {
			return key{}, false
		}
		k.addrs[i], k.ports[i] = end.Addr().As16(), end.Port()
	}
	var known bool
	k.protocol, known = protocolNumbers[parts[2]]
	k.order()
	return k, known
}

func (k *key) end(i uint8) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(k.addrs[i]).Unmap(), k.ports[i])
}

func (k *key) String() string {
	s := k.end(0).String() + "-" + k.end(1).String() + "-" + protocolName(k.protocol)
	if k.zone == 0 && k.netns == 0 {
		return s
	}
	return fmt.Sprintf("%s@%d.%d", s, k.zone, k.netns)
}
