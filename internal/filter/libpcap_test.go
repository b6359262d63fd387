package filter

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/net/bpf"

	"weir/internal/testnet"
)

// expressions are filters that libpcap takes too.
var expressions = []string{
	// Protocols.
	"ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "igrp", "pim", "vrrp", "carp", "ah", "esp",
	"ip proto 47", `ip proto \tcp`, `ip6 proto \udp or 6`, "proto 17", `proto \tcp or \udp`, "ip6 proto (58 or 6)",
	`ether proto \ip`, "ether proto 0x88cc", "link proto 0x806", `ether proto \arp or \rarp`, "ether proto 1501",

	// Hosts and nets.
	"host 10.0.0.1", "src host 10.0.0.1", "dst host 10.0.0.1", "src 10.0.0.1", "dst 10.0.0.2", "src or dst 10.0.0.2",
	"src and dst host 10.0.0.1", "dst or src host 10.0.0.2", "dst and src 10.0.0.1", "host 10.1", "host 167772161",
	"ip host 10.0.0.1", "ip src 10.0.0.2", "arp host 10.0.0.1", "arp dst 10.0.0.9", "rarp dst host 10.0.0.9",
	"net 10", "net 10.0", "net 10.0.0.0/8", "net 10.0.0.0/30", "src net 10.0.0.0/31", "dst net 192.168.0.0/16",
	"net 0.0.0.0/0", "net 10.0.0.0 mask 255.255.255.0", "ip net 224.0.0.0/4", "dst net 0", "net 0x0a0000", "ip net 10.0/16",
	"arp net 10.0.0.0/8",
	"host fd00::1", "src host fd00::1", "dst fd00::2", "src and dst fd00::1", "ip6 host fd00::2",
	"net fd00::/8", "src net fd00::/64", "dst net fd00::/65", "net fd00::/127", "ip6 net ff00::/8",
	"net ::/0", "ip6 dst net fd00::/80",
	"ether host 02:00:00:00:00:01", "ether src 2:0:0:0:0:1", "ether dst 02-00-00-00-00-02", "ether broadcast", "broadcast",
	"ether src and dst 02:00:00:00:00:01", "ether host 02:00:00:00:00:01 or 02:00:00:00:00:07",
	"multicast", "ether multicast", "ip multicast", "ip6 multicast",

	// Ports.
	"port 53", "src port 1000", "dst port 53", "src or dst port 443", "src and dst port 53", "tcp port 443", "udp port 53",
	"sctp port 53", "tcp src port 40000", "udp dst port 53", "portrange 1000-2000", "tcp dst portrange 400-500",
	"portrange 60-50", "src portrange 1000", "port 0x35", "port 065", "port 53 or 443", "tcp port (80 or 443)",
	"port 80 or (443 or not 53)", "port ((53))", "portrange 1-100 or 40000-50000", "udp src and dst portrange 1-60000",

	// What joins them.
	"tcp and port 443", "tcp or udp", "not tcp", "! ip", "not not udp", "tcp && dst port 443 || icmp", "tcp or udp and port 53",
	"tcp or (udp and port 53)", "not port 53 and 443", "not (port 53 or 443)", "host 10.0.0.1 and not 10.0.0.2",
	"host 10.0.0.1 or fd00::1", "src 10.0.0.1 or dst 10.0.0.2 or 10.0.0.3", "ip and not (tcp or udp)",
	"udp port 54 and (src host 10.0.0.1) or 53", "tcp port 443 and ((src host 10.0.0.1) or 53)",
	"tcp port 54 or not (arp or ip) and 443", "port 443 and (tcp) or (len > 1000) or not 53",
	"host 10.0.0.2 and (tcp port (443 or 53) and (len > 60)) and 10.0.0.1",
	"host (10.0.0.1 and 10.0.0.2)", "net (10.0.0.0/8 or 192.168)", "((tcp))", "port 53 or len > 100", "port 53 and 42 < len",
	"port 53 or (1 = 2)", "not arp and not rarp and not multicast",

	// Arithmetic.
	"less 60", "greater 100", "len > 64", "len <= 64", "len != 74", "len == 74", "greater 0x40 and less 0100",
	"ip[0] & 0xf != 5", "ip[8] < 5", "ip[2:2] > 576", "ip[6:2] & 0x1fff = 0", "ip[6] & 0x20 != 0", "ip6[6] = 44",
	"tcp[13] & 2 != 0", "tcp[tcpflags] & (tcp-syn|tcp-ack) != 0", "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
	"tcp[tcpflags] == tcp-ack|tcp-push", "tcp[tcpflags] & (tcp-fin|tcp-rst|tcp-urg|tcp-ece|tcp-cwr) = 0",
	"tcp[12] >> 4 = 5", "tcp[(tcp[12] & 0xf0) >> 2:4] = 0", "tcp[0:2] = 40000", "not tcp[13] & 16 != 0", "! tcp[13] != 16",
	"udp[4:2] > 30", "udp[0:2] = udp[2:2]", "icmp[icmptype] = icmp-echo", "icmp[icmptype] == icmp-unreach and icmp[icmpcode] = 3",
	"icmp6[icmp6type] = icmp6-echoreply", "icmp6[icmp6code] = 0", "igmp[4] = 0x16", "pim[0] = 3", "sctp[0:2] = 1000",
	"ether[0] & 1 = 0", "ether[12:2] = 0x800", "link[6:4] = 0x02000000", "arp[6:2] = 1", "rarp[7] = 1",
	"ip[ip[0] & 0xf] = ip[len - ip[3]]", "ip[2:2] + 14 = len", "ip[2:2] + 14 < len", "len - 14 != 60",
	"ip[0] * 4 / 2 - 1 > 3", "(ip[0] & 0xf) * 4 = 20", "len & 7 | 8 = 10", "len << 3 >> 2 = 148",
	"(len % 2) = 0", "(ip[8] % 7) = 1", "(len ^ 0xff) > 100", "ip[8] >> ip[9] = 0", "len - 10 - 4 = 60", "len * 2 + 1 > 100",
	"len + 2 & 3 = 0", "3 + len << 2 > 290", "1 = 1", "tcp-syn = 2", "ip6[40] = 0 or ip6[6:1] < 60",
	"-len + 72 = 0", "2 - - len = 74", "- ip[8] > 0xffffff00", "0 - 1 = 0xffffffff",
	"((len) > 60)", "(len) > 60 and (ip[8] + 1) > 3", "len + (len + (len + (len + len))) > 300",

	// Headers before the network's.
	"vlan", "vlan 7", "vlan 7 and tcp", "vlan and host 10.0.0.1", "vlan and vlan 8 and port 53", "vlan 7 and vlan and ip6",
	"not vlan", "vlan or ip", "vlan 0xfff and ip6", "vlan and ether host 02:00:00:00:00:01", "vlan and multicast",
	"vlan and tcp[13] = 16", "vlan and not tcp", "ip or vlan and ip", "(vlan 7) and udp port 53", "vlan and arp",
	"mpls", "mpls 256", "mpls and ip", "mpls and ip6", "mpls and host 10.0.0.1", "mpls and mpls and port 53",
	"mpls 256 and mpls 256 and udp", "mpls and net fd00::/8", "vlan and mpls and ip", "mpls and udp[2:2] = 53",
	"pppoed", "pppoes", "pppoes 1", "vlan and pppoes 2", "pppoes and ip", "pppoes and ip6", "pppoes and host 10.0.0.1",
	"pppoes 1 and udp port 53", "pppoes and ip6 proto 17", "vlan and pppoes and udp", "pppoes and mpls and ip",
	"pppoes and ip[8] = 64",
}

