package config

import "testing"

func TestBadDecap(t *testing.T) {
	for _, text := range []string{
		"", ",", "vxlan,", "vxlan,vxlan", "vlan", "none,gre", "gre:1", "ipip:0", "vxlan:", "vxlan:0", "vxlan:65536", "vxlan:x",
		"vxlan:6081,geneve", "vxlan:2152,gtpu", "vxlan 8472", "unknown",
	} {
		if got, ok := parseDecap(text); ok {
			t.Errorf("%q: %v, want none", text, got)
		}
	}
}
