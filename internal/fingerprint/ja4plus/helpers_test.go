package ja4plus

import (
	"runtime"
	"testing"

	"weir/internal/fingerprint"
)

// costsNoMore runs a method on some bytes, and fails if it allocates more than in proportion to them or tells more.
func costsNoMore(t *testing.T, input []byte, method func([]byte) fingerprint.Fingerprint) {
	t.Helper()
	const factor, fixed = 64, 8 << 10 // the fixed part is for the runtime's own
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f := method(input)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > uint64(factor*len(input)+fixed) {
		t.Errorf("%d bytes allocated for %d", n, len(input))
	}
	if len(f.Value) > 128+8*len(input) || len(f.Raw) > 128+8*len(input) {
		t.Errorf("%d bytes of input told as %d and %d", len(input), len(f.Value), len(f.Raw))
	}
}

func expect(t *testing.T, got, want fingerprint.Fingerprint) {
	t.Helper()
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