// frames are what the filters look at: of every shape, cut, and with bytes changed.
func frames() [][]byte {
	udp4, udp6 := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 30), testnet.UDP("[fd00::1]:1000", "[fd00::2]:53", 30)
	whole := [][]byte{
		udp4.Bytes(), udp6.Bytes(), udp4.IPOptions(12).Bytes(), udp4.VLAN(7).Bytes(), udp6.VLAN(7, 8).Bytes(),
		testnet.UDP("10.0.0.2:53", "10.0.0.1:53", 100).Bytes(), testnet.UDP("10.0.0.1:7", "10.0.0.1:53", 1).Bytes(),
		testnet.UDP("10.0.0.1:53", "224.0.0.5:55", 0).Bytes(),
		testnet.TCP("10.0.0.1:40000", "10.0.0.2:443", testnet.SYN, 0).Bytes(),
		testnet.TCP("10.0.0.9:40000", "192.168.0.2:443", testnet.ACK|testnet.PSH, 100).Bytes(),
		testnet.TCP("[fd00::1]:40000", "[fd00::1]:443", testnet.ACK, 3).Bytes(),
		testnet.TCP("10.0.0.1:1000", "10.0.0.2:53", testnet.ACK, 6).IPOptions(40).VLAN(7).Bytes(),
		testnet.TCP("10.0.0.1:1000", "10.0.0.2:53", testnet.ACK, 6).VLAN(7, 8, 9).Bytes(),
		testnet.ICMP("10.0.0.1", "10.0.0.2", 8, 0, 32).Bytes(), testnet.ICMP("10.0.0.2", "10.0.0.1", 3, 3, 28).Bytes(),
		testnet.ICMP("fd00::2", "ff02::1", 129, 0, 32).Bytes(),
		udp6.Extension(testnet.HopByHop, 16).Bytes(), udp6.Extension(testnet.Authentication, 24).Bytes(),
		testnet.Ethernet(0x88cc, make([]byte, 40)).Bytes(), testnet.Ethernet(46, make([]byte, 46)).Bytes(),
		testnet.Ethernet(0x8863, make([]byte, 40)).Bytes(),
		behind(udp4.Bytes(), 0x8864, 0x11, 0, 0, 1, 0, 60, 0x00, 0x21), behind(udp6.Bytes(), 0x8864, 0x11, 0, 0, 1, 0, 60, 0x00, 0x57),
		behind(udp4.Bytes(), 0x8847, 0, 0x10, 1, 64), behind(udp6.Bytes(), 0x8847, 0, 0x10, 1, 64),
		behind(udp6.Bytes(), 0x8847, 0, 0x10, 0, 64, 0, 0x10, 1, 64), udp6.VLAN(0xfff).Bytes(),
		testnet.UDP("0.0.0.0:68", "0.0.0.0:67", 9).Bytes(),
		behind(udp4.Bytes(), 0x8100, 0, 7, 0x88, 0x47, 0, 0x10, 1, 64),
		behind(udp4.Bytes(), 0x9100, 0x2f, 0xff, 0x88, 0x64, 0x11, 0, 0, 2, 0, 60, 0x00, 0x21),
		behind(udp4.Bytes(), 0x8864, 0x11, 0, 0, 1, 0, 60, 0x02, 0x81, 0, 0x10, 1, 64),
	}
	for _, protocol := range []uint8{2, 9, 47, 50, 51, 103, 112, 132} {
		body := append([]byte{0x03, 0xe8, 0x00, 0x35, 0x16}, make([]byte, 27)...)
		for _, ends := range [][2]string{{"10.0.0.1", "10.0.0.2"}, {"fd00::1", "fd00::2"}} {
			whole = append(whole, testnet.IP(ends[0], ends[1], protocol, body).Bytes())
		}
	}
	for _, etherType := range []uint16{0x0806, 0x8035} {
		arp := slices.Concat([]byte{0, 1, 8, 0, 6, 4, 0, 1}, make([]byte, 6), []byte{10, 0, 0, 1}, make([]byte, 6), []byte{10, 0, 0, 9})
		whole = append(whole, testnet.Ethernet(etherType, arp).Bytes(), testnet.Ethernet(etherType, arp).VLAN(7).Bytes())
	}
	for _, ends := range [][2]string{{"10.0.0.1:1000", "10.0.0.2:53"}, {"[fd00::1]:1000", "[fd00::2]:53"}} {
		whole = append(whole, testnet.UDP(ends[0], ends[1], 100).Fragments(64)...)
	}
	broadcast := udp4.Bytes()
	copy(broadcast, "\xff\xff\xff\xff\xff\xff")
	return varied(append(whole, broadcast))
}

