package identify

import (
	"testing"

	"weir/internal/testja4"
)

// TestOracle compares with what FoxIO's own implementations print for their captures, every method through Conversations.
func TestOracle(t *testing.T) {
	methods := []string{"ja4", "ja4s", "ja4h", "ja4x", "ja4t", "ja4ts", "ja4l", "ja4ls", "ja4ssh", "ja4d", "ja4s_r", "ja4h_r", "ja4x_r"}
	on := Methods{}
	for _, method := range methods {
		on[method] = true
	}
	testja4.Compare(t, methods, testja4.InERSPAN, func(capture string) testja4.Values { return sampled(t, capture, on) })
}
