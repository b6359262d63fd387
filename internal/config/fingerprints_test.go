package config

import "testing"

func TestBadFingerprints(t *testing.T) {
	for _, text := range []string{
		"", ",", "ja4,", "ja4,ja4", "ja4 ja4s", "ja5", "ja4,none", "ja4t_r", "unknown",
		"all,ja4", "ja4,all", "all,all", "all,none", "ja4_r,all,ja4_r",
	} {
		if got, ok := parseFingerprints(text); ok {
			t.Errorf("%q: %v, want none", text, got)
		}
	}
}
