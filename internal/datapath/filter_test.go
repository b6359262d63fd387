package datapath

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/net/bpf"

	"weir/internal/filter"
	"weir/internal/flow"
	"weir/internal/testnet"
)

func compile(t testing.TB, expression string) []bpf.Instruction {
	t.Helper()
	program, err := filter.Compile(expression)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// hosts is a filter of so many addresses, whose jumps are too far for the classic machine's conditional ones.
func hosts(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("fd00:%x::1", i)
	}
	return "host " + strings.Join(all, " or ") + " or 10.0.0.9"
}

// TestFilter compares the verdicts of filters in the kernel with those of the classic machine.
func TestFilter(t *testing.T) {
	frames := filterFrames()
	for _, expression := range []string{
		"tcp port 443", "udp and (src host 10.0.0.1 or net fd00::/64)", "vlan 7 and udp", "not ip", "ether dst 2:0:0:0:0:2",
		"len > 74", "ip[2:2] + 14 > len", "ip[ip[0] & 0xf] != 0", "tcp[(tcp[12] & 0xf0) >> 2 : 4] = 0", "icmp6[icmp6type] > 128",
		"1 << (ip[8] & 63) != 0", "ip[8] >> ip[9] = 0", "len / (ip[9] - 6) > 6", "(len % ip[9]) = 3", "ip[len - 18] = 0",
		"ether[len - 1] = 0", "len + (len + (len ^ ip[2:2])) > 300 && ip[20:4] | 1 <= 0xffffffff", hosts(100),
	} {
		t.Run(expression[:min(len(expression), 40)], func(t *testing.T) {
			program := compile(t, expression)
			k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Filter: program})
			k.compareFilter(t, kernelProgTcIngress, program, frames, len(frames))
			k.compareFilter(t, kernelProgXdpIngress, program, frames, 4) // its test runs are slow
		})
	}
}

// TestLongestFilters loads the longest programs that each of these terms makes.
func TestLongestFilters(t *testing.T) {
	for _, row := range []struct{ term, between string }{
		{"sctp portrange 1-9", " or "},
		{"not portrange 1-9 or portrange 1-9", " and "},
		{"host fd00::9", " or "},
		{"udp[0:2] = tcp[0:2]", " or "},
		{"1 << ip[8] = 0", " or "},
		{"ether[ether[len] : 4] = 1", " and "},
	} {
		t.Run(row.term, func(t *testing.T) {
			newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Filter: compile(t, longest(row.term, row.between))})
		})
	}
}

// longest repeats a term as often as can be compiled.
func longest(term, between string) string {
	n := sort.Search(4096, func(n int) bool {
		_, err := filter.Compile(strings.Repeat(term+between, n) + term)
		return err != nil
	})
	return strings.Repeat(term+between, n-1) + term
}

// TestFilterTooLong refuses a program that jumps in the kernel would not reach the end of, before the kernel has to.
func TestFilterTooLong(t *testing.T) {
	program := append(slices.Repeat([]bpf.Instruction{bpf.LoadMemShift{Off: directMax}}, 4000), bpf.RetConstant{Val: 1})
	_, err := Load(Config{MaxFlows: 1024, Sampling: 1, Filter: program})
	want := "the filter is too long: it takes 36004 instructions, more than 32767"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// compareFilter runs at most so many of the frames that match, and of the others. There have to be both.
func (k kernel) compareFilter(t *testing.T, hook string, program []bpf.Instruction, frames [][]byte, most int) {
	t.Helper()
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[bool]int{}
	for _, frame := range frames {
		n, err := vm.Run(frame)
		if err != nil {
			t.Fatal(err)
		}
		want := n > 0
		if len(frame) < shortest(hook, frame) || ran[want] == most {
			continue
		}
		ran[want]++
		before := k.ledger(t)
		k.run(t, hook, frame, nil)
		if got := since(k.ledger(t), before).Uncounted["filtered"] == (flow.Counter{}); got != want {
			t.Errorf("%s: %t, want %t of %x", hook, got, want, frame)
		}
	}
	if ran[true] == 0 || ran[false] == 0 {
		t.Errorf("%s: %d frames match, %d do not: this tests little", hook, ran[true], ran[false])
	}
}

// filterFrames are the shapes, whole, then cut, then with bytes changed, the same ones each time.
func filterFrames() (all [][]byte) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, shape := range shapes {
		all = append(all, shape.frame)
	}
	for _, shape := range shapes {
		for range 4 {
			all = append(all, shape.frame[:14+random.IntN(len(shape.frame)-14)])
			changed := slices.Clone(shape.frame)
			changed[random.IntN(len(changed))] = byte(random.Uint32())
			all = append(all, changed)
		}
	}
	return all
}

