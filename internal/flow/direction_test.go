package flow

import "testing"

func TestDirectionOf(t *testing.T) {
	for _, tc := range []struct {
		srcLocal, dstLocal bool
		want               Direction
		name               string
	}{
		{false, false, DirectionUnknown, "unknown"},
		{true, false, DirectionOutbound, "outbound"},
		{false, true, DirectionInbound, "inbound"},
		{true, true, DirectionLocal, "local"},
	} {
		got := DirectionOf(tc.srcLocal, tc.dstLocal)
		if got != tc.want || got.String() != tc.name {
			t.Errorf("DirectionOf(%t, %t) = %d %q, want %d %q",
				tc.srcLocal, tc.dstLocal, got, got, tc.want, tc.name)
		}
	}
}

func TestStringOutOfRange(t *testing.T) {
	if got := directions.String(); got != "unknown" {
		t.Errorf("Direction(%d).String() = %q, want unknown", directions, got)
	}
	if got := endReasons.String(); got != "unknown" {
		t.Errorf("EndReason(%d).String() = %q, want unknown", endReasons, got)
	}
}
