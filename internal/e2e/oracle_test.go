package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"

	"weir/internal/testja4"
)

// oracleMethods are those of which FoxIO's implementations tell.
var oracleMethods = []string{
	"ja4", "ja4s", "ja4h", "ja4x", "ja4t", "ja4ts", "ja4l", "ja4ls", "ja4ssh", "ja4d", "ja4s_r", "ja4h_r", "ja4x_r",
}

// identified returns the distinct fingerprints that "weir replay" has in the events of a capture.
func identified(t *testing.T, capture string) testja4.Values {
	t.Helper()
	command := exec.CommandContext(t.Context(), binary, "replay", "--decap=gre,erspan,vxlan:4790", "--fingerprints="+strings.Join(oracleMethods, ","), capture)
	command.Env = []string{"NODE_NAME=node-1"}
	out, err := command.Output()
	if err != nil {
		t.Fatalf("weir replay: %v", err)
	}
	values := testja4.Values{}
	for line := range bytes.Lines(out) {
		var event map[string]any
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		for _, method := range oracleMethods {
			switch value := event[method].(type) {
			case string:
				values.Add(method, value)
			case []any:
				for _, one := range value {
					values.Add(method, one.(string))
				}
			}
		}
	}
	return values
}

// TestOracle compares what events carry with what FoxIO's implementations print for their captures. docs/fingerprints.md has the
// scores.
func TestOracle(t *testing.T) {
	const mirrored = "both directions come the same way through the VXLAN tunnel that is mirrored, and are two connections"
	given := testja4.Differences{mirrored: {
		{Capture: "gre-erspan-vxlan.pcap", Method: "ja4l", Value: "953_64"},
		{Capture: "gre-erspan-vxlan.pcap", Method: "ja4ls", Value: "997_64"},
	}}
	maps.Copy(given, testja4.InERSPAN)
	scores := testja4.Compare(t, oracleMethods, given, func(capture string) testja4.Values { return identified(t, capture) })
	published, err := os.ReadFile("../../docs/fingerprints.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, method := range oracleMethods {
		row := fmt.Sprintf("\n| `%s` | %d of %d |", method, scores[method].Matched, scores[method].Expected)
		if !strings.Contains(string(published), row) {
			t.Errorf("docs/fingerprints.md has no row %s", row[1:])
		}
	}
}