// TestFiltered puts the filter's verdict before every other, also on frames that nothing can be read of.
func TestFiltered(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Filter: compile(t, "tcp port 443")})
	https := testnet.TCP("10.0.0.1:40000", "10.0.0.2:443", testnet.ACK, 100).Bytes()
	for _, row := range []struct {
		name  string
		frame []byte
		fate  string
	}{
		{"a match", https, "counted"},
		{"another port", udp4.Bytes(), "filtered"},
		{"not IP", testnet.Ethernet(0x0806, make([]byte, 28)).Bytes(), "filtered"},
		{"truncated, and no match", udp4.Bytes()[:40], "filtered"},
		{"truncated, and a match", https[:14+20+4], "truncated"},
		{"too many tags", udp4.VLAN(1, 2, 3, 4).Bytes(), "filtered"},
	} {
		for _, hook := range hooks {
			t.Run(row.name+"/"+hook, func(t *testing.T) {
				before := k.ledger(t)
				k.run(t, hook, row.frame, nil)
				seen := flow.Counter{Packets: 1, Bytes: uint64(len(row.frame))}
				fate := row.fate
				if fate == "counted" && hook != kernelProgXdpIngress {
					fate = "duplicate" // all hooks see one direction
				}
				checkLedger(t, since(k.ledger(t), before), hook, seen, map[string]flow.Counter{fate: seen})
			})
		}
	}
}

// TestFilteredLeavesNothing has the kernel remember nothing of what does not match: no first fragment, and no tunnel of a
// super-packet, whose headers are read for its weight.
func TestFilteredLeavesNothing(t *testing.T) {
	vxlan4789 := map[flow.TunnelKind]uint16{flow.TunnelVXLAN: 4789}
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Decap: vxlan4789, Filter: compile(t, "ip6")})
	first := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 100).Fragments(64)[0]
	super := vxlan("10.0.0.1:1", "10.0.0.2:4789", testnet.TCP("10.1.0.1:1", "10.1.0.2:2", testnet.ACK, 2000)).Bytes()
	k.run(t, kernelProgXdpIngress, first, nil)
	k.run(t, kernelProgTcIngress, first, nil)
	k.run(t, kernelProgTcIngress, super, &skb{GSOSegs: 2, GSOSize: 1000})
	if got := k.ledger(t).Uncounted["filtered"].Packets; got != 4 {
		t.Errorf("%d packets filtered, want 4", got)
	}
	for _, name := range []string{kernelMapFragments, kernelMapTunnels} {
		var entry []byte
		if err := k.coll.Maps[name].NextKey(nil, &entry); !errors.Is(err, ebpf.ErrKeyNotExist) {
			t.Errorf("%s is not empty: %v", name, err)
		}
	}
	if slots := k.slots(t); len(slots) > 0 {
		t.Errorf("in the table are %+v", slots)
	}
}

// TestFilterBackwards reads before the header that is named.
func TestFilterBackwards(t *testing.T) {
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Filter: compile(t, "ip[-2:2] = 0x800 and ip[-(ip[8] - 55)] = 1")})
	frame := udp4.Bytes() // the byte 9 before the header, of which ip[8] is 64, is in the source's address
	frame[14-9] = 1
	k.run(t, kernelProgTcIngress, frame, nil)
	frame[14-9] = 2
	k.run(t, kernelProgTcIngress, frame, nil)
	if l := k.ledger(t); l.Counted.Packets != 1 || l.Uncounted["filtered"].Packets != 1 {
		t.Errorf("%+v counted, %+v filtered, want one each", l.Counted, l.Uncounted["filtered"])
	}
}

// TestFilterOnTheWire filters frames in shapes that a test run cannot make, by what they are on the wire: a VLAN tag that
// travels beside the frame is in its place, and what is not linear can be read.
func TestFilterOnTheWire(t *testing.T) {
	plain := testnet.TCP("10.0.0.1:1000", "10.0.0.2:53", testnet.ACK, 100)
	jumbo := testnet.UDP("10.0.0.1:1000", "10.0.0.2:53", 8000)
	for _, row := range []struct {
		name   string
		frame  []byte
		from   int // the offset where bytes are looked at
		hook   string
		attach func(kernel, *testing.T, *testnet.Link, *testnet.Link)
	}{
		{"VLAN, tc ingress: the tag is taken out", plain.VLAN(7).Bytes(), 8, "tc_ingress", onIngress(IngressTC)},
		{"two VLAN tags, tc ingress", plain.VLAN(7, 8).Bytes(), 8, "tc_ingress", onIngress(IngressTC)},
		{"jumbo in a VLAN, tc egress", jumbo.VLAN(7).Bytes(), 8, "tc_egress", onEgress},
		{"jumbo, XDP", jumbo.Bytes(), 8000, "xdp_ingress", onIngress(IngressXDP)},
	} {
		t.Run(row.name, func(t *testing.T) {
			k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Filter: compile(t, exactly(row.frame, row.from, len(row.frame)))})
			out, in := testnet.Veth(t,
				testnet.End{Namespace: testnet.NewNamespace(t), Name: "out", MTU: 9000},
				testnet.End{Namespace: testnet.NewNamespace(t), Name: "in", MTU: 9000})
			row.attach(k, t, out, in)
			other := slices.Clone(row.frame)
			other[row.from+12] ^= 1
			out.Send(t, row.frame, other)
			testnet.Eventually(t, "both frames are seen", func() bool { return k.ledger(t).Seen[row.hook].Packets == 2 })
			one := flow.Counter{Packets: 1, Bytes: uint64(len(row.frame))}
			both := flow.Counter{Packets: 2, Bytes: 2 * one.Bytes}
			checkLedger(t, k.ledger(t), row.hook, both, map[string]flow.Counter{"counted": one, "filtered": one})
		})
	}
}

