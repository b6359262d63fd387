package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"weir/internal/flow"
	"weir/internal/testja4"
	"weir/internal/testnet"
)

// tuple is one direction of a connection, as a FlowEvent names it.
type tuple struct {
	SrcIP    string `json:"src_ip"`
	SrcPort  string `json:"src_port"`
	DstIP    string `json:"dst_ip"`
	DstPort  string `json:"dst_port"`
	Protocol string `json:"protocol"`
}

type traffic map[tuple]flow.Counter

func (t traffic) add(to tuple, packets, bytes uint64) {
	c := t[to]
	t[to] = flow.Counter{Packets: c.Packets + packets, Bytes: c.Bytes + bytes}
}

// replayed returns what "weir replay" counts in a capture.
func replayed(t *testing.T, file string) traffic {
	t.Helper()
	command := exec.CommandContext(t.Context(), binary, "replay", "--max-flows=4096", file)
	command.Env = []string{"NODE_NAME=node-1"}
	out, err := command.Output()
	if err != nil {
		t.Fatalf("weir replay: %v", err)
	}
	sums := traffic{}
	for line := range bytes.Lines(out) {
		var event struct {
			tuple
			PacketCount uint64 `json:"packet_count"`
			ByteCount   uint64 `json:"byte_count"`
		}
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		sums.add(event.tuple, event.PacketCount, event.ByteCount)
	}
	return sums
}

// dissected returns what tshark finds in a capture: packets and bytes of each direction by the fields of each packet, and
// packets by its conversation statistics, whose bytes are rounded.
func dissected(t *testing.T, file string) (packets traffic, conversations map[tuple]uint64) {
	t.Helper()
	fields := []string{
		"frame.len", "frame.protocols", "ip.src", "ip.dst", "ip.proto", "ipv6.src", "ipv6.dst", "ipv6.nxt", "tcp.srcport", "tcp.dstport",
		"udp.srcport", "udp.dstport", "icmp.type", "icmp.code", "icmpv6.type", "icmpv6.code",
	}
	args := []string{"-n", "-r", file, "-T", "fields", "-E", "separator=|", "-E", "occurrence=f", "-z", "conv,udp", "-z", "conv,tcp"}
	for _, field := range fields {
		args = append(args, "-e", field)
	}
	command := exec.CommandContext(t.Context(), "tshark", args...)
	command.Env = append(os.Environ(), "HOME="+t.TempDir()) // nobody's preferences
	out, err := command.Output()
	if errors.Is(err, exec.ErrNotFound) {
		testnet.Unavailable(t, err)
	}
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	table, statistics, _ := strings.Cut(string(out), "\n====")
	packets = traffic{}
	for line := range strings.Lines(table) {
		values := map[string]string{}
		for i, value := range strings.Split(strings.TrimSuffix(line, "\n"), "|") {
			values[fields[i]] = value
		}
		if of, ok := outermost(values); ok {
			length, err := strconv.ParseUint(values["frame.len"], 10, 32)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			packets.add(of, 1, length)
		}
	}
	return packets, converse(statistics)
}

// outermost names the flow of a packet by its outer headers, which are the first of each kind, or false if it is not IP. What
// lies in a tunnel, and what an ICMP error quotes, has layers behind these.
func outermost(fields map[string]string) (tuple, bool) {
	layers := strings.Split(fields["frame.protocols"], ":")
	for i, layer := range layers {
		if layer != "ip" && layer != "ipv6" {
			continue
		}
		of := tuple{SrcIP: fields[layer+".src"], DstIP: fields[layer+".dst"], SrcPort: "0", DstPort: "0"}
		transport := ""
		if i+1 < len(layers) {
			transport = layers[i+1]
		}
		switch transport {
		case "tcp", "udp":
			of.Protocol = strings.ToUpper(transport)
			of.SrcPort, of.DstPort = fields[transport+".srcport"], fields[transport+".dstport"]
		case "icmp", "icmpv6":
			of.Protocol = map[string]string{"icmp": "ICMP", "icmpv6": "ICMPv6"}[transport]
			kind, _ := strconv.Atoi(fields[transport+".type"])
			code, _ := strconv.Atoi(fields[transport+".code"])
			of.DstPort = strconv.Itoa(kind<<8 | code)
		default:
			number, _ := strconv.ParseUint(fields[map[string]string{"ip": "ip.proto", "ipv6": "ipv6.nxt"}[layer]], 10, 8)
			of.Protocol = flow.ProtocolName(uint8(number))
		}
		return of, true
	}
	return tuple{}, false
}

// conversation is a line of tshark's statistics: both ends, and packets and bytes back and forth.
var conversation = regexp.MustCompile(`(?m)^(\S+):(\d+) +<-> (\S+):(\d+) +(\d+) [\d.]+ \S+ +(\d+) `)

func converse(statistics string) map[tuple]uint64 {
	all := map[tuple]uint64{}
	tables := strings.Split(statistics, " Conversations\n")
	for i, protocol := range tables[:len(tables)-1] {
		protocol = protocol[strings.LastIndexByte(protocol, '\n')+1:]
		for _, m := range conversation.FindAllStringSubmatch(tables[i+1], -1) {
			back, _ := strconv.ParseUint(m[5], 10, 64)
			there, _ := strconv.ParseUint(m[6], 10, 64)
			for of, n := range map[tuple]uint64{
				{m[1], m[2], m[3], m[4], protocol}: there, {m[3], m[4], m[1], m[2], protocol}: back,
			} {
				if n > 0 {
					all[of] += n
				}
			}
		}
	}
	return all
}

// TestReplayAgainstTshark: in every capture, packets and bytes of each 5-tuple are those that tshark finds. One rule explains
// where its conversation statistics have more: "tunnel". They list what is in a tunnel as conversations, beside the tunnel;
// weir counts the tunnel's outer flow.
func TestReplayAgainstTshark(t *testing.T) {
	testnet.NeedRoot(t)
	tunnels := map[string]bool{"gre-sample.pcap": true, "gre-erspan-vxlan.pcap": true}
	for _, file := range testja4.Captures(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			got := replayed(t, file)
			packets, conversations := dissected(t, file)
			compare(t, got, packets)
			for of, n := range conversations {
				if inTunnel := got[of].Packets == 0 && tunnels[filepath.Base(file)]; got[of].Packets != n && !inTunnel {
					t.Errorf("%+v: %d packets, tshark's conversation has %d", of, got[of].Packets, n)
				}
			}
			for of, c := range got {
				if (of.Protocol == "TCP" || of.Protocol == "UDP") && conversations[of] != c.Packets {
					t.Errorf("%+v: %d packets, tshark's conversation has %d", of, c.Packets, conversations[of])
				}
			}
		})
	}
}

func compare(t *testing.T, got, want traffic) {
	t.Helper()
	for of, c := range want {
		if got[of] != c {
			t.Errorf("%+v: %+v, want %+v", of, got[of], c)
		}
	}
	for of, c := range got {
		if _, ok := want[of]; !ok {
			t.Errorf("%+v: %+v, which tshark does not see", of, c)
		}
	}
	if len(want) == 0 {
		t.Error("tshark sees nothing")
	}
}
