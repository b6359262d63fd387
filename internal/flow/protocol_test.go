package flow

import (
	"strings"
	"testing"
)

func TestProtocolName(t *testing.T) {
	for p, want := range map[uint8]string{
		0: "0", 1: "ICMP", 2: "IGMP", 4: "IPIP", 6: "TCP", 17: "UDP", 33: "DCCP", 41: "IPv6", 47: "GRE", 50: "ESP",
		51: "AH", 58: "ICMPv6", 89: "OSPF", 94: "94", 132: "SCTP", 136: "UDPLite", 255: "255",
	} {
		if got := ProtocolName(p); got != want {
			t.Errorf("ProtocolName(%d) = %q, want %q", p, got, want)
		}
	}
}

// TestProtocolNamesFitFlowID holds the names to what flow_id and JSON need: unique, plain, and free of separators.
func TestProtocolNamesFitFlowID(t *testing.T) {
	seen := map[string]int{}
	for p := range 256 {
		name := ProtocolName(uint8(p))
		if other, ok := seen[name]; ok {
			t.Errorf("protocols %d and %d are both %q", other, p, name)
		}
		seen[name] = p
		isOther := func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
		}
		if name == "" || strings.ContainsFunc(name, isOther) {
			t.Errorf("ProtocolName(%d) = %q, want letters and digits", p, name)
		}
	}
}
