package flow

import (
	"net/netip"
	"testing"
)

// TestOuter turns the outer addresses around for the other direction, but not those of a mirror.
func TestOuter(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::2")
	for _, row := range []struct {
		kind     TunnelKind
		end      int
		src, dst netip.Addr
	}{
		{TunnelVXLAN, 0, a, b},
		{TunnelVXLAN, 1, b, a},
		{TunnelERSPAN, 0, a, b},
		{TunnelERSPAN, 1, a, b},
	} {
		tunnel := Tunnel{Kind: row.kind, Ends: [2]netip.Addr{a, b}}
		if src, dst := tunnel.Outer(row.end); src != row.src || dst != row.dst {
			t.Errorf("%s, end %d: from %s to %s, want from %s to %s", row.kind, row.end, src, dst, row.src, row.dst)
		}
	}
}
