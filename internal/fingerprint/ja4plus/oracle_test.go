package ja4plus

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"weir/internal/testja4"
)

// methods are those of the package, in the order in which the table has them.
var methods = []string{"ja4s", "ja4h", "ja4x", "ja4t", "ja4ts", "ja4l", "ja4ls", "ja4ssh", "ja4d"}

// differences name what is told otherwise than expected, by capture and value, with the reason.
var differences = map[string]map[string]string{}

// TestOracle compares the distinct fingerprints of each capture with those that FoxIO's own implementations print for it.
func TestOracle(t *testing.T) {
	matched, expected := map[string]int{}, map[string]int{}
	for _, capture := range testja4.Captures(t) {
		name := filepath.Base(capture)
		want, got := testja4.Expected(t, capture), fingerprints(t, capture)
		for _, method := range methods {
			expected[method] += len(want[method])
			for _, value := range slices.Sorted(maps.Keys(want[method])) {
				if got[method][value] {
					matched[method]++
				} else if differences[name][value] == "" {
					t.Errorf("%s: %s %s is missing", name, method, value)
				}
			}
			for _, value := range slices.Sorted(maps.Keys(got[method])) {
				if !want[method][value] && differences[name][value] == "" {
					t.Errorf("%s: %s %s is not expected", name, method, value)
				}
			}
		}
	}
	for _, method := range methods {
		t.Log(fmt.Sprintf("%-7s %3d of %3d", method, matched[method], expected[method]))
	}
}