// behind puts a header between a frame's Ethernet header, which it gives another EtherType, and the rest.
func behind(frame []byte, etherType uint16, header ...byte) []byte {
	return slices.Concat(frame[:12], []byte{byte(etherType >> 8), byte(etherType)}, header, frame[14:])
}

// varied adds copies that are cut at each byte, and ones in which bytes differ, the same ones each time.
func varied(whole [][]byte) [][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	all := slices.Clone(whole)
	for _, frame := range whole {
		for size := 14; size < min(len(frame), 90); size++ {
			all = append(all, frame[:size])
		}
		for range 30 {
			changed := slices.Clone(frame)
			for range 1 + random.IntN(3) {
				changed[random.IntN(min(len(frame), 70))] = []byte{0, 1, 5, 6, 7, 17, 44, 45, 53, 64, 0x45, 0xff}[random.IntN(12)]
			}
			all = append(all, changed)
		}
	}
	return all
}

// TestLibpcap compares verdicts with those of the programs that libpcap makes of the same expressions.
func TestLibpcap(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		testnet.Unavailable(t, err)
	}
	all := frames()
	for _, expression := range expressions {
		t.Run(expression, func(t *testing.T) {
			t.Parallel()
			program, err := Compile(expression)
			if err != nil {
				t.Fatal(err)
			}
			ours, theirs := machine(t, program), machine(t, libpcap(t, expression))
			matched, wrong := 0, 0
			for _, frame := range all {
				got, want := verdict(t, ours, frame), verdict(t, theirs, frame)
				if want {
					matched++
				}
				if got != want {
					if wrong++; wrong == 1 {
						t.Errorf("%t, libpcap says %t of %x", got, want, frame)
					}
				}
			}
			if wrong > 1 {
				t.Errorf("and of %d more", wrong-1)
			}
			if matched == 0 {
				t.Error("no frame matches: this tests nothing")
			}
		})
	}
}

func machine(t testing.TB, program []bpf.Instruction) *bpf.VM {
	t.Helper()
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func verdict(t testing.TB, vm *bpf.VM, frame []byte) bool {
	t.Helper()
	n, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

// libpcap returns the program that tcpdump prints: the number of instructions, then one a line.
func libpcap(t *testing.T, expression string) []bpf.Instruction {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("tcpdump", "-ddd", "-y", "EN10MB", "--", expression)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("tcpdump: %v: %s", err, stderr.String())
	}
	var program []bpf.RawInstruction
	lines := bufio.NewScanner(&stdout)
	for lines.Scan(); lines.Scan(); {
		var i bpf.RawInstruction
		if _, err := fmt.Sscan(lines.Text(), &i.Op, &i.Jt, &i.Jf, &i.K); err != nil {
			t.Fatalf("tcpdump printed %q: %v", lines.Text(), err)
		}
		program = append(program, i)
	}
	instructions, ok := bpf.Disassemble(program)
	if !ok {
		t.Fatalf("not all of %v is understood", program)
	}
	for at, i := range instructions {
		if _, ok := i.(bpf.NegateA); ok { // which x/net's machine does not know
			instructions[at] = bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: 0xffffffff}
		}
	}
	return instructions
}
