package tracker_test

import (
	"testing"

	"weir/internal/tracker"
)

func TestTunnel(t *testing.T) {
	for _, tc := range []struct {
		v4, v6 uint16 // MSS
		want   string
	}{
		{1460, 1440, ""}, // Ethernet
		{1452, 1432, "possible PPPoE"},
		{1440, 1420, "possible IPIP or 6in4"},
		{1436, 1416, "possible GRE"},
		{1410, 1390, "possible VXLAN or Geneve"},
		{1400, 1380, "possible WireGuard over IPv4"},
		{1380, 1360, "possible WireGuard"},
		{1372, 1352, "possible WireGuard over PPPoE"},
		{1406, 1386, "possible IPsec ESP"},
		{1360, 1340, "possible IPsec ESP"},
		{1407, 1387, ""},
		{1359, 1339, ""},
		{1240, 1220, "possible overlay network"},
		{8961, 8941, ""},   // jumbo frames
		{65495, 65475, ""}, // loopback
		{65535, 65535, ""}, // jumbograms, RFC 2675
		{536, 1220 - 1, ""},
		{0, 0, ""},
	} {
		if got := tracker.Tunnel(tc.v4, false); got != tc.want {
			t.Errorf("Tunnel(%d, false) = %q, want %q", tc.v4, got, tc.want)
		}
		if got := tracker.Tunnel(tc.v6, true); got != tc.want {
			t.Errorf("Tunnel(%d, true) = %q, want %q", tc.v6, got, tc.want)
		}
	}
}

func TestUsualMSS(t *testing.T) {
	var u tracker.UsualMSS
	add := func(mss uint16, times int) {
		for range times {
			u.Add(mss)
		}
	}
	for _, step := range []struct {
		mss   uint16
		times int
		want  uint16
	}{
		{1460, 15, 0}, // too few to say
		{1460, 1, 1460},
		{1380, 1, 0},
		{1460, 1_000_000, 1460},
		{1380, 900, 1460},
		{1380, 200, 1380}, // another network
	} {
		if add(step.mss, step.times); u.Value() != step.want {
			t.Errorf("after %d times %d the usual MSS is %d, want %d", step.times, step.mss, u.Value(), step.want)
		}
	}
}
