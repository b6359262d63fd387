package flow

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"testing"
)

// communityIDVectors are published results: all of baseline/baseline_deflt.json of github.com/corelight/community-id-spec
// and, after it, what tests/communityid_test.py of github.com/corelight/pycommunityid adds, for seed 0. Ports are as
// published: for ICMP and ICMPv6 the type and then the code, or the counterpart type that hides it.
var communityIDVectors = []struct {
	protocol     uint8
	src, dst     string
	sport, dport uint16
	want         string
}{
	{58, "fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea", 135, 136, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="},
	{58, "fe80::260:97ff:fe07:69ea", "fe80::200:86ff:fe05:80da", 136, 135, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="},
	{58, "fe80::260:97ff:fe07:69ea", "fe80::200:86ff:fe05:80da", 135, 136, "1:zavyT/cezQr1fmImYCwYnMXbgck="},
	{58, "fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea", 136, 135, "1:zavyT/cezQr1fmImYCwYnMXbgck="},
	{58, "3ffe:501:1800:2345::2", "3ffe:507:0:1:200:86ff:fe05:80da", 3, 0, "1:2ObVBgIn28oZvibYZhZMBgh7WdQ="},
	{58, "3ffe:501:410:0:2c0:dfff:fe47:33e", "3ffe:507:0:1:200:86ff:fe05:80da", 1, 4, "1:hLZd0XGWojozrvxqE0dWB1iM6R0="},
	{58, "3ffe:507:0:1:200:86ff:fe05:80da", "3ffe:501:0:1001::2", 128, 129, "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="},
	{58, "3ffe:501:0:1001::2", "3ffe:507:0:1:200:86ff:fe05:80da", 129, 128, "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="},
	{58, "fe80::200:86ff:fe05:80da", "ff02::2", 133, 134, "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0="},
	{58, "fe80::260:97ff:fe07:69ea", "ff02::1", 134, 133, "1:pkvHqCL88/tg1k4cPigmZXUtL00="},
	{1, "192.168.0.89", "192.168.0.1", 8, 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="},
	{1, "192.168.0.1", "192.168.0.89", 0, 8, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="},
	{1, "10.0.0.1", "10.0.0.2", 11, 0, "1:YHxtAirCG//0OzkcVAukqKQN9xM="},
	{6, "2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a", 63943, 25, "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="},
	{6, "2607:f8b0:400c:c03::1a", "2001:470:e5bf:dead:4957:2174:e82c:4887", 25, 63943, "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="},
	{132, "192.168.170.8", "192.168.170.56", 7, 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="},
	{132, "192.168.170.56", "192.168.170.8", 7, 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="},
	{6, "128.232.110.120", "66.35.250.204", 34855, 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
	{6, "66.35.250.204", "128.232.110.120", 80, 34855, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
	{17, "192.168.1.52", "8.8.8.8", 54585, 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="},
	{17, "8.8.8.8", "192.168.1.52", 53, 54585, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="},
	{46, "10.1.12.1", "10.1.12.2", 0, 0, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="},
	{46, "10.1.12.2", "10.1.12.1", 0, 0, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="},

	{1, "192.168.0.89", "192.168.0.1", 20, 0, "1:3o2RFccXzUgjl7zDpqmY7yJi8rI="},
	{1, "192.168.0.89", "192.168.0.1", 20, 1, "1:tz/fHIDUHs19NkixVVoOZywde+I="},
	{1, "192.168.0.1", "192.168.0.89", 0, 20, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="},
	{58, "3ffe:507:0:1:260:97ff:fe07:69ea", "3ffe:507:0:1:200:86ff:fe05:80da", 3, 0, "1:NdobDX8PQNJbAyfkWxhtL2Pqp5w="},
	{58, "3ffe:507:0:1:200:86ff:fe05:80da", "3ffe:507:0:1:260:97ff:fe07:69ea", 3, 0, "1:/OGBt9BN1ofenrmSPWYicpij2Vc="},
	{132, "192.168.170.8", "192.168.170.56", 7, 80, "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ="},
	{132, "192.168.170.56", "192.168.170.8", 80, 7, "1:jQgCxbku+pNGw8WPbEc/TS/uTpQ="},
	{6, "10.0.0.1", "10.0.0.2", 10, 11569, "1:SXBGMX1lBOwhhoDrZynfROxnhnM="},
	{46, "10.1.24.4", "10.1.12.1", 0, 0, "1:/nQI4Rh/TtY3mf0R2gJFBkVlgS4="},
	{46, "10.1.12.1", "10.1.24.4", 0, 0, "1:/nQI4Rh/TtY3mf0R2gJFBkVlgS4="},
}

func TestAppendCommunityID(t *testing.T) {
	for _, v := range communityIDVectors {
		from, to := netip.MustParseAddr(v.src), netip.MustParseAddr(v.dst)
		src, dst := netip.AddrPortFrom(from, v.sport), netip.AddrPortFrom(to, v.dport)
		if v.protocol == protocolICMP || v.protocol == protocolICMPv6 {
			src, dst = netip.AddrPortFrom(from, 0), netip.AddrPortFrom(to, v.sport<<8|v.dport)
		}
		if got := string(AppendCommunityID([]byte("<"), src, dst, v.protocol)); got != "<"+v.want {
			t.Errorf("AppendCommunityID(%q, %v, %v, %d) = %q, want %q", "<", src, dst, v.protocol, got, "<"+v.want)
		}
	}
}

func TestAppendCommunityIDIgnoresWhatItDoesNotCover(t *testing.T) {
	id := func(src, dst string, protocol uint8) string {
		return string(AppendCommunityID(nil, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst), protocol))
	}
	for _, tc := range []struct {
		name string
		a, b string
	}{
		{"mapped addresses are IPv4", id("10.0.0.1:1", "10.0.0.2:2", 6), id("[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.2]:2", 6)},
		{"mapped addresses are ordered as IPv4", id("10.0.0.1:1", "10.0.0.2:2", 6), id("[::ffff:10.0.0.2]:2", "10.0.0.1:1", 6)},
		{"a zone is no part of an address", id("[fe80::1]:1", "[fe80::2]:2", 6), id("[fe80::1%a]:1", "[fe80::2%b]:2", 6)},
		{"ports of other protocols do not count", id("10.0.0.1:1", "10.0.0.2:2", 47), id("10.0.0.1:0", "10.0.0.2:0", 47)},
		{"codes of an answered type do not count", id("10.0.0.1:0", "10.0.0.2:2048", 1), id("10.0.0.1:0", "10.0.0.2:2049", 1)},
	} {
		if tc.a != tc.b {
			t.Errorf("%s: %q and %q differ", tc.name, tc.a, tc.b)
		}
	}
}

// TestAppendCommunityIDPairsICMP asks for every type in turn which types, sent back, are of the same flow.
func TestAppendCommunityIDPairsICMP(t *testing.T) {
	// As in communityid/icmp.py and icmp6.py of github.com/corelight/pycommunityid.
	answers := map[uint8]map[int]int{
		protocolICMP:   {8: 0, 10: 9, 13: 14, 15: 16, 17: 18},
		protocolICMPv6: {128: 129, 130: 131, 133: 134, 135: 136, 139: 140, 144: 145},
	}
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	ids := func(from, to netip.Addr, protocol uint8) (byType [256]string) {
		const code = 255 // no type's counterpart
		for kind := range byType {
			dst := netip.AddrPortFrom(to, uint16(kind<<8|code))
			byType[kind] = string(AppendCommunityID(nil, netip.AddrPortFrom(from, 0), dst, protocol))
		}
		return byType
	}
	for protocol, pairs := range answers {
		forth, reply := ids(a, b, protocol), ids(b, a, protocol)
		for there := range 256 {
			for back := range 256 {
				answer, isRequest := pairs[there]
				request, isAnswer := pairs[back]
				want := isRequest && answer == back || isAnswer && request == there
				if got := forth[there] == reply[back]; got != want {
					t.Errorf("protocol %d, type %d there and %d back: one flow is %t, want %t",
						protocol, there, back, got, want)
				}
			}
		}
	}
}

// communityIDReference says what the specification's pseudo code says, with its numbers in one big-endian string.
func communityIDReference(src, dst netip.AddrPort, protocol uint8) string {
	pack := func(ap netip.AddrPort) (addr, port string) {
		return string(ap.Addr().AsSlice()), string(binary.BigEndian.AppendUint16(nil, ap.Port()))
	}
	saddr, sport := pack(src)
	daddr, dport := pack(dst)
	if saddr+sport > daddr+dport {
		saddr, daddr, sport, dport = daddr, saddr, dport, sport
	}
	sum := sha1.Sum([]byte("\x00\x00" + saddr + daddr + string([]byte{protocol, 0}) + sport + dport))
	return "1:" + base64.StdEncoding.EncodeToString(sum[:])
}

func FuzzAppendCommunityID(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1}, []byte{10, 0, 0, 2}, uint16(51000), uint16(443), uint8(6))
	f.Add([]byte("0123456789abcdef"), []byte("0123456789abcdef"), uint16(8), uint16(7), uint8(17))
	f.Add([]byte{10, 0, 0, 2}, []byte{10, 0, 0, 1}, uint16(0), uint16(0x0301), uint8(1))
	f.Fuzz(func(t *testing.T, a, b []byte, sport, dport uint16, protocol uint8) {
		from, okFrom := netip.AddrFromSlice(a)
		to, okTo := netip.AddrFromSlice(b)
		src, dst := netip.AddrPortFrom(from, sport), netip.AddrPortFrom(to, dport)
		got := string(AppendCommunityID(nil, src, dst, protocol))
		if len(got) != 30 {
			t.Fatalf("AppendCommunityID(%v, %v, %d) = %q, want 30 bytes", src, dst, protocol, got)
		}
		sameFamily := okFrom && okTo && len(a) == len(b) && !from.Is4In6() && !to.Is4In6()
		hasPorts := protocol == protocolTCP || protocol == protocolUDP || protocol == protocolSCTP
		if !sameFamily || !hasPorts {
			return
		}
		if want := communityIDReference(src, dst, protocol); got != want {
			t.Errorf("AppendCommunityID(%v, %v, %d) = %q, want %q", src, dst, protocol, got, want)
		}
		if back := string(AppendCommunityID(nil, dst, src, protocol)); back != got {
			t.Errorf("AppendCommunityID of %v and %v, %d: %q one way, %q the other", src, dst, protocol, got, back)
		}
	})
}

func BenchmarkAppendCommunityID(b *testing.B) {
	for _, bc := range []struct {
		name     string
		src, dst string
	}{
		{"IPv4", "10.0.0.5:51000", "93.184.216.34:443"},
		{"IPv6", "[2001:db8:1:2:3:4:5:6]:51000", "[2606:2800:220:1:248:1893:25c8:1946]:443"},
	} {
		b.Run(bc.name, func(b *testing.B) {
			src, dst := netip.MustParseAddrPort(bc.src), netip.MustParseAddrPort(bc.dst)
			buf := make([]byte, 0, 32)
			b.ReportAllocs()
			for b.Loop() {
				buf = AppendCommunityID(buf[:0], src, dst, protocolTCP)
			}
		})
	}
}