// TestFilterOfTags: auto does not take XDP, where a network card may have taken the tag out, for a filter that looks for it.
func TestFilterOfTags(t *testing.T) {
	for expression, want := range map[string]Refusal{
		"ip6 or (vlan 7 and tcp)": RefusedFilter,
		"ether proto 0x88a8":      RefusedFilter,
		"ip and port 33024":       RefusedVirtual, // the number of the tag's EtherType
	} {
		t.Run(expression, func(t *testing.T) {
			k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Filter: compile(t, expression)})
			_, in := veth(t)
			if at := k.attach(t, in, IngressAuto); at.Mode != tcMode(t) || at.Refused != want {
				t.Errorf("%s (refused for %q), want %s (%q)", at.Mode, at.Refused, tcMode(t), want)
			}
		})
	}
}

// TestFilterOnBare filters at an interface without a link layer, as if there were an Ethernet header without addresses.
func TestFilterOnBare(t *testing.T) {
	const ethernet = 14
	none := make(net.HardwareAddr, 6)
	frame := testnet.UDP("10.0.0.9:1000", "10.9.0.1:53", 100).MACs(none, none).Bytes()
	k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Filter: compile(t, exactly(frame, 8, len(frame)-ethernet))})
	tun := testnet.NewTun(t, testnet.NewNamespace(t), "tun", "10.0.0.1/24")
	k.attachTo(t, tun.Link, Interface{Index: tun.Index, Name: tun.Name, Bare: true}, Ingress, IngressAuto)
	other := slices.Clone(frame)
	other[ethernet+1] = 4 // type of service
	tun.Receive(t, frame[ethernet:], other[ethernet:])
	one := flow.Counter{Packets: 1, Bytes: uint64(len(frame) - ethernet)}
	both := flow.Counter{Packets: 2, Bytes: 2 * one.Bytes}
	testnet.Eventually(t, "both are seen", func() bool { return k.ledger(t).Seen["tc_ingress"] == both })
	checkLedger(t, k.ledger(t), "tc_ingress", both, map[string]flow.Counter{"counted": one, "filtered": one})
}

// TestFilterBehindOuter filters at a bare interface what has the headers of a tunnel in front of the frame: the network header
// is 14 bytes on in a test run, which outer_len takes for 16.
func TestFilterBehindOuter(t *testing.T) {
	const ethernet, outer = 14, 16
	none := make(net.HardwareAddr, 6)
	frame := testnet.UDP("10.0.0.9:1000", "10.9.0.1:53", 100).MACs(none, none).Bytes()
	behind := slices.Concat(frame[:ethernet], []byte{0xaa, 0xbb}, frame[ethernet:])
	for _, row := range []struct {
		filter, fate string
	}{
		{exactly(frame, 8, len(frame)-ethernet), "counted"},
		{"udp src port 1000 and dst net 10.9.0.0/16", "counted"},
		{"udp src port 1001", "filtered"},
		{"ether[len + 13] = 0 or ether[len + 13] != 0", "counted"},
		{"ether[len + 14] = 0 or ether[len + 14] != 0", "filtered"},
		{"ether[0 - 2] = 0 or ether[0 - 2] != 0", "filtered"}, // not the first byte, by wrapping
	} {
		t.Run(row.filter[:min(len(row.filter), 40)], func(t *testing.T) {
			k := newKernelWith(t, Config{MaxFlows: 1024, Sampling: 1, Filter: compile(t, row.filter)})
			programs, err := k.setAt(place{bare: true})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := programs.tcIngress.Run(&ebpf.RunOptions{Data: behind}); err != nil {
				t.Fatal(err)
			}
			one := flow.Counter{Packets: 1, Bytes: uint64(len(behind) - outer)}
			checkLedger(t, k.ledger(t), kernelProgTcIngress, one, map[string]flow.Counter{row.fate: one})
		})
	}
}

// exactly is a filter of a frame's length, and of some bytes from an offset on, read in all sizes.
func exactly(frame []byte, from, length int) string {
	terms := []string{fmt.Sprintf("len = %d", length)}
	for at := from; at < from+14; at++ {
		for _, size := range []int{1, 2, 4} {
			terms = append(terms, fmt.Sprintf("ether[%d:%d] = 0x%x", at, size, frame[at:at+size]))
		}
	}
	return strings.Join(terms, " and ")
}
