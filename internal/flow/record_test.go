package flow

import "testing"

func TestEndReasons(t *testing.T) {
	want := []string{"idle", "active", "fin", "rst", "shutdown"}
	got := EndReasons()
	if len(got) != len(want) {
		t.Fatalf("EndReasons() has %d values, want %d", len(got), len(want))
	}
	for i, r := range got {
		if r.String() != want[i] {
			t.Errorf("EndReasons()[%d] = %q, want %q", i, r, want[i])
		}
	}
}
