package filter

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"weir/internal/testnet"
)

// TestOwn has expressions that libpcap does not take, or takes otherwise.
func TestOwn(t *testing.T) {
	udp4, udp6 := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 30).Bytes(), testnet.UDP("[fd00::1]:1000", "[fd00::2]:53", 30).Bytes()
	for _, row := range []struct {
		expression string
		v4, v6     bool
	}{
		{"port domain", true, true},
		{"src port domain or 1000", true, true},
		{"port https", false, false},
		{"portrange 50-ssh", false, false},
		{"net 10/8", true, false},
		{"proto tcp", false, false},
		{"ip proto udp", true, false},
		{"host ::ffff:10.0.0.1", false, false},
		{"gre[0] = 0 or udplite[0] = 0 or udp[0:2] = 1000", true, false},
		{"ip6 and not ipv6-icmp[0] = 0", false, true},
		// What is read from a packet of another protocol is not there, on whichever side of an operator.
		{"1 << ip[8] = 0", true, false},
		{"1 << ip[8] != 0", false, false},
		{"len - ip[2:2] = 14", true, false},
		{"len / ip[0] = 1", true, false},
		{"len / (ip[8] - 64) = 0", false, false},
		{"not len / (ip[8] - 64) = 0", false, true},
		{"(len % (ip[8] - 64)) = 0", false, false},
		{"ether[100] = 0", false, false},
		{"not ether[100] = 0", false, false},
		{"0 != 0", false, false},
		{"not 0 != 0", true, true},
	} {
		program, err := Compile(row.expression)
		if err != nil {
			t.Errorf("%s: %v", row.expression, err)
			continue
		}
		vm := machine(t, program)
		if v4, v6 := verdict(t, vm, udp4), verdict(t, vm, udp6); v4 != row.v4 || v6 != row.v6 {
			t.Errorf("%s: IPv4 %t, IPv6 %t, want %t, %t", row.expression, v4, v6, row.v4, row.v6)
		}
	}
}

// TestFarJumps compiles programs in which conditional jumps do not reach their ends.
func TestFarJumps(t *testing.T) {
	const many = 130
	last := testnet.UDP("10.0.0.129:1", "192.168.0.1:2", 0).Bytes()
	other := testnet.UDP("10.0.0.130:1", "192.168.0.1:2", 0).Bytes()
	var hosts []string
	for i := range many {
		hosts = append(hosts, fmt.Sprintf("10.0.0.%d", i))
	}
	for _, row := range []struct {
		expression  string
		last, other bool
	}{
		{"ip src " + strings.Join(hosts, " or "), true, false},
		{"not ip src (" + strings.Join(hosts, " or ") + ")", false, true},
		{"not (ip src " + strings.Join(hosts, ") and not (ip src ") + ")", false, true},
		{"ip and (" + strings.Repeat("ip[0] = 0x45 and ", many) + "src 10.0.0.129)", true, false},
	} {
		program, err := Compile(row.expression)
		if err != nil {
			t.Fatal(err)
		}
		vm := machine(t, program)
		if onLast, onOther := verdict(t, vm, last), verdict(t, vm, other); onLast != row.last || onOther != row.other {
			t.Errorf("%.40s…: %t and %t, want %t and %t", row.expression, onLast, onOther, row.last, row.other)
		}
	}
}

func TestErrors(t *testing.T) {
	const qualifierWanted = ", and an operand needs a qualifier before it, such as host, net or port"
	for expression, want := range map[string]string{
		"":                    "at column 1: the expression ends where something to look for is wanted",
		"tcp and":             "at column 8: the expression ends where something to look for is wanted",
		"tcp prt 80":          `at column 5: "prt", where only and, or, or the end can be`,
		"foo":                 `at column 1: "foo" is no keyword` + qualifierWanted,
		"10.0.0.1":            `at column 1: "10.0.0.1" is no keyword` + qualifierWanted,
		"tcp or 80":           `at column 8: "80" needs a qualifier before it, such as host, net or port`,
		"(port 80) or 443":    `at column 14: "443" needs a qualifier before it, such as host, net or port`,
		"tcp and (port 80":    `at column 17: the end, where ")" is wanted`,
		"tcp)":                `at column 4: ")", where only and, or, or the end can be`,
		"host (10.0.0.1 or":   "at column 18: the end, where an operand is wanted",
		"tcp port 80, 443":    "at column 12: the character ',' means nothing here",
		"port 80\u00a0or 443": "at column 8: the character '\\u00a0' means nothing here",
		"host example.org":    `at column 6: "example.org" is no address; names are not looked up`,
		"host 10.0.0.256":     `at column 6: "10.0.0.256" is no address; names are not looked up`,
		"host 1.2.3.4.5":      `at column 6: "1.2.3.4.5" is no address; names are not looked up`,
		"net 10.0.0.1/8":      "at column 13: the address has bits that are not in the mask",
		"net 10.0.0.0/33":     `at column 14: "33" is too much or no number: a prefix length is at most 32`,
		"host 10.0.0.0/8":     "at column 14: a mask behind an address that is no net: net is wanted before it",
		"net fd00::1/64":      "at column 12: the address has bits that are not in the mask",
		"ip host fd00::1":     `at column 9: an IPv6 address cannot stand behind "ip"`,
		"tcp host 10.0.0.1":   `at column 10: an IPv4 address cannot stand behind "tcp"`,
		"host 1:2:3:4:5:6":    "at column 6: an Ethernet address needs ether before host, src or dst",
		"ether host 10.0.0.1": `at column 12: "10.0.0.1" is no Ethernet address, such as 02:00:00:00:00:01`,
		"port 65536":          `at column 6: "65536" is too much or no number: a port is at most 65535`,
		"port 08":             `at column 6: "08" is too much or no number: a port is at most 65535`,
		"port gopher":         `at column 6: "gopher" is no port: give its number`,
		"ip port 80":          `at column 9: port cannot stand behind "ip"`,
		"ip proto 256":        `at column 10: "256" is too much or no number: a protocol is at most 255`,
		"ether proto 100":     "at column 13: only EtherTypes are supported, and none of AppleTalk, nor behind pppoes",
		"ip broadcast":        "at column 4: ip broadcast is not supported: it depends on each interface's mask",
		"inbound":             `at column 1: "inbound" is not supported`,
		"gateway 10.0.0.1":    `at column 1: "gateway" is not supported`,
		"ether": `at column 1: "ether" alone says nothing: ` +
			"host, proto, broadcast, multicast or [ is wanted behind it",
		"ip[0:3] = 1":             "at column 6: a size of 3 bytes: it is 1, 2 or 4",
		"ip[65536] = 1":           "at column 4: no frame has so many bytes",
		"ip[0]":                   "at column 6: the end, where a comparison is wanted: = != < <= > or >=",
		"ip[0 = 1":                `at column 6: "=", where "]" is wanted`,
		"esp[0] = 1":              `at column 1: the bytes of "esp" cannot be looked at`,
		"len / 0 = 1":             "at column 5: division by zero",
		"len << 32 = 1":           "at column 5: a shift by more than 31 bits",
		"len % 3 * 2 = 1":         "at column 9: parentheses are wanted where % or ^ stands beside another operator",
		"2 * len % 3 = 1":         "at column 9: parentheses are wanted where % or ^ stands beside another operator",
		"len > 4294967296":        `at column 7: "4294967296" is too much or no number: a number is at most 4294967295`,
		"vlan 4096":               `at column 6: "4096" is too much or no number: a VLAN id is at most 4095`,
		"mpls and vlan":           "at column 10: vlan behind pppoes or mpls is not supported",
		"mpls and arp":            `at column 10: "arp" behind mpls: there, only ip and ip6 can be told`,
		"pppoes and multicast":    `at column 12: "multicast" behind pppoes is not supported`,
		strings.Repeat("!", 5000): "at column 4097: longer than 4096 bytes",
		"port 1" + strings.Repeat(" or 1", 200): "the expression takes 5789 instructions, more than 4096: " +
			"it needs fewer terms, such as nets for hosts and portranges for ports",
		"len + " + strings.Repeat("(len + ", 16) + "len" + strings.Repeat(")", 16) + " = 1": "at column 139: " +
			"the comparison has more than 16 values to remember at a time",
	} {
		program, err := Compile(expression)
		if err == nil || err.Error() != want {
			t.Errorf("%.60q: %v\nwant %s", expression, err, want)
		}
		if program != nil {
			t.Errorf("%.60q: an error came with a program", expression)
		}
	}
}

// FuzzCompile has every expression either compiled to a program that the classic machine takes, or refused at a place
// within it.
func FuzzCompile(f *testing.F) {
	for _, expression := range expressions {
		f.Add(expression)
	}
	f.Add(`ether proto \foo or ((len)) [ : ] -- ^ % mask 1.2.3 host 1-2`)
	frames := [][]byte{testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 30).Bytes(), {}}
	f.Fuzz(func(t *testing.T, expression string) {
		program, err := Compile(expression)
		if err != nil {
			var at *SyntaxError
			if !errors.As(err, &at) || at.Column < 0 || at.Column > len(expression)+1 || strings.ContainsAny(err.Error(), "\n\r\x1b") {
				t.Errorf("%q: %q", expression, err)
			}
			return
		}
		if _, err := bpf.Assemble(program); err != nil {
			t.Errorf("%q: %v", expression, err)
		}
		vm := machine(t, program)
		for _, frame := range frames {
			verdict(t, vm, frame)
		}
	})
}
